"""Regulators: (visual pyramid, pyramid after the fusion) -> pyramid that the heads read."""
