"""Moved to `avsal_jax.data.prepared.pipeline`; this path goes with the next version."""

from avsal_jax.contents import moved

__getattr__ = moved(__name__, "avsal_jax.data.prepared.pipeline")
