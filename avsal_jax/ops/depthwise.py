"""Depthwise convolution of single frames: each channel has its own kernel.

XLA's CPU backend runs grouped convolutions one channel at a time. So it is given a sum of shifted slices
times the taps instead, and other backends one grouped convolution. The gradients follow the same choice.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from avsal_jax.ops.convolution import LOWERINGS

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def depthwise_conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    lowering: str = "auto",
) -> jax.Array:
    """Returns the cross-correlation of each channel with its own kernel, as torch's Conv2d of `groups` = C.

    Args:
      x: [..., H, W, C].
      kernel: [kh, kw, C].
      stride: steps in height and width.
      padding: zeros (before, after) in height and width; see `same_padding`.
      lowering: `folded` (shifted slices times the taps, added up in float32 or better), `direct` (one grouped
        convolution, which exports and accelerators take), or `auto`: folded on CPU, direct elsewhere.

    Returns:
      [..., H', W', C] with H' = (H + pads - kh) // stride + 1, and so on.

    Raises:
      ValueError: ranks or channels that do not fit, a kernel larger than the padded frame, or an unknown
        lowering.
    """
    if x.ndim < 3 or kernel.ndim != 3 or x.shape[-1] != kernel.shape[-1]:
        raise ValueError(
            f"depthwise_conv2d takes x [...,H,W,C] and kernel [kh,kw,C]; got {x.shape}, {kernel.shape}"
        )
    if lowering not in LOWERINGS:
        raise ValueError(f"lowering {lowering!r} is not one of {', '.join(LOWERINGS)}")
    sizes = [n + sum(pads) for n, pads in zip(x.shape[-3:-1], padding, strict=True)]
    if any(k > n for k, n in zip(kernel.shape, sizes, strict=False)):
        raise ValueError(f"the kernel {kernel.shape[:2]} is larger than the padded frame {tuple(sizes)}")
    g = _FrameGeometry(tuple(stride), padding=tuple(map(tuple, padding)), lowering=lowering)
    y = _depthwise(x.reshape(-1, *x.shape[-3:]), kernel, g)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the zeros (before, after) an axis of `size` by TensorFlow's rule SAME.

    The result has ceil(size / stride) values; of an odd number of zeros the larger half comes after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _FrameGeometry(NamedTuple):
    """What does not change while a convolution of single frames is traced; hashable."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], ...]
    lowering: str


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x, kernel, g: _FrameGeometry):
    return _by_platform(_depthwise_folded, _depthwise_grouped, g)(x, kernel)


def _depthwise_fwd(x, kernel, g):
    return _depthwise(x, kernel, g), (x, kernel)


def _depthwise_bwd(g, residuals, dy):
    return _by_platform(_depthwise_gradients_folded, _depthwise_gradients_grouped, g)(*residuals, dy)


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


def _by_platform(folded, grouped, g: _FrameGeometry):
    """Returns the function that `g.lowering` names, or one that chooses by the platform."""
    folded, grouped = functools.partial(folded, g=g), functools.partial(grouped, g=g)
    if g.lowering == "auto":
        return functools.partial(lax.platform_dependent, cpu=folded, default=grouped)
    return folded if g.lowering == "folded" else grouped


def _depthwise_grouped(x, kernel, g: _FrameGeometry):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        window_strides=g.stride,
        padding=g.padding,
        dimension_numbers=_DIMENSIONS,
        feature_group_count=x.shape[-1],
    )


def _depthwise_gradients_grouped(x, kernel, dy, g: _FrameGeometry):
    _, pull = jax.vjp(functools.partial(_depthwise_grouped, g=g), x, kernel)
    return pull(dy)


def _depthwise_folded(x, kernel, g: _FrameGeometry):
    taps = _wide(kernel)
    total = sum(
        _wide(piece) * taps[i, j][None, None, None] for (i, j), piece in _frame_slices(x, kernel.shape, g)
    )
    return total.astype(x.dtype)


def _depthwise_gradients_folded(x, kernel, dy, g: _FrameGeometry):
    dx = _depthwise_input_gradient(dy, kernel=kernel, size=x.shape[1:3], g=g)
    return dx, _depthwise_kernel_gradient(x, kernel=kernel, dy=dy, g=g)


