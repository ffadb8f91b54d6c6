"""Gaussian blur of maps with OpenCV's kernel and border, which the public code uses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# OpenCV replaces the sampled Gaussian by these when it derives sigma from a small size itself.
_SMALL = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
}


def gaussian_kernel(size: int, sigma: float = 0.0) -> np.ndarray:
    """Returns the 1-D kernel of `cv2.getGaussianKernel(size, sigma)`, float64 [size].

    Args:
      size: odd number of taps.
      sigma: standard deviation in pixels; 0 derives it as OpenCV does,
        0.3 * ((size - 1) / 2 - 1) + 0.8.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"the size of a Gaussian kernel is odd and positive; got {size}")
    if sigma <= 0 and size in _SMALL:
        return np.array(_SMALL[size])
    sigma = sigma if sigma > 0 else 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    x = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def gaussian_blur(maps: jax.Array, size: int, sigma: float = 0.0) -> jax.Array:
    """Returns `maps` [..., H, W] blurred as `cv2.GaussianBlur(map, (size, size), sigma)`.

    The border is reflected without repeating the edge pixel (OpenCV's default, reflect-101).
    """
    kernel = gaussian_kernel(size, sigma)
    half = size // 2
    for axis in (maps.ndim - 2, maps.ndim - 1):
        if half >= maps.shape[axis]:
            raise ValueError(f"a map of shape {maps.shape} is too small for a blur of {size} pixels")
        pads = [(0, 0)] * maps.ndim
        pads[axis] = (half, half)
        padded = jnp.pad(maps, pads, mode="reflect")
        n = maps.shape[axis]
        maps = sum(
            float(weight) * jax.lax.slice_in_dim(padded, i, i + n, axis=axis)
            for i, weight in enumerate(kernel)
        )
    return maps
