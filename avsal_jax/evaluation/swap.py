"""Does a network follow the sound? What its maps do when another clip's sound replaces their own.

On generated sets of the grade `identity`, where `scene.json` says what is seen and what each sound names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.synthetic.scene import Scene


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two videos: the sound of `sound` names the object `silent` of `picture`, whose own names `sounding`.

    Attributes:
      picture, sound: indices of videos.
      sounding, silent: objects of `picture`.
    """

    picture: int
    sound: int
    sounding: int
    silent: int


@dataclasses.dataclass(frozen=True)
class Swap:
    """What one pair gave.

    Attributes:
      pair: the pair.
      own, swapped: share of the silent object in the mass at both, in [0, 1], with the clip's own sound and
        with the other's; NaN where there is no mass at either.
    """

    pair: Pair
    own: float
    swapped: float

    @property
    def rises(self) -> bool:
        """Whether the other sound moves mass to the object that it names."""
        return self.swapped > self.own


def swap_pairs(scenes: Sequence[Scene]) -> list[Pair]:
    """Returns for every silent object of every video the next video, in turn, whose sound names it.

    A sound names the object whose looks have its class. Objects that no sound names are left out, and so
    are videos whose own sound nothing on the screen makes.

    Raises:
      AvsalError: no pair, or sounds that name no looks.
    """
    pairs = []
    for number, scene in enumerate(scenes):
        if scene.sounding is None:
            continue
        if scene.kind != scene.appearances[scene.sounding]:
            raise AvsalError("the sounds of these videos name no looks; take a set of the grade identity")
        following = [(number + step) % len(scenes) for step in range(1, len(scenes))]
        for silent, looks in enumerate(scene.appearances):
            named = [k for k in following if scenes[k].sounding is not None and scenes[k].kind == looks]
            if silent != scene.sounding and named:
                pairs.append(Pair(number, sound=named[0], sounding=scene.sounding, silent=silent))
    if not pairs:
        raise AvsalError("no sound names a silent object of another video; take a set of more videos")
    return pairs


def swap_measure(
    scenes: Sequence[Scene],
    size: tuple[int, int],
    frames: Sequence[int],
    maps: Callable[[int, int], np.ndarray],
) -> list[Swap]:
    """Returns what each pair of `swap_pairs` gives; the share of those that rise is the measure.

    The mass at an object is that within its radius of its centre, over all frames. Where discs overlap,
    what lies in both counts for both.

    Args:
      scenes: of the held-out videos.
      size: (height, width) in which the scenes count pixels.
      frames: indices of the frames that maps are given for, the same in all videos.
      maps: (picture, sound) -> float [frames, H, W] of any H and W: the maps of one video with the sound of
        another, or of its own where both are the same.

    Raises:
      AvsalError: as `swap_pairs`.
    """
    found, own = [], {}
    for pair in swap_pairs(scenes):
        if pair.picture not in own:  # the pairs of one picture follow each other
            own = {pair.picture: maps(pair.picture, pair.picture)}
        shares = []
        for saliency in (own[pair.picture], maps(pair.picture, pair.sound)):
            silent, sounding = (
                mass_at(saliency, scene=scenes[pair.picture], number=number, frames=frames, size=size)
                for number in (pair.silent, pair.sounding)
            )
            shares.append(silent / (silent + sounding) if silent + sounding > 0 else np.nan)
        found.append(Swap(pair, *shares))
    return found


def mass_at(
    maps: np.ndarray, scene: Scene, number: int, frames: Sequence[int], size: tuple[int, int]
) -> float:
    """Returns the sum of maps [N, H, W] of `frames` within the radius of an object; see `swap_measure`."""
    centres = scene.centres[number][list(frames)]  # [N, 2]
    y, x = ((np.arange(n) + 0.5) * (whole / n) for n, whole in zip(maps.shape[1:], size, strict=True))
    down = y[None, :, None] - centres[:, 0, None, None]
    right = x[None, None, :] - centres[:, 1, None, None]
    inside = down**2 + right**2 <= scene.radii[number] ** 2
    return float(np.sum(maps, where=inside, dtype=np.float64))
