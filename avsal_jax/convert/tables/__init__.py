"""Conversions of published checkpoints: a module for each family of files. They import without jax."""
