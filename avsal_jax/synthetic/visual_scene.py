"""Scenes of the grade `visual`: objects that move by themselves, static objects, and a camera.

docs/synthetic.md has the formulas. Positions in a frame are (row, column) in its pixels; the background is a
periodic canvas of twice the frame's height and width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.ndimage

from avsal_jax.synthetic.scene import Scene, frame_times, generator
from avsal_jax.synthetic.settings import SyntheticSettings

MAX_STATIC_OBJECTS = 1  # objects that are fixed to the background
_RADII = (0.1, 0.3)  # of the height
_SPEEDS = (0.5, 1.5)  # heights per second
_WOBBLE = 0.06  # heights, the largest amplitude


class Camera(NamedTuple):
    """Maps frames to the canvas: position p of frame t is at middles[t] + zoom[t] (p - size / 2).

    Attributes:
      middles: float64 [frames, 2], (row, column) in pixels of the canvas.
      zoom: float64 [frames], pixels of the canvas per pixel of the frame.
    """

    middles: np.ndarray
    zoom: np.ndarray


def make_camera(settings: SyntheticSettings, number: int) -> Camera:
    """Draws a camera: static with probability 1/3; else any combination of pan, sway, shake and zoom."""
    rng, times = generator(settings, number, "camera"), frame_times(settings)[:, None]
    middles = rng.uniform(0, 2, 2) * (settings.height, settings.width) + np.zeros((settings.frames, 2))
    log_zoom = np.full(settings.frames, rng.uniform(-0.1, 0.1))
    if rng.random() < 1 / 3:
        return Camera(middles, np.exp(log_zoom))
    if rng.random() < 0.6:
        middles += _heading(rng) * _spread(rng, 0.05, 0.3) * settings.height * times
    if rng.random() < 0.5:
        reach, rate = rng.uniform(0.005, 0.04, 2) * settings.height, rng.uniform(0.3, 1.2, 2)
        middles += reach * np.sin(2 * np.pi * (rate * times + rng.random(2)))
    if rng.random() < 0.3:
        shake = scipy.ndimage.gaussian_filter1d(rng.standard_normal(middles.shape), 1.0, axis=0)
        middles += rng.uniform(0, 0.015) * settings.height * shake
    if rng.random() < 0.4:
        log_zoom += rng.uniform(-0.25, 0.25) * times[:, 0]
    return Camera(middles, np.exp(log_zoom))


def make_visual_scene(settings: SyntheticSettings, number: int) -> Scene:
    """Draws a silent scene: 1 to `objects` objects that move by themselves, and 0 or 1 static object.

    Sizes and appearances of both kinds have the same distribution. Therefore only motion against the
    background distinguishes them.
    """
    rng = generator(settings, number, "scene")
    moving, still = int(rng.integers(1, settings.objects + 1)), int(rng.integers(MAX_STATIC_OBJECTS + 1))
    radii = _spread(rng, *_RADII, moving + still) * settings.height
    camera, middle = make_camera(settings, number), settings.frames // 2
    size = np.array([settings.height, settings.width])
    paths = [_path(rng, settings, radius) for radius in radii[:moving]]
    for _ in range(still):
        place = on_canvas(camera, size=size, index=middle, place=rng.uniform(0.1, 0.9, 2) * size)
        paths.append(size / 2 + (place - camera.middles) / camera.zoom[:, None])
    return Scene(
        np.stack(paths),
        radii=radii,
        appearances=(),
        pulses=(),
        sounding=None,
        kind=None,
        off_screen=None,
        sound_pulses=np.empty(0),
        moving=tuple(range(moving)),
    )


def on_canvas(camera: Camera, size: np.ndarray, index: int, place: np.ndarray) -> np.ndarray:
    """Returns the place [2] on the canvas of a place in frame `index`."""
    return camera.middles[index] + camera.zoom[index] * (place - size / 2)


def _path(rng: np.random.Generator, settings: SyntheticSettings, radius: float) -> np.ndarray:
    """Returns float64 [frames, 2]: a straight wobbling path, reflected half a radius from the edges."""
    times, size = frame_times(settings)[:, None], np.array([settings.height, settings.width])
    path = rng.uniform(0.1, 0.9, 2) * size
    path = path + _heading(rng) * _spread(rng, *_SPEEDS) * settings.height * times
    reach, rate = rng.uniform(0, _WOBBLE, 2) * settings.height, rng.uniform(0.5, 1.5, 2)
    path += reach * np.sin(2 * np.pi * (rate * times + rng.random(2)))
    low, room = radius / 2, size - radius
    return low + room - np.abs((path - low) % (2 * room) - room)


def _heading(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)])


def _spread(rng: np.random.Generator, low: float, high: float, count: int | None = None):
    """Returns numbers whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))
