"""Motion of the camera between two pictures in PyTorch: the peer of `avsal_jax.ops.camera_motion`.

Written for the benchmark. All pictures of a batch are fitted together, LAPACK solves the normal equations,
and `grid_sample` computes values between pixels.
"""

import math

import numpy as np
import torch
from torch.nn import functional

LOG_FLOOR, RELATIVE_FLOOR = 0.02, 0.004
_BLURS = (1 / 16, 1 / 32, 1 / 64)
_STEPS = 4
_MOST_POINTS = 1400
_LOW, _HIGH = ((0.8, -0.25), (-0.25, 0.8)), ((1.25, 0.25), (0.25, 1.25))
_MOST_SHIFT, _MOST_STEP = 0.25, 6.0
_TUNING, _LEAST_RESIDUAL, _LEAST_GAIN, _LEAST_CONTRAST = 3.0, 1e-3, 0.5, 0.2
_LEAST_IMPROVEMENT, _DAMPING, _LEAST_CURVATURE = 1e-6, 1e-3, 1e-6


@torch.no_grad()
def motion_channels(now, earlier, size):
    """Returns [B, 2 * L, h, w] of the luminance now [B, h, w] and of earlier pictures [B, L, h, w].

    Args:
      now, earlier: pictures.
      size: `PictureSize(h, w)`.
    """
    batch, lags, height, width = earlier.shape
    before = earlier.flatten(0, 1)
    after = now[:, None].expand_as(earlier).flatten(0, 1)
    moved, inside = _sample(before, _fit(before, after, size), size.pixels)
    residual = torch.where(inside, (after - moved).abs(), 0.0)
    residual = size.down1 @ residual @ size.right1.T
    mean = residual.mean((1, 2), keepdim=True)
    channels = [torch.log1p(residual / LOG_FLOOR), torch.log1p(residual / (mean + RELATIVE_FLOOR))]
    return torch.stack(channels, 1).view(batch, 2 * lags, height, width)


