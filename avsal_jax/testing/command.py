"""`python -m avsal_jax.testing.command ...` is `avsal ...` with the small network of tests registered."""

import sys

from avsal_jax.cli.main import main
from avsal_jax.testing.parts import small_parts

if __name__ == "__main__":
    with small_parts():
        sys.exit(main())
