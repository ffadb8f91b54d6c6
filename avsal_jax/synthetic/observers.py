"""Simulated observers: the formula of the ground truth (docs/synthetic.md), and fixations drawn from it.

At any time an observer fixates: the sounding object (silent scenes: one that moves) with probability w_s (and
then follows it), motion with w_m, contrast with w_c, the centre with w_0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from avsal_jax.media.cues import BLUR, blurred, centre_map, contrast_maps, luminance, motion_maps
from avsal_jax.synthetic.scene import Scene, generator
from avsal_jax.synthetic.settings import SyntheticSettings

FIXATION, SACCADE = 1, 2  # DIEM's events
SPREAD = 0.5  # of the radius: sigma of fixations around the middle of an object
DURATION, SHAPE = 0.32, 4.0  # seconds, mean of a fixation; shape of its gamma distribution


@dataclasses.dataclass(frozen=True)
class Gaze:
    """Where observers look.

    Attributes:
      places: float64 [observers, frames, 2], (row, column) with two decimals, inside the frame.
      events: uint8 [observers, frames], FIXATION or SACCADE.
    """

    places: np.ndarray
    events: np.ndarray


def bump(height: int, width: int, place, sigma: float) -> np.ndarray:
    """Returns [H, W]: a Gaussian of deviation `sigma` pixels around `place` (row, column)."""
    y, x = np.arange(height) + 0.5 - place[0], np.arange(width) + 0.5 - place[1]
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))


def look(settings: SyntheticSettings, number: int, scene: Scene, frames: np.ndarray) -> Gaze:
    """Draws where each observer looks in each of `frames` [N, H, W, 3].

    Each fixation draws its cue by the weights, its place from that cue in the frame where it begins, and
    its duration, independent of both: so the shares hold in every frame. One frame of saccade lies between
    fixations.
    """
    rng = generator(settings, number, "gaze")
    weights = np.array(settings.weights)
    if not scene.watched:
        weights[0] = 0
    weights /= weights.sum()
    cumulative = _cumulative(settings, frames)
    places = np.empty((settings.observers, settings.frames, 2))
    events = np.full((settings.observers, settings.frames), FIXATION, np.uint8)
    for observer in range(settings.observers):
        length = _length(rng, settings.fps)
        begin = -int(rng.integers(length))
        while begin < settings.frames:
            shown = slice(max(begin, 0), min(begin + length, settings.frames))
            cue = int(rng.choice(4, p=weights))
            places[observer, shown] = _fixation(
                rng, settings=settings, scene=scene, cumulative=cumulative, cue=cue, shown=shown
            )
            begin += length
            if begin < settings.frames:
                events[observer, begin - 1] = SACCADE
            length = _length(rng, settings.fps)
    inside = np.array([settings.height, settings.width]) - 0.01
    return Gaze(np.clip(np.round(places, 2), 0, inside), events)


def densities(gaze: Gaze, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 maps [N, H, W]: fixations blurred, their largest value 255; and 1 where one lies."""
    observers, frames = gaze.events.shape
    counts = np.zeros((frames, height, width))
    index = np.broadcast_to(np.arange(frames), (observers, frames))
    seen = gaze.events == FIXATION
    rows, columns = np.floor(gaze.places[seen]).astype(int).T
    np.add.at(counts, (index[seen], rows, columns), 1.0)
    density = blurred(counts, BLUR * height, mode="constant")
    top = density.max((1, 2), keepdims=True)
    return np.rint(255 * density / np.where(top > 0, top, 1)).astype(np.uint8), (counts > 0).astype(np.uint8)


def _cumulative(settings: SyntheticSettings, frames: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns cumulated maps: of motion and contrast, squared, [N, H x W]; of the centre, [1, H x W]."""
    light = luminance(frames)
    centre = centre_map(settings.height, settings.width)[None]
    maps = (motion_maps(light) ** 2, contrast_maps(light) ** 2, centre)
    return tuple(np.cumsum(one.reshape(len(one), -1), 1, dtype=np.float64) for one in maps)


def _length(rng: np.random.Generator, fps: float) -> int:
    """Returns a fixation's duration in frames, with the saccade after it."""
    return max(2, round(rng.gamma(SHAPE, DURATION / SHAPE) * fps)) + 1


def _fixation(
    rng, settings: SyntheticSettings, scene: Scene, cumulative, cue: int, shown: slice
) -> np.ndarray:
    """Returns the places [frames of `shown`, 2] of one fixation on a cue."""
    if cue == 0:
        one = scene.watched[0] if len(scene.watched) == 1 else int(rng.choice(scene.watched))
        return scene.centres[one, shown] + rng.normal(0, SPREAD * scene.radii[one], 2)
    maps = cumulative[cue - 1]
    row = maps[min(shown.start, len(maps) - 1)]
    pixel = min(int(np.searchsorted(row, rng.uniform(0, row[-1]), side="right")), len(row) - 1)
    place = np.array(np.divmod(pixel, settings.width)) + rng.uniform(0, 1, 2)
    return np.broadcast_to(place, (shown.stop - shown.start, 2))
