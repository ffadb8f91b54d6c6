"""Low-level cues to where people look: luminance, motion, contrast, the centre of the picture.

The generated set draws fixations from them (docs/synthetic.md), and the baseline `motion` predicts by one.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from avsal_jax.spec.input import BT601

BLUR = 1 / 16  # of the height: sigma of the Gaussian that makes a density of fixations
_FINE = 1 / 32  # of the height: sigma of the neighbourhood whose contrast is taken
_LUMA = np.array(BT601, np.float32)


def luminance(frames: np.ndarray) -> np.ndarray:
    """Returns float32 [N, H, W] in [0, 1] of RGB uint8 [N, H, W, 3]."""
    return (frames.astype(np.float32) * _LUMA).sum(-1) / 255


def motion_maps(light: np.ndarray) -> np.ndarray:
    """Returns [N, H, W]: the blurred change of luminance since the frame before; the first is the second."""
    change = np.abs(np.diff(light, axis=0))
    return blurred(np.concatenate([change[:1], change]), BLUR * light.shape[1])


def contrast_maps(light: np.ndarray) -> np.ndarray:
    """Returns [N, H, W]: the blurred deviation of luminance within a neighbourhood."""
    fine = _FINE * light.shape[1]
    variance = blurred(light**2, fine) - blurred(light, fine) ** 2
    return blurred(np.sqrt(np.maximum(variance, 0)), BLUR * light.shape[1])


def centre_map(height: int, width: int) -> np.ndarray:
    """Returns [H, W]: a Gaussian in the middle, its deviations a quarter of height and of width."""
    y, x = ((np.arange(n) + 0.5) / n * 4 - 2 for n in (height, width))
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)


def blurred(maps: np.ndarray, sigma: float, mode: str = "nearest") -> np.ndarray:
    """Returns maps [N, H, W], blurred by a Gaussian of deviation `sigma` pixels; `mode` as of SciPy."""
    return scipy.ndimage.gaussian_filter(maps, (0, sigma, sigma), mode=mode)
