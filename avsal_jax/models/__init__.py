"""The one network, its parts, and the systems of the papers as presets."""
