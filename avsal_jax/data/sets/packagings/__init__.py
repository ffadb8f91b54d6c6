"""Packagings: how the files of a data set lie on disk, a class for each."""
