"""Small models, generated videos and golden helpers, for our tests and our users'."""

import sys

# `avsal` in a process of its own, with the small parts that tests use.
COMMAND = (sys.executable, "-m", "avsal_jax.testing.command")
