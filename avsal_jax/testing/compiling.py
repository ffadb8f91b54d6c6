"""How XLA compiles programs that run once or twice, as those of the tests do."""

import os


def optimise_little() -> None:
    """Makes XLA leave its expensive passes out, unless XLA_FLAGS is set; call it before computing."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ.setdefault("XLA_FLAGS", flags)
