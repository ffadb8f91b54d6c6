"""The objects of a scene, how they move, and which one sounds; everything but pixels, samples and gaze.

Positions are (row, column) in pixels; pixel i covers [i, i + 1). Times are seconds from the first frame.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from avsal_jax.synthetic.settings import CLASSES, SyntheticSettings

INCONSISTENT = ("narration", "music")
_PULSE = 0.12  # seconds; half of a pulse's width
_GAP = (0.28, 0.70)  # seconds between pulses; more than a pulse is wide, so that they never overlap
_STEPS = 8  # of integration, per frame
_STREAMS = ("scene", "picture", "sound", "gaze", "camera")


@dataclasses.dataclass(frozen=True)
class Scene:
    """One video before it is drawn.

    Attributes:
      centres: float64 [objects, frames, 2], (row, column) of each object.
      radii: float64 [objects], pixels; an object lies within 1.2 radii of its centre.
      appearances: class of each object's looks, all different; () in `visual`.
      pulses: float64 [K] per object: times at which it is brightest and fastest; () in `visual`.
      sounding: index of the object that sounds, or None if no object does.
      kind: class of the sound: 0 (left) or 1 (right) for `position`, the timbre for the other grades; None
        if no object sounds.
      off_screen: `narration` or `music` if the sound is inconsistent, else None.
      sound_pulses: float64 [K], times at which the sound is loudest and highest.
      moving: in `visual`, the objects that move by themselves; the others are fixed to the background.
    """

    centres: np.ndarray
    radii: np.ndarray
    appearances: tuple[int, ...]
    pulses: tuple[np.ndarray, ...]
    sounding: int | None
    kind: int | None
    off_screen: str | None
    sound_pulses: np.ndarray
    moving: tuple[int, ...] = ()

    @property
    def watched(self) -> tuple[int, ...]:
        """The objects that observers follow: the sounding one, or those that move by themselves."""
        return self.moving if self.sounding is None else (self.sounding,)


def generator(settings: SyntheticSettings, number: int, stream: str) -> np.random.Generator:
    """Returns the random numbers of one purpose in one video; streams of purposes are independent."""
    return np.random.default_rng([settings.seed, number, _STREAMS.index(stream)])


def frame_times(settings: SyntheticSettings) -> np.ndarray:
    """Returns float64 [frames]: the middle of each frame's time."""
    return (np.arange(settings.frames) + 0.5) / settings.fps


def make_scene(settings: SyntheticSettings, number: int) -> Scene:
    """Draws a scene.

    All objects move by the same law and the sounding object is drawn uniformly. Therefore neither motion nor
    appearance shows which object sounds.
    """
    rng = generator(settings, number, "scene")
    cells, size = _cells(rng, settings)
    radii = rng.uniform(0.23, 0.27, settings.objects) * min(size)
    pulses = tuple(_pulse_times(rng, settings.duration) for _ in range(settings.objects))
    centres = np.stack(
        [_path(rng, settings, *values, size) for values in zip(cells, radii, pulses, strict=True)]
    )
    appearances = tuple(int(k) for k in rng.permutation(CLASSES)[: settings.objects])
    sounding, free = int(rng.integers(settings.objects)), _pulse_times(rng, settings.duration)
    timbre, off_screen = int(rng.integers(CLASSES)), INCONSISTENT[int(rng.integers(2))]
    if is_inconsistent(settings, number):
        return Scene(
            centres,
            radii=radii,
            appearances=appearances,
            pulses=pulses,
            sounding=None,
            kind=None,
            off_screen=off_screen,
            sound_pulses=free,
        )
    if settings.grade == "position":
        kind = int(centres[sounding, 0, 1] > settings.width / 2)
    else:
        kind = appearances[sounding] if settings.grade == "identity" else timbre
    driving = pulses[sounding] if settings.grade == "synchrony" else free
    return Scene(
        centres,
        radii=radii,
        appearances=appearances,
        pulses=pulses,
        sounding=sounding,
        kind=kind,
        off_screen=None,
        sound_pulses=driving,
    )


def is_inconsistent(settings: SyntheticSettings, number: int) -> bool:
    """Spreads the share of inconsistent sound evenly over the numbers of the videos."""
    return math.floor((number + 1) * settings.inconsistent) > math.floor(number * settings.inconsistent)


def pulse_train(times: np.ndarray, pulses: np.ndarray) -> np.ndarray:
    """Returns m(t) in [0, 1] at `times` [N]: cos^2 pulses, 0.24 s wide, of height 1 around `pulses` [K]."""
    nearest = np.searchsorted((pulses[1:] + pulses[:-1]) / 2, times)
    distance = np.abs(times - pulses[nearest])
    return np.where(distance < _PULSE, np.cos(np.pi * distance / (2 * _PULSE)) ** 2, 0.0)


def _pulse_times(rng: np.random.Generator, duration: float) -> np.ndarray:
    gaps = rng.uniform(*_GAP, math.ceil(duration / _GAP[0]) + 3)
    return np.cumsum(gaps) - rng.uniform(_GAP[0], 2 * _GAP[1])


def _cells(rng: np.random.Generator, settings: SyntheticSettings) -> tuple[np.ndarray, tuple[float, float]]:
    """Divides the frame into cells; returns the centres [objects, 2], one per object, and a cell's size."""
    columns = math.ceil(math.sqrt(settings.objects * settings.width / settings.height))
    columns = 2 if settings.grade == "position" else min(columns, settings.objects)
    rows = math.ceil(settings.objects / columns)
    size = settings.height / rows, settings.width / columns
    chosen_cells = rng.permutation(rows * columns)[: settings.objects]
    return (np.stack(np.divmod(chosen_cells, columns), 1) + 0.5) * size, size


def _path(rng, settings: SyntheticSettings, cell, radius: float, pulses, size) -> np.ndarray:
    """Returns float64 [frames, 2]: a smooth path within a cell, fast where the object pulses."""
    fine = (np.arange(settings.frames * _STEPS) + 0.5) / (settings.fps * _STEPS)
    travelled = np.cumsum(0.4 + 1.8 * pulse_train(fine, pulses)) / (settings.fps * _STEPS)
    along = travelled.reshape(settings.frames, _STEPS).mean(1)
    room = np.minimum(np.asarray(size) / 2 - 1.2 * radius, settings.height / 4)
    rates, phases = rng.uniform(0.3, 0.9, (2, 3, 1)), rng.uniform(0, 2 * np.pi, (2, 3, 1))
    shares = rng.dirichlet((2.0, 2.0, 2.0), 2)[..., None]
    waves = (shares * np.sin(2 * np.pi * rates * along + phases)).sum(1)  # [2, frames]
    return cell + room * waves.T
