"""Media files as arrays."""
