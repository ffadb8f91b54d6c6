"""Draws a scene: textured objects on a background of 1/f noise that a camera pans and zooms over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from avsal_jax.synthetic.scene import Scene, frame_times, generator, pulse_train
from avsal_jax.synthetic.settings import SyntheticSettings

# Three colours per palette: two that a first noise mixes, and one that a second noise adds.
_PALETTES = {
    "a": (((44, 70, 38), (128, 138, 84), (150, 170, 190)), ((70, 56, 44), (146, 128, 100), (96, 120, 88))),
    "b": (((52, 44, 84), (150, 112, 146), (196, 164, 120)), ((30, 72, 84), (110, 152, 150), (176, 148, 170))),
}


class _Appearance(NamedTuple):
    """The looks of a class: outline, texture, and the two colours of the texture."""

    outline: str
    texture: str
    light: tuple[int, int, int]
    dark: tuple[int, int, int]


_APPEARANCES = {
    "a": (
        _Appearance("disc", texture="stripes", light=(236, 84, 60), dark=(92, 20, 24)),
        _Appearance("square", texture="checks", light=(72, 132, 240), dark=(16, 28, 96)),
        _Appearance("blob", texture="noise", light=(240, 208, 64), dark=(112, 80, 12)),
        _Appearance("triangle", texture="rings", light=(232, 120, 224), dark=(84, 20, 96)),
    ),
    "b": (
        _Appearance("square", texture="sectors", light=(96, 224, 120), dark=(12, 84, 44)),
        _Appearance("disc", texture="zigzag", light=(244, 164, 72), dark=(108, 48, 8)),
        _Appearance("triangle", texture="dots", light=(120, 220, 236), dark=(12, 72, 96)),
        _Appearance("blob", texture="spiral", light=(240, 240, 236), dark=(72, 72, 80)),
    ),
}


class Local(NamedTuple):
    """Pixels [h, w] in the coordinates of an object, in radii and radians; the phases [6] of its texture."""

    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray
    angle: np.ndarray
    phases: np.ndarray


_CORNERS = {"square": 4, "triangle": 3}


def render(settings: SyntheticSettings, number: int, scene: Scene) -> np.ndarray:
    """Returns the frames of a scene of a grade with sound: RGB uint8 [frames, H, W, 3]."""
    rng = generator(settings, number, "picture")
    canvas = _canvas(rng, settings)
    rows, columns = _camera(rng, settings)
    times, objects = frame_times(settings), len(scene.radii)
    turns = rng.uniform(0, 2 * np.pi, (objects, 1)) + rng.uniform(-1.5, 1.5, (objects, 1)) * times
    phases = rng.uniform(0, 2 * np.pi, (objects, 6))
    light = np.stack([0.7 + 0.6 * pulse_train(times, pulses) for pulses in scene.pulses])
    frames = np.empty((settings.frames, settings.height, settings.width, 3), np.uint8)
    for index in range(settings.frames):
        place = np.broadcast_arrays(rows[index][:, None], columns[index][None, :])
        image = np.stack(
            [scipy.ndimage.map_coordinates(c, place, order=1, mode="grid-wrap") for c in canvas], -1
        )
        for k in range(objects):
            looks = _APPEARANCES[settings.domain][scene.appearances[k]]
            at = scene.centres[k, index], scene.radii[k], turns[k, index]
            _draw(image, looks, *at, phases[k], light[k, index])
        frames[index] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return frames


def _canvas(rng: np.random.Generator, settings: SyntheticSettings) -> np.ndarray:
    """Returns float32 [3, 2H, 2W]: periodic noise in the colours of a palette, 0 to 255."""
    size = 2 * settings.height, 2 * settings.width
    palettes = np.array(_PALETTES[settings.domain], np.float64)
    first, second, third = palettes[rng.integers(len(palettes))]
    mix, add, shade = (pink_noise(rng, size, rng.uniform(1.0, 1.4))[..., None] for _ in range(3))
    ground = first + (second - first) * squash(mix)
    ground += (third - ground) * np.clip(squash(add) - 0.5, 0, 1)
    return np.moveaxis(np.clip(ground * (1 + 0.12 * shade), 0, 255), -1, 0).astype(np.float32)


def pink_noise(rng: np.random.Generator, size: tuple[int, int], exponent: float) -> np.ndarray:
    """Returns noise [h, w] of amplitude 1/f^exponent, of mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(size)) / frequency**exponent, s=size)
    return noise / noise.std()


