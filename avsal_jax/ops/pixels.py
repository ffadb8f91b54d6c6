"""Pixel normalisation: 8-bit RGB to what a network was trained on."""

from __future__ import annotations

import typing

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.specs import PixelNorm

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize_pixels(frames: jax.Array, pixel_norm: str, dtype=jnp.float32) -> jax.Array:
    """Returns RGB values 0..255 as the floats that a network expects.

    Args:
      frames: [..., 3], uint8 (or float in the same range 0..255), channel order RGB.
      pixel_norm: `imagenet`: (x / 255 - mean) / std, as ViNet feeds S3D; `signed`:
        (2 x - 255) / 255 in [-1, 1], as S3D was trained.
      dtype: of the result; the arithmetic is float32.

    Raises:
      ValueError: for another `pixel_norm`.
    """
    x = frames.astype(jnp.float32)
    if pixel_norm == "imagenet":
        shape = (1,) * (frames.ndim - 1) + (3,)
        x = (x / 255 - _IMAGENET_MEAN.reshape(shape)) / _IMAGENET_STD.reshape(shape)
    elif pixel_norm == "signed":
        x = (2 * x - 255) / 255
    else:
        raise ValueError(f"pixel_norm {pixel_norm!r} is not one of {', '.join(typing.get_args(PixelNorm))}")
    return x.astype(dtype)
