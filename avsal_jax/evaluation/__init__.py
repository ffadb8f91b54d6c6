"""Whole data sets: protocols, the runner, tables, baselines, comparison, published numbers."""
