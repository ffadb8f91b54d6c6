"""People as a source of maps: where some observers look predicts where the others do."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.ndimage

from avsal_jax import registry
from avsal_jax.data.gaze.gaze_entries import GazeEntry
from avsal_jax.data.sets.datasets import find_dataset
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.sets.raw_fixations import Observer
from avsal_jax.data.truth.fixation_maps import Fixations, rescale_points
from avsal_jax.data.truth.frame_truth import Truth
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.baseline import HALVES, BaselineRequest
from avsal_jax.evaluation.map_sources import MapSource, Trial
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.identity import tree_identity
from avsal_jax.metrics import default_metrics, find_metric
from avsal_jax.pictures import to_grey


class _RecordedObservers(MapSource):
    """Observers of recorded gaze, scored on the grid of the protocol with its blur."""

    def identity(self, entry: VideoEntry) -> str:
        """Returns the rule; the fixations are those of the entry."""
        return f"{self.label} 1"

    def problems(self, entry: GazeEntry, protocol: Protocol) -> list[str]:
        """At least two observers are needed, and a protocol with a grid."""
        if protocol.grid is None:
            return [f"{entry.name}: people are scored by the protocol gaze, not by {protocol.name}"]
        count = entry.observers
        return [] if count >= 2 else [f"{entry.name}: {count} observers; at least 2 are needed"]

    def maps(self, entry: GazeEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the density of those who predict, or of all, for the frames that are scored."""
        if problems := self.problems(entry, protocol):
            raise AvsalError(problems[0].removeprefix(f"{entry.name}: "))
        frames = set(protocol.frames(entry))
        for index in range(entry.frames):
            yield self._picture(entry, index, protocol) if index in frames else None

    def _picture(self, entry: GazeEntry, index: int, protocol: Protocol) -> np.ndarray:
        """Returns the map of a frame for the pictures of a report."""
        density = protocol.grid.density(entry, entry.truth(index).grid_points(protocol.grid.size(entry)))
        return density / density.max()


