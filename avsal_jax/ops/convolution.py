"""Convolutions (3-D, transposed, of single frames), and the one place that picks how they are lowered.

XLA's CPU backend runs 2-D convolutions several times faster than 3-D ones. So a kernel without
temporal extent folds time into the batch, a kernel without spatial extent becomes a 2-D convolution
over (time, pixels), and a full kernel puts its temporal taps into the channels. Weight gradients on
CPU are XLA's for these 2-D convolutions, or a few matrix products of shifted slices where those are
faster: for kernels without spatial extent, and for spatial kernels with many input channels. The depthwise
form is in `ops.depthwise`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

LOWERINGS = ("auto", "folded", "direct")
_DIMENSIONS_2D = ("NHWC", "HWIO", "NHWC")
_DIMENSIONS_3D = ("NDHWC", "DHWIO", "NDHWC")
_WIDE = 64  # input channels from which matrix products beat XLA's weight gradient of a spatial kernel


class _Geometry(NamedTuple):
    """Static arguments while tracing; hashable."""

    stride: tuple[int, int, int]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, int, int]
    lowering: str


def conv3d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple = (0, 0, 0),
    dilation: tuple[int, int, int] = (1, 1, 1),
    lowering: str = "auto",
) -> jax.Array:
    """Returns the cross-correlation of `x` with `kernel`, as torch's Conv3d without bias.

    Args:
      x: [B, T, H, W, I].
      kernel: [kt, kh, kw, I, O].
      stride: steps in time, height, width.
      padding: zeros on both sides of time, height, width; each an int or a pair (low, high).
      dilation: spacing of the taps; only the spatial ones may differ from 1.
      lowering: `folded` (2-D convolutions), `direct` (one 3-D convolution), or `auto`: separable
        kernels are folded everywhere, full kernels on CPU only.

    Returns:
      [B, T', H', W', O] with T' = (T + pads - kt) // stride + 1, and so on.

    Raises:
      ValueError: ranks or channels do not fit, temporal dilation, or an unknown lowering.
    """
    if x.ndim != 5 or kernel.ndim != 5 or x.shape[-1] != kernel.shape[3]:
        raise ValueError(
            f"conv3d takes x [B,T,H,W,I] and kernel [kt,kh,kw,I,O]; got {x.shape}, {kernel.shape}"
        )
    if dilation[0] != 1:
        raise ValueError(f"conv3d dilates in space only; got dilation {dilation}")
    if lowering not in LOWERINGS:
        raise ValueError(f"lowering {lowering!r} is not one of {', '.join(LOWERINGS)}")
    pads = tuple((p, p) if isinstance(p, int) else tuple(p) for p in padding)
    return _conv(
        x, kernel, _Geometry(tuple(stride), padding=pads, dilation=tuple(dilation), lowering=lowering)
    )


def conv_transpose3d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[int, int, int] = (0, 0, 0),
    lowering: str = "auto",
) -> jax.Array:
    """Returns the transposed convolution of torch's ConvTranspose3d without bias.

    Args:
      x: [B, T, H, W, I].
      kernel: [kt, kh, kw, I, O], i.e. torch's (I, O, kt, kh, kw) moved by (2, 3, 4, 0, 1), unflipped.
      stride: factors of enlargement in time, height, width.
      padding: torch's `padding`: how much the full result is cropped on both sides.
      lowering: as of `conv3d`, where the strides are 1 and this is a plain convolution; else of no effect.

    Returns:
      [B, T', H', W', O] with T' = (T - 1) * stride - 2 * padding + kt, and so on.
    """
    pads = tuple((k - 1 - p, k - 1 - p) for k, p in zip(kernel.shape[:3], padding, strict=True))
    flipped = jnp.flip(kernel, (0, 1, 2))
    if tuple(stride) == (1, 1, 1) and min(map(min, pads)) >= 0:  # a plain convolution
        return conv3d(x, flipped, padding=pads, lowering=lowering)
    b, t = x.shape[:2]
    if kernel.shape[0] == 1 and stride[0] == 1 and padding[0] == 0:  # time joins the batch
        y = lax.conv_general_dilated(
            x.reshape(b * t, *x.shape[2:]),
            flipped[0],
            window_strides=(1, 1),
            padding=pads[1:],
            lhs_dilation=stride[1:],
            dimension_numbers=_DIMENSIONS_2D,
        )
        return y.reshape(b, t, *y.shape[1:])
    return lax.conv_general_dilated(
        x,
        flipped,
        window_strides=(1, 1, 1),
        padding=pads,
        lhs_dilation=stride,
        dimension_numbers=_DIMENSIONS_3D,
    )


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
) -> jax.Array:
    """Returns the cross-correlation of single frames with `kernel`, as torch's Conv2d without bias.

    A kernel of size 1 with stride 1 is a matrix product on every device.

    Args:
      x: [..., H, W, I].
      kernel: [kh, kw, I, O].
      stride: steps in height and width.
      padding: zeros (before, after) in height and width.

    Returns:
      [..., H', W', O] with H' = (H + pads - kh) // stride + 1, and so on.

    Raises:
      ValueError: ranks or channels that do not fit.
    """
    if x.ndim < 3 or kernel.ndim != 4 or x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"conv2d takes x [...,H,W,I] and kernel [kh,kw,I,O]; got {x.shape}, {kernel.shape}")
    if kernel.shape[:2] == (1, 1) and tuple(stride) == (1, 1) and not any(map(any, padding)):
        return jnp.einsum("...i,io->...o", x, kernel[0, 0])
    y = _conv2d(x.reshape(-1, *x.shape[-3:]), kernel=kernel, stride=stride, padding=padding)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, g: _Geometry):
    return _forward(x, kernel, g)


def _conv_fwd(x, kernel, g):
    return _forward(x, kernel, g), (x, kernel)


def _conv_bwd(g, residuals, dy):
    x, kernel = residuals
    dx = _input_gradient(x, kernel=kernel, dy=dy, g=g)
    if g.lowering == "folded":
        return dx, _kernel_gradient_folded(x, kernel=kernel, dy=dy, g=g)
    if g.lowering == "direct":
        return dx, _kernel_gradient_xla(x, kernel=kernel, dy=dy, g=g)
    dk = lax.platform_dependent(
        x,
        kernel,
        dy,
        cpu=functools.partial(_kernel_gradient_folded, g=g),
        default=functools.partial(_kernel_gradient_xla, g=g),
    )
    return dx, dk


_conv.defvjp(_conv_fwd, _conv_bwd)


def _forward(x, kernel, g: _Geometry):
    separable = kernel.shape[0] == 1 or kernel.shape[1:3] == (1, 1)
    if g.lowering == "folded" or (g.lowering == "auto" and separable):
        return _folded(x, kernel, g)
    if g.lowering == "direct":
        return _direct(x, kernel, g)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_folded, g=g),
        default=functools.partial(_direct, g=g),
    )


def _direct(x, kernel, g: _Geometry):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=g.stride,
        padding=g.padding,
        rhs_dilation=g.dilation,
        dimension_numbers=_DIMENSIONS_3D,
    )


def _conv2d(x, kernel, stride, padding, dilation=(1, 1)):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=stride,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=_DIMENSIONS_2D,
    )


def _folded(x, kernel, g: _Geometry):
    """The same convolution by 2-D convolutions and matrix products."""
    kt, kh, kw, _, out = kernel.shape
    pointwise = _is_pointwise(kernel, g)
    if pointwise and kt > 1 and not (g.stride[0] == kt and not any(g.padding[0])):
        b, t, h, w, c = x.shape
        y = _conv2d(
            x.reshape(b, t, h * w, c),
            kernel=kernel[:, 0],
            stride=(g.stride[0], 1),
            padding=(g.padding[0], (0, 0)),
        )
        return y.reshape(b, y.shape[1], h, w, out)

    taps = _time_slices(x, kt, g)  # kt arrays [B, T', H, W, I]
    b, t = taps[0].shape[:2]
    if pointwise:
        return sum(jnp.einsum("bthwi,io->bthwo", s, kernel[k, 0, 0]) for k, s in enumerate(taps))
    folded = jnp.concatenate(taps, -1) if kt > 1 else taps[0]  # [B, T', H, W, kt * I]
    kernel2d = jnp.moveaxis(kernel, 0, 2).reshape(kh, kw, -1, out)
    y = _conv2d(
        folded.reshape(b * t, *folded.shape[2:]),
        kernel=kernel2d,
        stride=g.stride[1:],
        padding=g.padding[1:],
        dilation=g.dilation[1:],
    )
    return y.reshape(b, t, *y.shape[1:])


def _is_pointwise(kernel, g: _Geometry) -> bool:
    """Whether an output depends on one pixel, of one or several frames."""
    return kernel.shape[1:3] == (1, 1) and g.stride[1:] == (1, 1) and not any(map(any, g.padding[1:]))


def _time_slices(x, kt: int, g: _Geometry):
    """Returns for each temporal tap the input frames that it meets: kt arrays [B, T', H, W, I]."""
    if any(g.padding[0]):
        x = jnp.pad(x, ((0, 0), g.padding[0], (0, 0), (0, 0), (0, 0)))
    count = (x.shape[1] - kt) // g.stride[0] + 1
    return [lax.slice_in_dim(x, k, k + (count - 1) * g.stride[0] + 1, g.stride[0], axis=1) for k in range(kt)]


def _input_gradient(x, kernel, dy, g: _Geometry):
    """The gradient with respect to the input."""

    def transposed(kernel, dy):
        _, pull = jax.vjp(lambda v: _forward(v, kernel, g), x)
        return pull(dy)[0]

    if not _is_pointwise(kernel, g) or g.stride[0] == 1 or g.lowering == "direct":
        return transposed(kernel, dy)
    by_phases = functools.partial(_input_gradient_by_phases, length=x.shape[1], g=g)
    if g.lowering == "folded":
        return by_phases(kernel, dy)
    return lax.platform_dependent(kernel, dy, cpu=by_phases, default=transposed)


def _input_gradient_by_phases(kernel, dy, length: int, g: _Geometry):
    """The same for a temporal kernel with a stride: a convolution for each phase of the stride.

    Frame t of the padded input meets the taps t % stride, t % stride + stride, ... XLA's transposed
    convolution puts zeros between the frames of `dy` instead, and is several times as slow on CPU.
    """
    stride, low = g.stride[0], g.padding[0][0]
    b, count, h, w, out = dy.shape
    blocks, phases = -(-(low + length) // stride), []
    for phase in range(stride):
        taps = jnp.flip(kernel[phase::stride, 0, 0], 0).swapaxes(1, 2)  # [taps, O, I]
        if not len(taps):
            phases.append(jnp.zeros((b, blocks, h * w, kernel.shape[3]), dy.dtype))
            continue
        pads = (len(taps) - 1, blocks - count)
        flat = dy.reshape(b, count, h * w, out)
        phases.append(_conv2d(flat, kernel=taps[:, None], stride=(1, 1), padding=(pads, (0, 0))))
    frames = jnp.stack(phases, 2).reshape(b, blocks * stride, h, w, -1)
    return frames[:, low : low + length]


def _kernel_gradient_xla(x, kernel, dy, g: _Geometry, lowering: str = "direct"):
    _, pull = jax.vjp(lambda k: _forward(x, k, g._replace(lowering=lowering)), kernel)
    return pull(dy)[0]


def _kernel_gradient_folded(x, kernel, dy, g: _Geometry):
    """The gradient with respect to the kernel, by whichever form is fastest on CPU."""
    kt, kh, kw, cin, _ = kernel.shape
    if (kh, kw) == (1, 1) or (kt == 1 and cin >= _WIDE):
        return _kernel_gradient_products(x, kernel=kernel, dy=dy, g=g)
    return _kernel_gradient_xla(x, kernel=kernel, dy=dy, g=g, lowering="folded")


def _kernel_gradient_products(x, kernel, dy, g: _Geometry):
    """For every tap in time and height: the input shifted by every tap in width, times `dy`."""
    kt, kh, kw, cin, cout = kernel.shape
    _, t, h, w, _ = dy.shape

    def shifted(v, axis, begin, count):
        stride = g.stride[axis - 1]
        return lax.slice_in_dim(v, begin, begin + (count - 1) * stride + 1, stride, axis=axis)

    padded = jnp.pad(x, ((0, 0), *g.padding, (0, 0)))
    columns = jnp.concatenate(
        [shifted(padded, axis=3, begin=k * g.dilation[2], count=w) for k in range(kw)], -1
    )
    flat_dy = dy.reshape(-1, cout)
    products = []
    for at in range(kt):
        frames = shifted(columns, axis=1, begin=at, count=t)
        for ah in range(kh):
            piece = shifted(frames, axis=2, begin=ah * g.dilation[1], count=h)  # [B, T', H', W', kw * I]
            products.append(piece.reshape(-1, kw * cin).T @ flat_dy)
    return jnp.stack(products).reshape(kernel.shape).astype(kernel.dtype)
