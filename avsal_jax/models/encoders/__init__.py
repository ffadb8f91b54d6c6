"""Encoders: picture or sound -> features."""