class LeaveOneOut(_RecordedObservers):
    """All other observers predict each one: every observer is a trial."""

    label = "human (leave one out)"

    def remarks(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Says why metrics of densities are missing."""
        *names, last = (name for name in default_metrics() if "density" in find_metric(name).needs)
        need = f"{', '.join(names)} and {last} need the density of several observers"
        return [f"{need}: --model {registry.name_of('baseline', HALVES)} has them"]

    def trials(self, entry: GazeEntry, index: int, *, truth, stored, protocol: Protocol) -> Iterator[Trial]:
        """Yields for each observer who fixates the frame the blurred fixations of all others.

        Nothing where the others fixate nowhere.
        """
        grid, table = protocol.grid.size(entry), entry.table(index)
        for observer in np.unique(table.observer):
            points = table.rows(table.observer == observer).cells(grid)
            rest = table.rows(table.observer != observer).cells(grid)
            if len(points) and len(rest):
                yield Trial(protocol.grid.density(entry, rest), density=None, points=points, size=grid)


class RecordedHalves(_RecordedObservers):
    """Every second observer, beginning with the first, predicts the others."""

    label = "human (half)"

    def trials(self, entry: GazeEntry, index: int, *, truth, stored, protocol: Protocol) -> Iterator[Trial]:
        """Yields one half against the other; nothing where one of them fixates nowhere."""
        grid, table = protocol.grid.size(entry), entry.table(index)
        predicting, predicted = (table.rows(table.observer % 2 == half).cells(grid) for half in (0, 1))
        if len(predicting) and len(predicted):
            density = protocol.grid.density(entry, predicted)
            yield Trial(
                protocol.grid.density(entry, predicting), density=density, points=predicted, size=grid
            )


class HalfOfObservers(MapSource):
    """Half of the observers predict the other half (HI): their fixations, blurred.

    Args:
      observers: (set, video name) -> (observers, (height, width) of the frames that they saw).
      raw: the identity of the files that they come from.
      sigma: pixels; of the Gaussian at the size of the truth.
    """

    label = "human (HI)"

    def __init__(
        self,
        observers: dict[tuple[str, str], tuple[tuple[Observer, ...], tuple[int, int]]],
        raw: str,
        sigma: float = 20.0,
    ):
        self._observers, self._sigma, self._raw = observers, sigma, raw

    def identity(self, entry: VideoEntry) -> str:
        """Returns that of the raw fixations."""
        return f"human split half, sigma {self._sigma}, {self._raw}"

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """At least two observers are needed."""
        count = len(self._of(entry)[0])
        return [] if count >= 2 else [f"{entry.name}: {count} observers; a split half needs at least 2"]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the blurred fixations of every second observer, for the frames that have truth."""
        if told := self.problems(entry, protocol):
            raise AvsalError(told[0].removeprefix(f"{entry.name}: "))
        for index in range(entry.frames):
            if entry.has_truth(index):
                size = entry.truth(index).size
                yield to_grey(self._blurred(self._points(entry, index, half=0, size=size), size))
            else:
                yield None

    def truth(self, entry: VideoEntry, index: int) -> Truth:
        """Returns the fixations of the other half, and these blurred, the largest value 1."""
        size = entry.truth(index).size
        points = self._points(entry, index, half=1, size=size)
        return _BlurredTruth(points, size=size, blurred=self._blurred)

    def _of(self, entry: VideoEntry) -> tuple[tuple[Observer, ...], tuple[int, int]]:
        return self._observers.get((entry.dataset, entry.name), ((), (1, 1)))

    def _points(self, entry: VideoEntry, index: int, half: int, size: tuple[int, int]) -> np.ndarray:
        """Returns int64 [N, 2]: fixations (row, column) of every second observer, in a map of `size`."""
        observers, seen_size = self._of(entry)
        seen = [place for one in observers[half::2] if (place := one.at(index)) is not None]
        points = np.array(seen, np.int64).reshape(-1, 2)
        return rescale_points(points, seen_size, size)

    def _blurred(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        density = np.zeros(size)
        np.add.at(density, (points[:, 0], points[:, 1]), 1.0)
        return scipy.ndimage.gaussian_filter(density, self._sigma, mode="constant")


class _BlurredTruth(Truth):
    """Fixations of observers, and the density that is made of them.

    Args:
      points: int64 [N, 2], (row, column).
      size: (h, w) of the density.
      blurred: function of `points` and `size`: float64 [h, w].
    """

    def __init__(self, points: np.ndarray, size: tuple[int, int], blurred: Callable):
        self._points, self._size, self._blurred = points, size, blurred

    @functools.cached_property
    def density(self) -> np.ndarray:
        density = self._blurred(self._points, self._size)
        top = density.max()
        return density / top if top > 0 else density

    @property
    def fixations(self) -> Fixations:
        return Fixations(self._points)

    @property
    def size(self) -> tuple[int, int]:
        return self._size


def _people(request: BaselineRequest, recorded: type[_RecordedObservers]) -> MapSource:
    """Returns the observers of one or several sets as a source of maps.

    Args:
      request: its `observers` are where raw fixations are, as `DataSet.observers` of each set reads them: for
        DIEM and the generated set a folder with one of event files per video (`<video>` or
        `<video>/event_data`), for Coutrot the database's .mat file; of videos of several sets
        `diem=FOLDER,coutrot1=FILE,coutrot2=FILE`.
      recorded: the source for recorded gaze, which has its observers with it. For other sets it is halves of
        the observers in raw fixations.

    Raises:
      AvsalError: no raw fixations are named, or a set has none of a known form.
    """
    entries, observers = request.entries, request.observers
    if all(isinstance(entry, GazeEntry) for entry in entries):
        return recorded()
    sets = tuple(dict.fromkeys(entry.dataset for entry in entries))
    readers = {name: find_dataset(name).observers for name in sets}
    if unknown := [name for name, reader in readers.items() if reader is None]:
        raise AvsalError(
            f"--model human reads the raw fixations of {', '.join(_sets_with_observers())}; not of "
            f"{', '.join(unknown)}"
        )
    raw = _raw_paths(None if observers is None else os.fspath(observers), sets)
    found = {}
    for name, path in raw.items():
        of_set = readers[name].read(path, [entry for entry in entries if entry.dataset == name])
        found |= {(name, video): people for video, people in of_set.items()}
    origin = ", ".join(tree_identity(path) for path in raw.values())
    blur = readers[sets[0]].blur if len(sets) == 1 else None
    if blur is not None and found:
        return HalfOfObservers(found, origin, blur * next(iter(found.values()))[1][0])
    return HalfOfObservers(found, origin)


def left_out(request: BaselineRequest) -> MapSource:
    """Returns each observer of recorded gaze against all others; of other sets, halves. See `_people`."""
    return _people(request, LeaveOneOut)


def halves(request: BaselineRequest) -> MapSource:
    """Returns one half of the observers against the other. See `_people`."""
    return _people(request, RecordedHalves)


def _raw_paths(observers: str | None, sets: Sequence[str]) -> dict[str, pathlib.Path]:
    """Returns set -> path of `set=path,set=path`, or of one path for one set."""
    form = ",".join(f"{name}=PATH" for name in sets)
    if observers is None:
        words = f": --observers {form}" if len(sets) > 1 else " of the set"
        raise AvsalError(f"--model human needs --observers with the raw fixations{words}")
    if len(sets) == 1 and not observers.startswith(f"{sets[0]}="):
        raw = {sets[0]: pathlib.Path(observers)}
    else:
        parts = [part.partition("=") for part in observers.split(",")]
        raw = {name: pathlib.Path(path) for name, _, path in parts if path}
        if len(raw) != len(parts) or set(raw) - set(_sets_with_observers()) or set(sets) - set(raw):
            raise AvsalError(f"--observers {observers!r} is not of the form {form}, with each set once")
    for path in raw.values():
        if not path.exists():
            raise AvsalError(f"there is no {path}; --observers names the raw fixations of the set")
    return {name: raw[name] for name in sets}


def _sets_with_observers() -> list[str]:
    return [name for name, row in registry.table("dataset").items() if row.observers is not None]
