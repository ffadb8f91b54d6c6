"""Motion of the camera between two pictures, and what moves otherwise.

An affine map of positions models the camera: pan, zoom, rotation and shear. Gauss-Newton steps fit it on
blurred pictures first, then on sharper ones (inverse compositional Lucas-Kanade). Geman-McClure weights
keep the influence of independently moving things small. A gain and an offset of the whole picture are
fitted too, so that a fade or a new exposure does not pass for motion.

Positions are (row, column) in pixels of the picture, from its centre ((h - 1) / 2, (w - 1) / 2). An affine
map [2, 3] takes a position of `after` to the position of `before` that shows the same thing:

    p_before = affine[:, :2] @ p_after + affine[:, 2]

All functions take leading axes, compute in float32, have a gradient of 0, and lower without custom calls.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEAST_PIXELS = 4  # the least height and width of a picture
LOG_FLOOR = (
    0.02  # luminance; below it the first channel is about linear in the residual, above it logarithmic
)
RELATIVE_FLOOR = 0.004  # luminance, one grey level of 256: coding noise of a static picture counts little

_BLURS = (1 / 16, 1 / 32, 1 / 64)  # standard deviations, of the shorter side
_STEPS = 4  # for each blur
_MOST_POINTS = 1400  # about: 28x48 of a picture of 56x96
_MOST_SHIFT = 0.25  # of the height and of the width
_LEAST_SCALE, _MOST_SCALE, _MOST_SHEAR = 0.8, 1.25, 0.25
_MOST_STEP = 6.0  # pixels, at the centre
_TUNING = 3.0  # residuals of this many weighted mean residuals get a quarter of the full weight
_LEAST_RESIDUAL = 1e-3  # luminance: no scale of the weights is below it
_LEAST_GAIN = 0.5  # steps are not enlarged further where the contrast of the earlier picture is smaller
_LEAST_CONTRAST = 0.2  # of the earlier picture's aligned part, against the later one: less is another scene
_LEAST_IMPROVEMENT = 1e-6  # of the mean cost, which is between 0 and 1: above rounding
_DAMPING = 1e-3  # relative to the diagonal of the normal equations
_LEAST_CURVATURE = 1e-6  # added to the diagonal: mean squared luminance per pixel of motion


class _Points(NamedTuple):
    """Where the pictures are compared; constants of a size.

    Attributes:
      rows, columns: indices of pixels, evenly spaced.
      centre: the row and column of the picture's centre.
      unit: positions from the centre are divided by it in the equations.
    """

    rows: np.ndarray
    columns: np.ndarray
    centre: tuple[float, float]
    unit: float


def fit_affine_camera(before: jax.Array, after: jax.Array) -> jax.Array:
    """Returns the affine map of the camera's motion; the module says of which positions.

    Shifts are below a quarter of the height and of the width, scales between 0.8 and 1.25, shears below
    0.25. The identity is returned where the fit reaches one of these bounds, explains `after` no better
    than the identity does, or finds less than a fifth of its contrast in `before`. This includes all
    constant and all equal pictures, and most cuts to another scene. After other cuts the map has no
    meaning, but is within the bounds.

    Args:
      before: [..., h, w], luminance in [0, 1].
      after: [..., h, w], the later picture.

    Returns:
      float32 [..., 2, 3].

    Raises:
      ValueError: shapes differ, or a side is shorter than `LEAST_PIXELS`.
    """
    before, after = _pair(before, after)
    return _mapped(_fit, before, after)


def warped(picture: jax.Array, affine: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `picture` as the camera sees it after its motion, and which pixels were in the picture.

    Values between pixels are bilinear, values from outside those of the nearest pixel at the border.

    Args:
      picture: [..., h, w], the earlier picture.
      affine: [..., 2, 3], by `fit_affine_camera`.

    Returns:
      float32 [..., h, w], and bool [..., h, w].
    """
    picture, affine = (lax.stop_gradient(jnp.asarray(x, jnp.float32)) for x in (picture, affine))
    return _mapped(_warp, picture, affine)


