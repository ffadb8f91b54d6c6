"""The sound of each video in an evaluation: its own, silence, another video's, or that of a file."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.identity import tree_identity
from avsal_jax.inference.inputs import HEARS_SILENCE, SoundChoice
from avsal_jax.media.audio import read_own_sound, read_sound
from avsal_jax.media.clip_sound import Sound

AUTO, OFF, SWAP = "auto", "off", "swap"


@dataclasses.dataclass(frozen=True)
class SoundAssignment:
    """Which sound each video of a set gets; created by `SoundAssignment.of`.

    `inference.inputs.SoundChoice` is the choice for a single video, without `swap`.

    Attributes:
      audio: `auto` (the video's own), `off` (silence), `swap` (another video's), or a file for all videos.
      swapped: for `swap`: (data set, name) of a video -> the video whose sound it gets.
    """

    audio: str = AUTO
    swapped: Mapping[tuple[str, str], VideoEntry] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, audio: str, entries: Sequence[VideoEntry], seed: int) -> SoundAssignment:
        """Returns the assignment of `audio` to the videos of a set.

        Raises:
          AvsalError: a file that is missing or has no sound; fewer than two videos with sound for `swap`.
        """
        if audio == SWAP:
            return cls(audio, swapped_sounds(entries, seed))
        SoundChoice(audio).check()
        return cls(audio)

    def identity(self, entry: VideoEntry) -> str:
        """Returns what results depend on in addition to the video and its own sound; '' for its own sound."""
        if self.audio in (AUTO, OFF):
            return "" if self.audio == AUTO else "silence"
        path = self._path(entry)
        return "silence" if path is None else f"sound {tree_identity(path)}"

    def read(self, entry: VideoEntry) -> tuple[Sound | None, list[str]]:
        """Returns the sound, aligned with the start of the video, and warnings about it; None is silence.

        Raises:
          AvsalError: the audio file for all videos cannot be read.
        """
        if self.audio == OFF:
            return None, []
        path = self._path(entry)
        sound, reason = read_own_sound(path) if self.audio in (AUTO, SWAP) else (read_sound(path), "")
        if sound is None:
            return None, [f"{reason or f'{entry.name} has no sound'}; {HEARS_SILENCE}"]
        return dataclasses.replace(sound, start=0.0), list(sound.notes)

    def _path(self, entry: VideoEntry) -> pathlib.Path | None:
        if self.audio == AUTO:
            return entry.sound
        if self.audio == SWAP:
            other = self.swapped.get((entry.dataset, entry.name))
            return None if other is None else other.sound
        return pathlib.Path(self.audio)


def swapped_sounds(entries: Sequence[VideoEntry], seed: int) -> dict[tuple[str, str], VideoEntry]:
    """Returns (data set, name) -> another video, for each video with sound; a derangement.

    The videos are shuffled by the seed, and each gets the sound of the next one, cyclically. The result does
    not depend on the order of `entries` or on repetitions. Videos without sound are omitted.

    Raises:
      AvsalError: fewer than two videos with sound.
    """
    audible = {(entry.dataset, entry.name): entry for entry in entries if entry.sound is not None}
    if len(audible) < 2:
        raise AvsalError(f"--audio swap needs two videos with sound; this set has {len(audible)}")
    names = sorted(audible)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return {name: audible[order[(place + 1) % len(order)]] for place, name in enumerate(order)}
