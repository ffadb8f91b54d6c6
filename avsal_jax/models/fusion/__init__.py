"""Fusions of picture and sound; each takes a pyramid and tokens and returns a pyramid."""
