"""Observers as a source of maps: the fixations of some observers predict those of the others."""

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
    """Observers of recorded gaze, scored on the grid and with the blur of the protocol."""

    def identity(self, entry: VideoEntry) -> str:
        """Returns the rule; the fixations are those of the entry."""
        return f"{self.label} 1"

    def problems(self, entry: GazeEntry, protocol: Protocol) -> list[str]:
        """Requires at least two observers, and a protocol with a grid."""
        if protocol.grid is None:
            return [f"{entry.name}: people are scored by the protocol gaze, not by {protocol.name}"]
        count = entry.observers
        return [] if count >= 2 else [f"{entry.name}: {count} observers; at least 2 are needed"]

    def maps(self, entry: GazeEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the density of all observers for scored frames, for reports; `trials` yields scored maps."""
        if problems := self.problems(entry, protocol):
            raise AvsalError(problems[0].removeprefix(f"{entry.name}: "))
        frames = set(protocol.scored_indices(entry))
        for index in range(entry.frames):
            yield self._picture(entry, index, protocol) if index in frames else None

    def _picture(self, entry: GazeEntry, index: int, protocol: Protocol) -> np.ndarray:
        """Returns the map of a frame for the pictures of a report."""
        density = protocol.grid.density(entry, entry.truth(index).grid_points(protocol.grid.size(entry)))
        return density / density.max()


class LeaveOneOut(_RecordedObservers):
    """All other observers predict each observer: one trial per observer."""

    label = "human (leave one out)"

    def remarks(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Explains why metrics of densities are missing."""
        *names, last = (name for name in default_metrics() if "density" in find_metric(name).needs)
        need = f"{', '.join(names)} and {last} need the density of several observers"
        return [f"{need}: --model {registry.name_of('baseline', HALVES)} has them"]

    def trials(self, entry: GazeEntry, index: int, *, truth, stored, protocol: Protocol) -> Iterator[Trial]:
        """Yields one trial per observer with fixations: the blurred fixations of all other observers.

        Observers are skipped if the others have no fixations.
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
        """Yields one half against the other; nothing if a half has no fixations."""
        grid, table = protocol.grid.size(entry), entry.table(index)
        predicting, predicted = (table.rows(table.observer % 2 == half).cells(grid) for half in (0, 1))
        if len(predicting) and len(predicted):
            density = protocol.grid.density(entry, predicted)
            yield Trial(
                protocol.grid.density(entry, predicting), density=density, points=predicted, size=grid
            )


class HalfOfObservers(MapSource):
    """Half of the observers predict the other half (HI), by their blurred fixations.

    Args:
      observers: (set, video name) -> (observers, (height, width) of the frames that they watched).
      raw: the identity of the files of raw fixations.
      sigma: of the Gaussian, in pixels of the truth.
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
        """Returns the identity of the raw fixations and the blur."""
        return f"human split half, sigma {self._sigma}, {self._raw}"

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Requires at least two observers."""
        count = len(self._of(entry)[0])
        return [] if count >= 2 else [f"{entry.name}: {count} observers; a split half needs at least 2"]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the blurred fixations of every second observer; None for frames without truth."""
        if problems := self.problems(entry, protocol):
            raise AvsalError(problems[0].removeprefix(f"{entry.name}: "))
        for index in range(entry.frames):
            if entry.has_truth(index):
                size = entry.truth(index).size
                yield to_grey(self._blurred(self._points(entry, index, half=0, size=size), size))
            else:
                yield None

    def truth(self, entry: VideoEntry, index: int) -> Truth:
        """Returns the fixations of the other half, and their blurred density with maximum 1."""
        size = entry.truth(index).size
        points = self._points(entry, index, half=1, size=size)
        return _BlurredTruth(points, size=size, blurred=self._blurred)

    def _of(self, entry: VideoEntry) -> tuple[tuple[Observer, ...], tuple[int, int]]:
        return self._observers.get((entry.dataset, entry.name), ((), (1, 1)))

    def _points(self, entry: VideoEntry, index: int, half: int, size: tuple[int, int]) -> np.ndarray:
        """Returns int64 [N, 2]: fixations (row, column) of every second observer, in a map of `size`."""
        observers, seen_size = self._of(entry)
        places = [place for observer in observers[half::2] if (place := observer.at(index)) is not None]
        points = np.array(places, np.int64).reshape(-1, 2)
        return rescale_points(points, seen_size, size)

    def _blurred(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        density = np.zeros(size)
        np.add.at(density, (points[:, 0], points[:, 1]), 1.0)
        return scipy.ndimage.gaussian_filter(density, self._sigma, mode="constant")


class _BlurredTruth(Truth):
    """Fixations of observers, and the density computed from them.

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
      request: its `observers` is the path of the raw fixations, which `DataSet.observers` of each set reads:
        for DIEM and the generated set a folder with a folder of event files per video (`<video>` or
        `<video>/event_data`), for Coutrot the .mat file of the database; for videos of several sets
        `diem=FOLDER,coutrot1=FILE,coutrot2=FILE`.
      recorded: the source for recorded gaze, which contains its observers. For other sets, halves of the
        observers in the raw fixations are used.

    Raises:
      AvsalError: no raw fixations are given, or a set has no raw fixations in a supported format.
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
    by_video = {}
    for name, path in raw.items():
        of_set = readers[name].read(path, [entry for entry in entries if entry.dataset == name])
        by_video |= {(name, video): people for video, people in of_set.items()}
    origin = ", ".join(tree_identity(path) for path in raw.values())
    blur = readers[sets[0]].blur if len(sets) == 1 else None
    if blur is not None and by_video:
        return HalfOfObservers(by_video, origin, blur * next(iter(by_video.values()))[1][0])
    return HalfOfObservers(by_video, origin)


def left_out(request: BaselineRequest) -> MapSource:
    """Returns leave-one-out observers of recorded gaze; for other sets, halves. See `_people`."""
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
            raise AvsalError(f"{path} does not exist; give the raw fixations of the set as --observers")
    return {name: raw[name] for name in sets}


def _sets_with_observers() -> list[str]:
    return [name for name, row in registry.table("dataset").items() if row.observers is not None]
