"""Video, sound and data sets as arrays; knows no jax."""
