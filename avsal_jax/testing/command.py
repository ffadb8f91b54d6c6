"""`python -m avsal_jax.testing.command ...` is `avsal ...` that knows the small network of tests too."""

import sys

from avsal_jax.cli.main import main
from avsal_jax.testing.parts import small_parts

if __name__ == "__main__":
    with small_parts():
        sys.exit(main())