def _depthwise_kernel_gradient(x, kernel, dy, g: _FrameGeometry):
    """The gradient of the kernel, a tap at a time in a loop, which compiles in half the time of its taps."""
    columns, (sh, sw) = kernel.shape[1], g.stride
    n, h, w, channels = dy.shape
    padded, wide = _padded(x, g), _wide(dy)

    def tap_gradient(tap):
        begin = (0, tap // columns, tap % columns, 0)
        piece = lax.dynamic_slice(padded, begin, (n, (h - 1) * sh + 1, (w - 1) * sw + 1, channels))
        products = (_wide(piece[:, ::sh, ::sw]) * wide).reshape(-1, channels)
        return jnp.ones(len(products), products.dtype) @ products  # the sum of rows; XLA's is slower on CPU

    taps = lax.map(tap_gradient, jnp.arange(kernel.shape[0] * columns))
    return taps.reshape(kernel.shape).astype(kernel.dtype)


def _depthwise_input_gradient(dy, kernel, size: tuple[int, int], g: _FrameGeometry):
    """The gradient of the input, for each phase of the stride a sum of shifted slices of `dy`.

    XLA's own, a sum of dilated arrays, is up to ten times slower. Input row r = q * stride + phase meets tap
    i in output row q + (phase + pad - i) / stride, where that is whole.
    """
    n, *out, channels = dy.shape
    counts = [-(-n // s) for n, s in zip(size, g.stride, strict=True)]  # rows and columns of a phase
    low, high = [], []
    for axis, (s, (pad, _)) in enumerate(zip(g.stride, g.padding, strict=True)):
        low.append(max(0, -((pad - kernel.shape[axis] + 1) // s)))
        high.append(max(0, counts[axis] + (s - 1 + pad) // s - out[axis]))
    padded = jnp.pad(dy, ((0, 0), (low[0], high[0]), (low[1], high[1]), (0, 0)))
    padded, taps = _wide(lax.optimization_barrier(padded)), _wide(kernel)

    def places(axis: int, phase: int):
        """Yields (tap, begin of the slice of `padded`)."""
        s, pad = g.stride[axis], g.padding[axis][0]
        for tap in range((phase + pad) % s, kernel.shape[axis], s):
            yield tap, low[axis] + (phase + pad - tap) // s

    def phase_sum(rows: int, columns: int):
        total = jnp.zeros((n, *counts, channels), padded.dtype)
        for i, top in places(0, rows):
            for j, left in places(1, columns):
                piece = padded[:, top : top + counts[0], left : left + counts[1]]
                total = total + piece * taps[i, j][None, None, None]
        return total

    phases = [[phase_sum(a, b) for b in range(g.stride[1])] for a in range(g.stride[0])]
    dx = jnp.stack([jnp.stack(line, 3) for line in phases], 2)  # [N, rows, sh, columns, sw, C]
    dx = dx.reshape(n, counts[0] * g.stride[0], counts[1] * g.stride[1], channels)
    return dx[:, : size[0], : size[1]].astype(dy.dtype)


def _frame_slices(x, kernel_shape, g: _FrameGeometry):
    """Yields for each tap ((row, column), the values of `x` [N, H', W', C] that it meets)."""
    kh, kw = kernel_shape[:2]
    padded = _padded(x, g)
    n, h, w, channels = padded.shape
    (sh, sw), rows, columns = g.stride, (h - kh) // g.stride[0], (w - kw) // g.stride[1]
    for i in range(kh):
        for j in range(kw):
            end = (n, i + rows * sh + 1, j + columns * sw + 1, channels)
            yield (
                (i, j),
                lax.slice(padded, start_indices=(0, i, j, 0), limit_indices=end, strides=(1, sh, sw, 1)),
            )


def _padded(x, g: _FrameGeometry):
    """Returns `x` with its zeros as an array of its own; else every tap would pad again."""
    return lax.optimization_barrier(jnp.pad(x, ((0, 0), *g.padding, (0, 0))))


def _wide(x):
    """Returns `x` in the type that sums are taken in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