class _Grid:
    """Positions of a picture that are compared.

    Attributes:
      y, x: from the centre, [rows, 1] and [1, columns].
    """

    def __init__(self, height, width, spacing):
        self.rows, self.columns = (np.arange(spacing // 2, n, spacing) for n in (height, width))
        self.centre = ((height - 1) / 2, (width - 1) / 2)
        self.y = torch.tensor(self.rows - self.centre[0], dtype=torch.float32)[:, None]
        self.x = torch.tensor(self.columns - self.centre[1], dtype=torch.float32)[None]


class PictureSize:
    """What the fit needs of a size of pictures, computed once."""

    def __init__(self, height, width):
        self.unit = max(height, width) / 2
        self.pixels = _Grid(height, width, 1)
        self.points = points = _Grid(height, width, _spacing(height, width))
        sigmas = [sigma * min(height, width) for sigma in _BLURS]
        blurs = [np.stack([_blurring(n, sigma) for sigma in sigmas]) for n in (height, width)]
        slopes = [np.gradient(blur, axis=1) for blur in blurs]
        self.down, self.right = map(_tensor, blurs)
        self.down_points, self.slope_down = (_tensor(m[:, points.rows]) for m in (blurs[0], slopes[0]))
        self.right_points, self.slope_right = (_tensor(m[:, points.columns]) for m in (blurs[1], slopes[1]))
        self.down1, self.right1 = _tensor(_blurring(height, 1.0)), _tensor(_blurring(width, 1.0))
        y, x = torch.broadcast_tensors(points.y / self.unit, points.x / self.unit)
        self.terms = torch.stack([torch.ones_like(y), y, x])
        shifts = torch.tensor([[height], [width]]) * _MOST_SHIFT
        self.low = torch.cat([torch.tensor(_LOW), -shifts], 1)
        self.high = torch.cat([torch.tensor(_HIGH), shifts], 1)


def _fit(before, after, size):
    """Returns the affine map of the camera, [N, 2, 3], as `avsal_jax.ops.camera_motion.fit_affine_camera`."""
    source, target, equations = _levels(before, after, size)
    count = len(before)
    identity = torch.eye(2, 3).expand(count, 2, 3)
    affine, brightness, scale = identity, before.new_zeros(count, 2), before.new_ones(count, 1, 1)
    diagonal = torch.eye(8)
    for level in range(len(_BLURS)):
        lines = equations[level]
        texture = torch.sqrt(lines[:, :1] ** 2 + lines[:, 3:4] ** 2)
        for _ in range(_STEPS):
            change, inside = _change(source[level], target[level], affine, size)
            deviation = (change - _brightness_change(brightness, lines)).abs()
            weights = inside / (1 + (deviation / scale) ** 2) ** 2
            normal = (lines * weights) @ torch.cat([lines, change], 1).mT / change.shape[-1]
            matrix = normal[..., :8]
            matrix = matrix + diagonal * (_DAMPING * matrix + _LEAST_CURVATURE)
            solution = torch.linalg.solve(matrix, normal[..., 8])
            strength = weights * texture
            mean = _total(strength * deviation) / (_total(strength) + 1e-6)
            scale = _TUNING * mean.clamp(min=_LEAST_RESIDUAL)
            brightness = solution[:, 6:]
            motion = solution[:, :6] / (1 + solution[:, 6:7]).clamp(min=_LEAST_GAIN)
            affine = _composed(affine, motion.view(count, 2, 3), size)
    explained = _brightness_change(brightness, equations[-1])

    def cost(affine):
        change, inside = _change(source[-1], target[-1], affine, size)
        squares = ((change - explained) / scale) ** 2
        return _total(inside * squares / (1 + squares)) / (_total(inside) + 1e-6)

    fits = (cost(affine) < cost(identity) - _LEAST_IMPROVEMENT)[:, 0, 0]
    plausible = ((size.low < affine) & (affine < size.high)).all(2).all(1)
    plausible = plausible & (1 + brightness[:, 0] > _LEAST_CONTRAST)
    return torch.where((fits & plausible)[:, None, None], affine, identity)


def _levels(before, after, size):
    """Returns pictures before [3, N, h, w], pictures after [3, N, 1, P] and equations [3, N, 8, P]."""
    source = size.down[:, None] @ before @ size.right[:, None].mT
    right = size.right_points[:, None].mT
    target = size.down_points[:, None] @ after @ right
    slopes = [size.slope_down[:, None] @ after @ right]
    slopes.append(size.down_points[:, None] @ after @ size.slope_right[:, None].mT)
    motions = torch.stack(slopes, 2)[:, :, :, None] * size.terms
    target = target.flatten(2)[:, :, None]
    contrast = target - target.mean(-1, keepdim=True)
    return source, target, torch.cat([motions.flatten(4).flatten(2, 3), contrast, torch.ones_like(target)], 2)


def _change(source, target, affine, size):
    moved, inside = _sample(source, affine, size.points)
    return moved.flatten(1)[:, None] - target, inside.flatten(1)[:, None].float()


def _brightness_change(brightness, lines):
    return brightness[:, :1, None] * lines[:, 6:7] + brightness[:, 1:, None]


def _composed(affine, motion, size):
    shift = motion[:, :, :1].clamp(-_MOST_STEP, _MOST_STEP)
    matrix = (motion[:, :, 1:] / size.unit).clamp(-0.1, 0.1) + torch.eye(2)
    linear = affine[:, :, :2] @ torch.linalg.inv(matrix)
    moved = torch.cat([linear, affine[:, :, 2:] - linear @ shift], 2)
    return moved.clamp(size.low, size.high)


def _sample(pictures, affine, grid):
    """Returns bilinear values at `affine` of the positions, [N, rows, columns], and which are inside."""
    height, width = pictures.shape[1:]
    steps = 2.0 ** (22 - math.ceil(math.log2(max(height, width))))  # exact products, as in the peer
    affine = (affine * steps).round() / steps
    rows, columns = (
        a[:, 0, None, None] * grid.y + a[:, 1, None, None] * grid.x + a[:, 2, None, None] + centre
        for a, centre in zip(affine.unbind(1), grid.centre, strict=True)
    )
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    places = torch.stack([columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1], -1)
    values = functional.grid_sample(pictures[:, None], places, padding_mode="border", align_corners=True)
    return values[:, 0], inside


def _spacing(height, width):
    return max(1, round(math.sqrt(height * width / _MOST_POINTS)))


def _total(values):
    return values.sum((1, 2), keepdim=True)


def _blurring(length, sigma):
    distance = np.arange(length)[:, None] - np.arange(length)
    kernel = np.exp(-0.5 * (distance / max(sigma, 0.3)) ** 2)
    return kernel / kernel.sum(1, keepdims=True)


def _tensor(array):
    return torch.tensor(array, dtype=torch.float32)
