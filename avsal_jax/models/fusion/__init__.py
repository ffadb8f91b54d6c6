"""Fusions: (pyramid, audio tokens) -> pyramid; see `fusion.Fusion`."""
