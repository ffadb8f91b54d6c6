"""Max and average pooling over time, height and width with explicit pads.

A window is reduced one axis at a time by shifted slices: the gradient of a slice-wise maximum
avoids XLA's select-and-scatter, which is slow on CPU. At ties the gradient is shared by the tied
elements, where `reduce_window` gives it all to one; the sums agree.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def max_pool3d(
    x: jax.Array,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: tuple[int, int, int] = (0, 0, 0),
) -> jax.Array:
    """Returns the maxima over windows, as torch's MaxPool3d (floor mode, padded by -inf).

    Args:
      x: [B, T, H, W, C], floating.
      window, stride, padding: sizes in time, height, width; padding on both sides.

    Returns:
      [B, T', H', W', C] with T' = (T + 2 * padding - window) // stride + 1, and so on.
    """
    return _pool(x, window=window, stride=stride, padding=padding, reduce=jnp.maximum, neutral=-jnp.inf)


def avg_pool3d(
    x: jax.Array,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: tuple[int, int, int] = (0, 0, 0),
    *,
    count_include_pad: bool = True,
) -> jax.Array:
    """Returns the means over windows, as torch's AvgPool3d (floor mode).

    Args:
      x: [B, T, H, W, C], floating.
      window, stride, padding: sizes in time, height, width; padding on both sides.
      count_include_pad: whether padded zeros count as elements of a window.

    Returns:
      [B, T', H', W', C].
    """
    total = _pool(x, window=window, stride=stride, padding=padding, reduce=jnp.add, neutral=0.0)
    if count_include_pad:
        return total / (window[0] * window[1] * window[2])
    ones = jnp.ones((1, *x.shape[1:4], 1), x.dtype)
    return total / _pool(ones, window=window, stride=stride, padding=padding, reduce=jnp.add, neutral=0.0)


def _pool(x, window, stride, padding, reduce, neutral):
    if x.ndim != 5:
        raise ValueError(f"pooling takes x [B,T,H,W,C]; got shape {x.shape}")
    for axis, k, s, p in zip((1, 2, 3), window, stride, padding, strict=True):
        if 2 * p > k:
            raise ValueError(f"padding {padding} is more than half of the window {window}")
        if k == 1 and s == 1:
            continue
        if p:
            pads = [(0, 0)] * 5
            pads[axis] = (p, p)
            x = jnp.pad(x, pads, constant_values=neutral)
        count = (x.shape[axis] - k) // s + 1
        if count < 1:
            raise ValueError(f"window {window} is larger than the padded input {x.shape}")
        parts = [lax.slice_in_dim(x, i, i + (count - 1) * s + 1, s, axis=axis) for i in range(k)]
        x = parts[0]
        for part in parts[1:]:
            x = reduce(x, part)
    return x
