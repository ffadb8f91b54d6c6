"""Necks: what happens to each level of the pyramid before fusion."""
