"""Pixel normalisation: 8-bit RGB to what a network was trained on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.spec.input import Pixels


def normalize_pixels(frames: jax.Array, pixels: Pixels, dtype=jnp.float32) -> jax.Array:
    """Returns RGB values 0..255 as the floats that a network expects: (x / scale - mean) / deviation.

    Args:
      frames: [..., 3], uint8 (or float in the same range 0..255), channel order RGB.
      pixels: the numbers.
      dtype: of the result; the arithmetic is float32.
    """
    shape = (1,) * (frames.ndim - 1) + (3,)
    mean, deviation = (
        np.array(values, np.float32).reshape(shape) for values in (pixels.mean, pixels.deviation)
    )
    return ((frames.astype(jnp.float32) / pixels.scale - mean) / deviation).astype(dtype)
