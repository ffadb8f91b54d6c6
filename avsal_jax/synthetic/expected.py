"""The expected density of the formula of the ground truth: the upper bound, given the scene's parameters."""

from __future__ import annotations

import numpy as np
import scipy.stats

from avsal_jax.media.cues import BLUR, blurred, centre_map, contrast_maps, luminance, motion_maps
from avsal_jax.synthetic.observers import DURATION, SHAPE, SPREAD, bump
from avsal_jax.synthetic.scene import Scene
from avsal_jax.synthetic.settings import SyntheticSettings


def expected_density(settings: SyntheticSettings, scene: Scene, frames: np.ndarray) -> np.ndarray:
    """Returns float64 [N, H, W]: where observers look in each frame on average, blurred like their density.

    The sum of the terms of `gaze` by their weights. The terms of motion and contrast lag, because a position
    is drawn in the frame in which its fixation begins.

    Args:
      settings: of the set.
      scene: the scene, whose objects observers follow.
      frames: RGB uint8 [N, H, W, 3], the whole video.
    """
    size = frames.shape[1:3]
    weights = np.array(settings.weights) * (1.0 if scene.watched else (0, 1, 1, 1))
    object_share, *cue_shares = weights / weights.sum()
    light = luminance(frames)
    centre = np.broadcast_to(centre_map(*size), light.shape)
    cues = (_lagged(motion_maps(light) ** 2, settings.fps), _lagged(contrast_maps(light) ** 2, settings.fps))
    density = sum(share * _shares(cue) for share, cue in zip(cue_shares, (*cues, centre), strict=True))
    density = blurred(density, BLUR * size[0], mode="constant")
    for watched in scene.watched:
        sigma = np.hypot(SPREAD * scene.radii[watched], BLUR * size[0])
        bumps = np.stack([bump(*size, place, sigma) for place in scene.centres[watched]])
        density += object_share / len(scene.watched) * bumps / (2 * np.pi * sigma**2)
    return density


def _lagged(maps: np.ndarray, fps: float) -> np.ndarray:
    """Returns maps [N, H, W] of shares, averaged over the start times of the fixations of each frame."""
    maps = _shares(maps)
    ages = np.arange(len(maps))
    lasting = scipy.stats.gamma.sf(ages / fps, SHAPE, scale=DURATION / SHAPE)
    mean = np.empty_like(maps)
    for index in ages:
        now = lasting[: index + 1].copy()
        now[-1] += lasting[index + 1 :].sum()  # begun before the video: drawn in its first frame
        mean[index] = np.tensordot(now[::-1] / now.sum(), maps[: index + 1], 1)
    return mean


def _shares(maps: np.ndarray) -> np.ndarray:
    return maps / np.maximum(maps.sum((1, 2), keepdims=True), 1e-12)