def squash(values: np.ndarray) -> np.ndarray:
    """Returns values of any size as values between 0 and 1."""
    return 0.5 + 0.5 * np.tanh(values)


def _camera(rng: np.random.Generator, settings: SyntheticSettings) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows [frames, H] and columns [frames, W] on the canvas of the frames' pixels."""
    times = frame_times(settings)
    start, speed = rng.uniform(0, 2, 2), rng.uniform(-0.15, 0.15, 2)  # in frame sizes, and per second
    sway, phase = rng.uniform(0.01, 0.03, 2), rng.uniform(0, 2 * np.pi, 3)
    zoom = 1 + 0.08 * np.sin(2 * np.pi * 0.4 * times + phase[2])
    axes = []
    for axis, length in enumerate((settings.height, settings.width)):
        middle = (
            start[axis] + speed[axis] * times + sway[axis] * np.sin(2 * np.pi * 0.7 * times + phase[axis])
        )
        offsets = np.arange(length) + 0.5 - length / 2
        axes.append(middle[:, None] * length + zoom[:, None] * offsets)
    return axes[0], axes[1]


def _draw(image, looks: _Appearance, centre, radius, turn, phases, light) -> None:
    """Draws an object of a class into float `image` [H, W, 3]."""

    def colour(at):
        share = 0.5 + 0.5 * np.tanh(3 * TEXTURES[looks.texture](at))[..., None]
        return light * (share * np.array(looks.light) + (1 - share) * np.array(looks.dark))

    paint(
        image,
        centre=centre,
        radius=radius,
        turn=turn,
        phases=phases,
        outline=lambda angle: _outline(looks.outline, angle),
        colour=colour,
    )


def paint(image, centre, radius: float, turn: float, phases, outline: Callable, colour: Callable) -> None:
    """Paints a shape into float `image` [H, W, 3], its edge one pixel soft.

    Args:
      image: modified in place.
      centre: (row, column), pixels.
      radius: pixels.
      turn: radians.
      phases: [6], of the texture.
      outline: angles [h, w] -> distance of the edge from the centre, in radii; at most 1.2.
      colour: Local -> [h, w, 3].
    """
    reach = 1.2 * radius + 1
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach), image.shape[:2]).astype(int)
    y = (np.arange(low[0], high[0]) + 0.5 - centre[0])[:, None] / radius
    x = (np.arange(low[1], high[1]) + 0.5 - centre[1])[None, :] / radius
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    at = Local(u, v=v, distance=np.hypot(u, v), angle=np.arctan2(v, u), phases=phases)
    if at.distance.size == 0:  # outside
        return
    cover = np.clip((outline(at.angle) - at.distance) * radius + 0.5, 0, 1)[..., None]
    patch = image[low[0] : high[0], low[1] : high[1]]
    patch += cover * (colour(at) - patch)


def _outline(name: str, angle: np.ndarray) -> np.ndarray | float:
    """Returns the distance of the edge from the centre in a direction, in radii; at most 1.2."""
    if name == "disc":
        return 1.0
    if name == "blob":
        return 1 + 0.2 * np.sin(5 * angle)
    half = np.pi / _CORNERS[name]
    return 1.2 * np.cos(half) / np.cos((angle % (2 * half)) - half)


def _noise(at: Local) -> np.ndarray:
    """Returns a sum of six waves of different directions and lengths."""
    rates = (4 + 1.5 * np.arange(6))[:, None, None]
    across = at.u * np.cos(2.4 * rates) + at.v * np.sin(2.4 * rates)
    return 0.7 * np.sin(rates * across + at.phases[:, None, None]).sum(0)


TEXTURES: dict[str, Callable[[Local], np.ndarray]] = {  # in about [-1, 1]
    "stripes": lambda at: np.sin(8 * at.u + at.phases[0]),
    "checks": lambda at: 2 * np.sin(6 * at.u + at.phases[0]) * np.sin(6 * at.v + at.phases[1]),
    "rings": lambda at: np.sin(10 * at.distance + at.phases[0]),
    "noise": _noise,
    "sectors": lambda at: np.sin(5 * at.angle),
    "zigzag": lambda at: np.sin(8 * at.u + 2 * np.arcsin(np.sin(6 * at.v)) + at.phases[0]),
    "dots": lambda at: np.cos(8 * at.u + at.phases[0]) + np.cos(8 * at.v + at.phases[1]) - 0.7,
    "spiral": lambda at: np.sin(2 * at.angle + 9 * at.distance),
}
