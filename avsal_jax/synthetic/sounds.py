"""Sounds of generated sets with their classes, also at other pitches."""

from __future__ import annotations

import pathlib

import numpy as np

from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.errors import AvsalError
from avsal_jax.media.audio import read_sound
from avsal_jax.media.clip_sound import ClipSound, Sound, resample
from avsal_jax.spec.input import InputSpec
from avsal_jax.synthetic.generated_set import NAME
from avsal_jax.synthetic.layout import read_scene
from avsal_jax.synthetic.settings import CLASSES

PITCHES = 8  # transpositions of each video, if `pitch` is not 0


class Sounds:
    """The sounds of the videos of a split of sets, with their classes; videos without a class are skipped.

    With `pitch` > 0, each sound occurs PITCHES times, transposed by random shifts of up to `pitch` octaves.
    """

    def __init__(self, sets, split: str, spec: InputSpec, pitch: float = 0.0, seed: int = 0):
        draws = np.random.default_rng(seed)
        self._frames = spec.frames
        self._videos: list[tuple[ClipSound, int, int]] = []
        for number, root in enumerate(sets):
            for entry, kind in videos_with_class(root, split):
                sound = read_sound(entry.sound)
                for factor in 2.0 ** draws.uniform(-pitch, pitch, PITCHES if pitch else 1):
                    clips = ClipSound.of(transposed(sound, factor), spec, entry.fps)
                    self._videos.append((clips, int(entry.frames / factor), CLASSES * number + kind))

    def __len__(self):
        return len(self._videos)

    def clip(self, video: int, place: float) -> tuple[np.ndarray, int]:
        """Returns (sound, class) of the clip at a place in [0, 1) among those of a video."""
        sound, frames, kind = self._videos[video]
        first = int(place * max(1, frames - self._frames + 1))
        window = [min(first + k, frames - 1) for k in range(self._frames)]
        return sound.clip(window, frames), kind


def videos_with_class(root, split: str) -> list[tuple]:
    """Returns (entry, class) of the videos of a split that have a class of sound."""
    entries = open_dataset(NAME, pathlib.Path(root), split)
    kinds = [(entry, read_scene(root, entry.name).kind) for entry in entries]
    videos = [(entry, kind) for entry, kind in kinds if kind is not None]
    if not videos:
        raise AvsalError(f"no video of the split {split} in {root} has a sound of a class")
    return videos


def transposed(sound: Sound, factor: float) -> Sound:
    """Returns a sound played `factor` times as fast, which multiplies its frequencies by `factor`."""
    if factor == 1:
        return sound
    # to 50 Hz, so that the rates share a factor: resampling is quick then
    faster = Sound(sound.wave, 50 * round(sound.rate * factor / 50), sound.start / factor)
    return Sound(resample(faster, sound.rate).wave[:], sound.rate, faster.start)
