"""What metrics accept: checks of maps and fixations, and the way from batches to single frames."""

from __future__ import annotations

import sys

import numpy as np

from avsal_jax.errors import AvsalError


def is_jax(*arrays) -> bool:
    """Whether an argument is a JAX array or tracer; does not import jax."""
    jax = sys.modules.get("jax")
    return jax is not None and any(isinstance(array, jax.Array) for array in arrays)


def as_maps(name: str, maps) -> np.ndarray:
    """Returns `maps` as an array of real numbers [..., H, W], or raises AvsalError."""
    if is_jax(maps):
        import jax

        if isinstance(maps, jax.core.Tracer):
            raise AvsalError(f"{name} is traced by jax; under jit only cc, sim, kl and nss work")
    maps = np.asarray(maps)
    _check(name, maps, maps.dtype.kind in "buif")
    return maps


def _check(name, maps, real):
    if not real:
        raise AvsalError(f"{name} must hold real numbers (bool, integer, float); got {maps.dtype}")
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise AvsalError(f"{name} must be maps [..., H, W]; got shape {maps.shape}")


def as_fixations(fixations) -> np.ndarray:
    """Returns fixations as bool [..., H, W]: every pixel above 0, once."""
    fixations = as_maps("fixations", fixations)
    if fixations.dtype.kind == "f" and np.any(fixations != np.floor(fixations)):
        raise AvsalError(
            "fixations must be 0 or a whole number at each pixel; these have fractions or NaN, as densities "
            "have: give the fixation map"
        )
    return fixations > 0


def same_batch(name: str, maps, other_name: str, other, *, sizes: bool = False) -> None:
    """Raises AvsalError unless both have the same leading axes, and with `sizes` the same H and W."""
    end = None if sizes else -2
    if maps.shape[:end] != other.shape[:end]:
        what = "the same shape (resize them first)" if sizes else "the same axes before H and W"
        raise AvsalError(f"{name} {maps.shape} and {other_name} {other.shape} must have {what}")


def tolerance(dtype) -> float:
    """The spread, over the largest magnitude, up to which a map of this type counts as constant.

    It is a few roundings: a blurred constant map is off by some, and CC or NSS would measure just these.
    """
    if dtype.kind in "bui":
        dtype = np.dtype(np.float64)
    return min(32 * _epsilon(dtype), 0.01)


def _epsilon(dtype) -> float:
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    import jax.numpy as jnp  # bfloat16, which only JAX arrays have

    return float(jnp.finfo(dtype).eps)


def check_jax_maps(name: str, maps) -> None:
    """Raises AvsalError unless `maps`, a JAX array, holds real numbers [..., H, W]."""
    import jax.numpy as jnp

    _check(name, maps, maps.dtype == bool or jnp.isdtype(maps.dtype, ("integral", "real floating")))
