"""Measures whether a network uses audio: its maps with the sound of another clip in place of the clip's own.

For generated sets of the grade `identity`, where `scene.json` lists the visible objects and the class that
each sound names.
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
    """The result for one pair.

    Attributes:
      pair: the pair.
      original, swapped: share of the silent object in the saliency of both objects, in [0, 1], with the
        clip's own sound and with the other sound; NaN without saliency at either object.
    """

    pair: Pair
    original: float
    swapped: float

    @property
    def rises(self) -> bool:
        """Whether the other sound moves saliency to the object that it names."""
        return self.swapped > self.original


def swap_pairs(scenes: Sequence[Scene]) -> list[Pair]:
    """Returns one pair for every silent object: the next video, cyclically, whose sound names the object.

    A sound names the object whose appearance has its class. Objects that no sound names are skipped, and so
    are videos whose own sound has no visible source.

    Raises:
      AvsalError: no pair exists, or the sounds do not name appearances.
    """
    pairs = []
    for number, scene in enumerate(scenes):
        if scene.sounding is None:
            continue
        if scene.kind != scene.appearances[scene.sounding]:
            raise AvsalError(
                "the sounds of these videos do not name appearances; use a set of the grade identity"
            )
        following = [(number + step) % len(scenes) for step in range(1, len(scenes))]
        for silent, appearance in enumerate(scene.appearances):
            candidates = [
                k for k in following if scenes[k].sounding is not None and scenes[k].kind == appearance
            ]
            if silent != scene.sounding and candidates:
                pairs.append(Pair(number, sound=candidates[0], sounding=scene.sounding, silent=silent))
    if not pairs:
        raise AvsalError("no sound names a silent object of another video; use a set of more videos")
    return pairs


def swap_measure(
    scenes: Sequence[Scene],
    size: tuple[int, int],
    frames: Sequence[int],
    maps: Callable[[int, int], np.ndarray],
) -> list[Swap]:
    """Returns the result of each pair of `swap_pairs`; the measure is the share of results with `rises`.

    The saliency of an object is the sum within its radius of its centre, over all frames. Where discs
    overlap, saliency counts for both objects.

    Args:
      scenes: of the held-out videos.
      size: (height, width) of the scenes, in pixels.
      frames: indices of the frames of `maps`, the same in all videos.
      maps: (picture, sound) -> float [frames, H, W] of any H and W: the maps of one video with the sound of
        another, or of its own where both are the same.

    Raises:
      AvsalError: as `swap_pairs`.
    """
    swaps, originals = [], {}
    for pair in swap_pairs(scenes):
        if pair.picture not in originals:  # the pairs of one picture follow each other
            originals = {pair.picture: maps(pair.picture, pair.picture)}
        shares = []
        for saliency in (originals[pair.picture], maps(pair.picture, pair.sound)):
            silent, sounding = (
                mass_at(saliency, scene=scenes[pair.picture], number=number, frames=frames, size=size)
                for number in (pair.silent, pair.sounding)
            )
            shares.append(silent / (silent + sounding) if silent + sounding > 0 else np.nan)
        swaps.append(Swap(pair, *shares))
    return swaps


def mass_at(
    maps: np.ndarray, scene: Scene, number: int, frames: Sequence[int], size: tuple[int, int]
) -> float:
    """Returns the sum of maps [N, H, W] of `frames` within the radius of an object; see `swap_measure`."""
    centres = scene.centres[number][list(frames)]  # [N, 2]
    y, x = ((np.arange(n) + 0.5) * (pixels / n) for n, pixels in zip(maps.shape[1:], size, strict=True))
    down = y[None, :, None] - centres[:, 0, None, None]
    right = x[None, None, :] - centres[:, 1, None, None]
    inside = down**2 + right**2 <= scene.radii[number] ** 2
    return float(np.sum(maps, where=inside, dtype=np.float64))
