"""Draws the scenes of the grade `visual`: all appearances are random, without classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from avsal_jax.synthetic.picture import TEXTURES, Local, paint, pink_noise, squash
from avsal_jax.synthetic.scene import Scene, generator
from avsal_jax.synthetic.settings import SyntheticSettings
from avsal_jax.synthetic.visual_scene import Camera, make_camera, on_canvas

_LEAVES = 12  # shapes of the background, at most
_WAVES = np.arange(2, 6)  # of an outline


class _Looks(NamedTuple):
    """What a shape looks like.

    Attributes:
      outline: see `picture.paint`.
      colour: see `picture.paint`.
      phases: [6], of the texture.
      turn, spin: radians, and radians per second.
    """

    outline: Callable[[np.ndarray], np.ndarray]
    colour: Callable[[Local], np.ndarray]
    phases: np.ndarray
    turn: float
    spin: float


def render_visual(settings: SyntheticSettings, number: int, scene: Scene) -> np.ndarray:
    """Returns the frames of a scene: RGB uint8 [frames, H, W, 3]."""
    rng, camera = generator(settings, number, "picture"), make_camera(settings, number)
    canvas = _canvas(rng, settings=settings, scene=scene, camera=camera)
    movers = [_looks(rng) for _ in scene.moving]
    noise, saturation = 6 * rng.random() ** 2, rng.uniform(0.2, 1.0)  # levels, of a sensor; of colours
    offsets = [np.arange(n) + 0.5 - n / 2 for n in (settings.height, settings.width)]
    frames = np.empty((settings.frames, settings.height, settings.width, 3), np.uint8)
    for index in range(settings.frames):
        axes = [m + camera.zoom[index] * o - 0.5 for m, o in zip(camera.middles[index], offsets, strict=True)]
        place = np.broadcast_arrays(axes[0][:, None], axes[1][None, :])
        image = np.stack(
            [scipy.ndimage.map_coordinates(c, place, order=1, mode="grid-wrap") for c in canvas], -1
        )
        for k, looks in zip(scene.moving, movers, strict=True):
            turn = looks.turn + looks.spin * index / settings.fps
            at = scene.centres[k, index], scene.radii[k], turn
            paint(image, *at, looks.phases, looks.outline, looks.colour)
        image = saturation * image + (1 - saturation) * image.mean(-1, keepdims=True)
        image += noise * rng.standard_normal(image.shape)
        frames[index] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return frames


def _canvas(rng: np.random.Generator, settings: SyntheticSettings, scene: Scene, camera: Camera):
    """Returns float64 [3, 2H, 2W], periodic: noise, shapes over it, and the objects that are fixed to it."""
    size = np.array([settings.height, settings.width])
    first, second, third = rng.uniform(0, 255, (3, 3))
    second = first + rng.uniform(0.2, 1.0) * (second - first)
    mix, add, shade = (pink_noise(rng, tuple(2 * size), rng.uniform(0.8, 2.0))[..., None] for _ in range(3))
    image = first + (second - first) * squash(mix)
    image += (third - image) * np.clip(squash(add) - 0.5, 0, 1)
    image *= 1 + rng.uniform(0, 0.3) * shade
    for _ in range(int(rng.integers(_LEAVES + 1))):
        radius = settings.height * np.exp(rng.uniform(np.log(0.05), np.log(0.5)))
        _stick(image, looks=_looks(rng), place=rng.uniform(0, 2, 2) * size, radius=radius)
    middle = settings.frames // 2
    for k in sorted(set(range(len(scene.radii))) - set(scene.moving)):
        _stick(
            image,
            looks=_looks(rng),
            place=on_canvas(camera, size=size, index=middle, place=scene.centres[k, middle]),
            radius=scene.radii[k],
        )
    return np.moveaxis(np.clip(image, 0, 255), -1, 0)


def _stick(image: np.ndarray, looks: _Looks, place: np.ndarray, radius: float) -> None:
    """Paints a shape on the periodic canvas `image`, which is rolled so that the shape is in the middle."""
    pixel = np.floor(place).astype(int)
    middle = np.array(image.shape[:2]) // 2
    rolled = np.roll(image, middle - pixel, (0, 1))
    paint(
        rolled,
        centre=middle + place - pixel,
        radius=radius,
        turn=looks.turn,
        phases=looks.phases,
        outline=looks.outline,
        colour=looks.colour,
    )
    image[:] = np.roll(rolled, pixel - middle, (0, 1))


def _looks(rng: np.random.Generator) -> _Looks:
    """Draws a stretched outline of four waves, and a texture of two colours of random contrast and scale."""
    waves, starts = rng.uniform(0, 0.15, 4), rng.uniform(0, 2 * np.pi, 4)
    thin, texture = rng.uniform(0.45, 1.0), TEXTURES[str(rng.choice(list(TEXTURES)))]
    light, other = rng.uniform(0, 255, (2, 3))
    dark, fine = light + rng.random() * (other - light), np.exp(rng.uniform(np.log(0.4), np.log(1.5)))

    def outline(angle):
        bent = (waves * np.sin(_WAVES * angle[..., None] + starts)).sum(-1)
        return np.clip((1 + bent) * thin / np.hypot(thin * np.cos(angle), np.sin(angle)), 0.2, 1.2)

    def colour(at):
        u, v = at.u * fine, at.v * fine
        share = (
            0.5
            + 0.5
            * np.tanh(3 * texture(Local(u, v=v, distance=np.hypot(u, v), angle=at.angle, phases=at.phases)))[
                ..., None
            ]
        )
        return share * light + (1 - share) * dark

    spin = rng.uniform(-1.5, 1.5) if rng.random() < 0.5 else 0.0
    return _Looks(
        outline, colour=colour, phases=rng.uniform(0, 2 * np.pi, 6), turn=rng.uniform(0, 2 * np.pi), spin=spin
    )
