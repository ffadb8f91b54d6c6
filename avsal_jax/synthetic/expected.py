"""What the formula of the truth expects: the best rule for a scene whose making is known."""

from __future__ import annotations

import numpy as np
import scipy.stats

from avsal_jax.media.cues import BLUR, blurred, centre_map, contrast_maps, luminance, motion_maps
from avsal_jax.synthetic.observers import DURATION, SHAPE, SPREAD, bump
from avsal_jax.synthetic.scene import Scene
from avsal_jax.synthetic.settings import SyntheticSettings


def expected_density(settings: SyntheticSettings, scene: Scene, frames: np.ndarray) -> np.ndarray:
    """Returns float64 [N, H, W]: where observers look in each frame on average, blurred as their density is.

    The terms of `gaze` by their weights; those of motion and contrast lag, since a place is drawn in the
    frame in which its fixation begins.

    Args:
      settings: of the set.
      scene: whose objects are followed.
      frames: RGB uint8 [N, H, W, 3], the whole video.
    """
    size = frames.shape[1:3]
    weights = np.array(settings.weights) * (1.0 if scene.watched else (0, 1, 1, 1))
    object_share, *others = weights / weights.sum()
    light = luminance(frames)
    centre = np.broadcast_to(centre_map(*size), light.shape)
    cues = (_lagged(motion_maps(light) ** 2, settings.fps), _lagged(contrast_maps(light) ** 2, settings.fps))
    density = sum(share * _shares(cue) for share, cue in zip(others, (*cues, centre), strict=True))
    density = blurred(density, BLUR * size[0], mode="constant")
    for one in scene.watched:
        sigma = np.hypot(SPREAD * scene.radii[one], BLUR * size[0])
        bumps = np.stack([bump(*size, place, sigma) for place in scene.centres[one]])
        density += object_share / len(scene.watched) * bumps / (2 * np.pi * sigma**2)
    return density


def _lagged(maps: np.ndarray, fps: float) -> np.ndarray:
    """Returns maps [N, H, W] of shares, averaged over when a fixation that lasts now began."""
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