def motion_residual(before: jax.Array, after: jax.Array) -> jax.Array:
    """Returns |after - warped(before)|: the change of luminance that the camera does not explain; 0 outside.

    A change of brightness is part of it. So is some sharp texture, because bilinear values are smoother.

    Args:
      before: [..., h, w], luminance in [0, 1].
      after: [..., h, w], the later picture.

    Returns:
      float32 [..., h, w].
    """
    before, after = _pair(before, after)
    return _mapped(_residual, before, after)


def motion_channels(now: jax.Array, earlier: jax.Array) -> jax.Array:
    """Returns two channels for each earlier picture: the residual motion, and the same relative to its mean.

    With r = `motion_residual(earlier[l], now)`, blurred by a Gaussian with a standard deviation of 1 pixel
    (that of the 5x5 binomial kernel), and its mean m over the picture:

        channel 2 l      log(1 + r / LOG_FLOOR)
        channel 2 l + 1  log(1 + r / (m + RELATIVE_FLOOR))

    Both are exactly 0 where the pictures are equal.

    Args:
      now: [..., h, w], luminance in [0, 1].
      earlier: [..., L, h, w].

    Returns:
      float32 [..., h, w, 2 * L].
    """
    shape = earlier.shape
    after = jnp.broadcast_to(jnp.expand_dims(now, -3), shape)
    residual = _blurred(motion_residual(earlier, after))
    mean = residual.mean((-2, -1), keepdims=True)
    channels = jnp.stack(
        [jnp.log1p(residual / LOG_FLOOR), jnp.log1p(residual / (mean + RELATIVE_FLOOR))], axis=-3
    )  # [..., L, 2, h, w]
    channels = channels.reshape(*shape[:-3], 2 * shape[-3], *shape[-2:])
    return jnp.moveaxis(channels, -3, -1)


def _pair(before, after):
    if before.shape != after.shape or min(before.shape[-2:]) < LEAST_PIXELS:
        raise ValueError(
            f"camera motion takes two pictures [..., h, w] of equal shape, with h and w of at least "
            f"{LEAST_PIXELS} pixels; got {before.shape}, {after.shape}"
        )
    return tuple(lax.stop_gradient(jnp.asarray(x, jnp.float32)) for x in (before, after))


def _mapped(function, first, second):
    """Applies a function of two matrices to matrices with leading axes."""
    leading = first.shape[:-2]
    if not leading:
        return function(first, second)
    flat = (x.reshape(-1, *x.shape[-2:]) for x in (first, second))
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), jax.vmap(function)(*flat))


def _residual(before, after):
    moved, inside = _warp(before, _fit(before, after))
    return jnp.where(inside, jnp.abs(after - moved), 0.0)


def _warp(picture, affine):
    return _sample(picture, affine, _points(*picture.shape, spacing=1))


def _fit(before, after):
    points = _points(*before.shape, spacing=max(1, round(np.sqrt(before.size / _MOST_POINTS))))
    source, target, equations = _levels(before, after, points)
    texture = jnp.sqrt(equations[:, :1] ** 2 + equations[:, 3:4] ** 2)
    identity = jnp.asarray(np.eye(2, 3), jnp.float32)

    def step(state, level):
        affine, brightness, scale = state
        source, target, equations, texture = level
        change, inside = _change(source, target, affine=affine, points=points)
        size = jnp.abs(change - _brightness_change(brightness, equations))
        weights = inside / (1 + (size / scale) ** 2) ** 2
        normal = lax.dot_general(
            equations * weights,
            jnp.concatenate([equations, change]),
            (((1,), (1,)), ((), ())),
            precision=lax.Precision.HIGHEST,
        )
        solution = _solve(normal / change.size)
        strength = weights * texture
        scale = _TUNING * jnp.maximum((strength * size).sum() / (strength.sum() + 1e-6), _LEAST_RESIDUAL)
        motion = solution[:6] / jnp.maximum(1 + solution[6], _LEAST_GAIN)
        return _composed(affine, motion, points), solution[6:], scale

    def improve(state, level):
        return lax.fori_loop(0, _STEPS, body_fun=lambda _, state: step(state, level), init_val=state), None

    state = (identity, jnp.zeros(2, jnp.float32), jnp.float32(1))
    (affine, brightness, scale), _ = lax.scan(improve, state, (source, target, equations, texture))

    def cost(affine):
        change, inside = _change(source[-1], target[-1], affine=affine, points=points)
        return _cost(change - _brightness_change(brightness, equations[-1]), inside, scale)

    fitted, unmoved = jax.vmap(cost)(jnp.stack([affine, identity]))
    low, high = _bounds(points)
    plausible = ((low < affine) & (affine < high)).all() & (1 + brightness[0] > _LEAST_CONTRAST)
    return jnp.where((fitted < unmoved - _LEAST_IMPROVEMENT) & plausible, affine, identity)


