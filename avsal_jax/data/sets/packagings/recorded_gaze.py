"""Recorded gaze with its stimuli as a packaging: fixations are separate for each observer."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import ClassVar

from avsal_jax import registry
from avsal_jax.data.gaze.gaze_sets import open_gaze, split_of
from avsal_jax.data.gaze.stimuli import GazeSet
from avsal_jax.data.sets.dataset import ALL_STIMULI, SPLITS, DataSet, Packaging
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.sets.video_lists import ListedVideo, read_stimulus_list, shipped_domain
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.registry import register

PROTOCOL = "gaze"  # of sets of recorded gaze


@register("packaging", "gaze")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecordedGaze(Packaging):
    """Stimuli (photographs or videos) with a table of fixations of each observer.

    Attributes:
      reader: function of the root that reads the set; None for stimuli/ with fixations.csv or gaze.csv, to
        which the options of recorded gaze apply.
    """

    reader: Callable[[pathlib.Path], GazeSet] | None = None

    has_observers: ClassVar[bool] = True
    contents: ClassVar[str] = "stimuli"

    @classmethod
    def user_set(cls, name: str) -> DataSet:
        return DataSet(title=name, packaging=cls(), splits=(*SPLITS, ALL_STIMULI), protocol=PROTOCOL)

    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        """Returns the stimuli of a split; all stimuli if each is tested in one fold and `fold` is None."""
        entries, _ = self._opened
        if self.split != ALL_STIMULI and not (self.row.folds and fold is None):
            entries = split_of(self.dataset, self.root, entries=entries, split=self.split, fold=fold)
        return tuple(self._row(entry) for entry in entries)

    def entry(self, video: ListedVideo) -> VideoEntry:
        return self._by_name[video.video]

    def entire(self) -> tuple[tuple[VideoEntry, ...], list[str]]:
        return self._opened

    def rows_of_list(self, path: pathlib.Path) -> tuple[ListedVideo, ...]:
        """Returns the stimuli of a list without repeats; a line may begin with the name of the set."""
        if shipped_domain(str(path)) is not None:
            raise AvsalError(f"{path} is not a list for {self.dataset}")
        stimuli = {}
        for place, line in read_stimulus_list(path):
            first, *rest = line.split(maxsplit=1)
            if line not in self._by_name and rest and first != self.dataset and _is_set(first):
                raise AvsalError(
                    f"{place} names the set {first}, and this is {self.dataset}; open it by itself"
                )
            stimulus = rest[0] if line not in self._by_name and rest and first == self.dataset else line
            if stimulus not in self._by_name:
                raise AvsalError(
                    f"{self.dataset} has no stimulus {stimulus!r} in {self.root}; it has "
                    f"{len(self._by_name)} others{did_you_mean(stimulus, self._by_name)}"
                )
            stimuli[stimulus] = self._row(self._by_name[stimulus])
        return tuple(stimuli.values())

    def _row(self, entry: VideoEntry) -> ListedVideo:
        return ListedVideo(entry.name, self.dataset)

    @functools.cached_property
    def _opened(self):
        return open_gaze(self.dataset, self.root, options=self.gaze, reader=self.reader)

    @functools.cached_property
    def _by_name(self) -> dict[str, VideoEntry]:
        return {entry.name: entry for entry in self._opened[0]}


def _is_set(name: str) -> bool:
    """Whether a word of a list names a set."""
    return ":" in name or registry.lookup("dataset", name) is not None
