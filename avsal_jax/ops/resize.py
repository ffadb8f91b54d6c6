"""Linear resizing as PyTorch's `interpolate`: both `align_corners`, never antialiased."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def resize_linear(x: jax.Array, size: tuple[int, ...], *, align_corners: bool = False) -> jax.Array:
    """Returns `x` resized by linear interpolation along the axes before the channels.

    With three sizes this is torch's trilinear mode over (T, H, W), with two its bilinear mode over
    (H, W), with one its linear mode.

    Args:
      x: [..., *spatial, C]; as many spatial axes as `size` has entries.
      size: the new lengths of those axes.
      align_corners: whether the centres of the corner elements coincide (torch's flag), or their
        outer edges do (the default there and here).

    Returns:
      [..., *size, C].
    """
    first = x.ndim - 1 - len(size)
    if first < 0:
        raise ValueError(f"cannot resize shape {x.shape} to {size}: too few axes")
    for axis, n in enumerate(size, start=first):
        old = x.shape[axis]
        if n == old:
            continue
        if not align_corners and n == 2 * old:
            x = _double(x, axis)
        elif align_corners:
            x = _resize_aligned(x, n, axis)
        else:
            shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])
            x = jax.image.resize(x, shape, "linear", antialias=False)
    return x


def _double(x, axis: int):
    """Doubles one axis by shifts: the weights of half-pixel centres are 1/4 and 3/4."""
    n = x.shape[axis]
    before = jnp.concatenate(
        [jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)], axis
    )
    after = jnp.concatenate(
        [jax.lax.slice_in_dim(x, 1, n, axis=axis), jax.lax.slice_in_dim(x, n - 1, n, axis=axis)], axis
    )
    pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    return pair.reshape((*x.shape[:axis], 2 * n, *x.shape[axis + 1 :]))


def _resize_aligned(x, n: int, axis: int):
    old = x.shape[axis]
    if n == 1 or old == 1:  # torch takes the first element
        return jnp.repeat(jax.lax.slice_in_dim(x, 0, 1, axis=axis), n, axis)
    scale = (n - 1) / (old - 1)
    return jax.image.scale_and_translate(
        x,
        (*x.shape[:axis], n, *x.shape[axis + 1 :]),
        (axis,),
        jnp.array([scale], jnp.float32),
        jnp.array([0.5 * (1 - scale)], jnp.float32),
        method="linear",
        antialias=False,
    )