def _points(height: int, width: int, spacing: int) -> _Points:
    rows, columns = (np.arange(spacing // 2, n, spacing).astype(np.float32) for n in (height, width))
    return _Points(rows, columns, centre=((height - 1) / 2, (width - 1) / 2), unit=max(height, width) / 2)


def _levels(before, after, points: _Points):
    """Returns the pictures at three degrees of sharpness, and the equations of each.

    Returns:
      `before` [3, h, w]; `after` at the points [3, 1, points]; its derivatives [3, 8, points]: by six motions
      (shifts of rows by 1, row / unit and column / unit pixels, then of columns), by gain and by offset.
    """
    down, right = (
        np.stack([_blurring(n, sigma * min(before.shape)) for sigma in _BLURS]) for n in before.shape
    )
    source = _sandwich(down, before, right)
    slope_down, slope_right = (
        np.gradient(blur, axis=1)[:, positions.astype(int)]
        for blur, positions in ((down, points.rows), (right, points.columns))
    )
    down, right = down[:, points.rows.astype(int)], right[:, points.columns.astype(int)]
    target = _sandwich(down, after, right)
    slopes = jnp.stack([_sandwich(slope_down, after, right), _sandwich(down, after, slope_right)], axis=1)
    y, x = np.meshgrid(points.rows - points.centre[0], points.columns - points.centre[1], indexing="ij")
    terms = np.stack([np.ones_like(y), y / points.unit, x / points.unit]).astype(np.float32)
    motions = slopes[:, :, None] * terms[None, None]
    target, motions = target.reshape(len(_BLURS), 1, -1), motions.reshape(len(_BLURS), 6, -1)
    brightness = [target - target.mean(-1, keepdims=True), jnp.ones_like(target)]
    return source, target, jnp.concatenate([motions, *brightness], axis=1)


def _blurring(length: int, sigma: float) -> np.ndarray:
    """Returns the matrix [length, length] of a Gaussian blur; its rows sum to 1, also at both ends."""
    distance = np.arange(length)[:, None] - np.arange(length)
    kernel = np.exp(-0.5 * (distance / max(sigma, 0.3)) ** 2)
    return kernel / kernel.sum(1, keepdims=True)


def _blurred(pictures):
    down, right = (_blurring(n, 1.0).astype(np.float32) for n in pictures.shape[-2:])
    pictures = jnp.einsum("ah,...hw->...aw", down, pictures, precision=lax.Precision.HIGHEST)
    return jnp.einsum("...aw,bw->...ab", pictures, right, precision=lax.Precision.HIGHEST)


def _sandwich(left, picture, right):
    """Returns left[i] @ picture @ right[i]^T for all i."""
    left, right = left.astype(np.float32), right.astype(np.float32)
    half = jnp.einsum("kah,hw->kaw", left, picture, precision=lax.Precision.HIGHEST)
    return jnp.einsum("kaw,kbw->kab", half, right, precision=lax.Precision.HIGHEST)


def _change(source, target, affine, points: _Points):
    """Returns what differs after the camera's motion, and 1 for points inside, both [1, points]."""
    moved, inside = _sample(source, affine, points)
    return moved.reshape(1, -1) - target, inside.reshape(1, -1).astype(jnp.float32)


def _brightness_change(brightness, equations):
    return brightness[0] * equations[6:7] + brightness[1]


def _cost(change, inside, scale):
    """Returns the mean Geman-McClure cost of differences over the points inside."""
    squares = (change / scale) ** 2
    return (inside * squares / (1 + squares)).sum() / (inside.sum() + 1e-6)


def _solve(normal):
    """Solves the damped normal equations [8, 9] by Gauss-Jordan elimination; they need no pivoting."""
    count = len(normal)
    diagonal = np.eye(count, count + 1, dtype=np.float32)
    normal = normal + diagonal * (_DAMPING * normal + _LEAST_CURVATURE)

    def eliminate(i, normal):
        pivot = lax.dynamic_slice_in_dim(normal, i, 1, axis=0)
        column = lax.dynamic_slice_in_dim(normal, i, 1, axis=1)
        unit = (jnp.arange(count) == i).astype(jnp.float32).reshape(count, 1)
        return normal - (column - unit) * (pivot / (column * unit).sum())

    normal = lax.fori_loop(0, count, body_fun=eliminate, init_val=normal)
    return normal[:, -1]


def _composed(affine, motion, points: _Points):
    """Returns `affine` after the inverse of a step's motion, within the bounds."""
    step = motion.reshape(2, 3)
    shift = jnp.clip(step[:, :1], -_MOST_STEP, _MOST_STEP)
    matrix = jnp.clip(step[:, 1:] / points.unit, -0.1, 0.1) + np.eye(2, dtype=np.float32)
    adjugate = matrix[::-1, ::-1].T * np.array([[1, -1], [-1, 1]], np.float32)
    linear = _dot(affine[:, :2], adjugate / (matrix[0] * adjugate[:, 0]).sum())
    moved = jnp.concatenate([linear, affine[:, 2:] - _dot(linear, shift)], axis=1)
    return jnp.clip(moved, *_bounds(points))


def _bounds(points: _Points):
    y, x = (_MOST_SHIFT * (2 * centre + 1) for centre in points.centre)
    low = [[_LEAST_SCALE, -_MOST_SHEAR, -y], [-_MOST_SHEAR, _LEAST_SCALE, -x]]
    high = [[_MOST_SCALE, _MOST_SHEAR, y], [_MOST_SHEAR, _MOST_SCALE, x]]
    return np.array(low, np.float32), np.array(high, np.float32)


def _sample(picture, affine, points: _Points):
    """Returns bilinear values of a picture at `affine` of the points, and which are inside.

    XLA may compute a position twice, with and without fused multiply-add. If these results were on two
    sides of a whole number, a pixel would get its neighbour's weight. So the map is rounded to few
    enough bits that all products and sums are exact: to 2^-15 for 96 pixels, an error below 0.002
    pixels.
    """
    height, width = picture.shape
    steps = 2.0 ** (22 - np.ceil(np.log2(max(height, width))))  # of 24 bits; see above
    affine = jnp.round(affine * np.float32(steps)) / np.float32(steps)
    y, x = (points.rows - points.centre[0])[:, None], (points.columns - points.centre[1])[None]
    rows, columns = (
        a[0] * y + a[1] * x + a[2] + centre for a, centre in zip(affine, points.centre, strict=True)
    )
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    top = jnp.clip(jnp.floor(rows), 0, height - 2)
    left = jnp.clip(jnp.floor(columns), 0, width - 2)
    down, right = jnp.clip(rows - top, 0, 1), jnp.clip(columns - left, 0, 1)
    index = (top * width + left).astype(jnp.int32)[None] + np.array([0, 1, width, width + 1])[:, None, None]
    corners = picture.reshape(-1).at[index].get(mode="promise_in_bounds")
    upper = (1 - right) * corners[0] + right * corners[1]  # exact where `right` is 0 or 1
    lower = (1 - right) * corners[2] + right * corners[3]
    return (1 - down) * upper + down * lower, inside


def _dot(a, b):
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST)
