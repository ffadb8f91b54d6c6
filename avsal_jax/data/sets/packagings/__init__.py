"""Packagings: a class for each layout of a data set on disk."""
