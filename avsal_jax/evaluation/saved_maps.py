"""Saved maps of any method as a source: where they lie, which frame each belongs to."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.truth.grey_maps import (
    MAP_SUFFIXES,
    STACK_SUFFIXES,
    Levels,
    MapStack,
    as_grey,
    read_grey,
    read_levels,
)
from avsal_jax.data.truth.truth_files import NumberedFiles, numbered_files
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.map_sources import MapSource
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.identity import folder_identity, tree_identity
from avsal_jax.media.images import visible_files
from avsal_jax.media.numbering import place

_ASPECT_TOLERANCE = 0.1  # models work at one size whatever the video's, so a little is common
_READ = (
    "a file for each frame, its number in the name, in FOLDER/VIDEO or FOLDER/VIDEO/maps "
    "(png, jpg, bmp, tif, webp and other pictures; npy, npz, mat), and all maps of a video "
    "[frames, height, width] as FOLDER/VIDEO/maps.npz or FOLDER/VIDEO.npz (npy too)"
)
_READ_STILL = "the map of a photograph as FOLDER/NAME.png or FOLDER/maps/NAME.png"


class SavedMaps(MapSource):
    """Maps that a method left in a folder, as pictures or numbers, a file for each frame or for each video.

    Args:
      folder: holds `<video>/` or `<video>/maps/` with a file for each frame, or `<video>/maps.npz`,
        `<video>.npz` with all maps of a video.
      alone: whether one video alone is evaluated; its maps may then lie in `folder` itself.

    The map of a photograph may also be a file of its name: FOLDER/NAME.png or FOLDER/maps/NAME.png.
    Frames belong to files as `media.numbering` says; those of a file with all maps go in order.
    """

    def __init__(self, folder, alone: bool = False):
        self.folder, self._alone = pathlib.Path(folder), alone
        if not self.folder.is_dir():
            raise AvsalError(f"there is no folder of predictions {self.folder}")
        self.label = self.folder.name or self.folder.resolve().name

    def identity(self, entry: VideoEntry) -> str:
        """Returns that of the video's files."""
        found = self._find(entry)
        if found is None:
            return "no maps"
        whole = isinstance(found, pathlib.Path)
        return f"maps {tree_identity(found) if whole else folder_identity(found.folder)}"

    def _still(self, entry: VideoEntry) -> pathlib.Path | None:
        """Returns the map of a photograph that is named as it is: FOLDER/NAME.png or FOLDER/maps/NAME.png."""
        if not (entry.is_still and entry.frames):  # a photograph without a file has no frame
            return None
        names = [entry.name, entry.frame_name(0)]  # of photographs that differ in their suffix alone
        folders = (self.folder, self.folder / "maps")
        paths = [f / f"{name}{suffix}" for f in folders for name in names for suffix in sorted(MAP_SUFFIXES)]
        return next((path for path in paths if path.is_file()), None)

    def _find(self, entry: VideoEntry) -> NumberedFiles | pathlib.Path | None:
        """Returns the files of the frames, or the file with all maps of the video."""
        if still := self._still(entry):
            return still
        own = self.folder / entry.name
        folders = [own / "maps", own] + ([self.folder / "maps", self.folder] if self._alone else [])
        for folder in folders:
            stacks = [folder / f"maps{suffix}" for suffix in STACK_SUFFIXES]
            stacks += (
                [folder.with_name(folder.name + suffix) for suffix in STACK_SUFFIXES] if folder == own else []
            )
            if files := numbered_files(folder, MAP_SUFFIXES):
                return files
            if stack := next((path for path in stacks if path.is_file()), None):
                return stack
        return None

    def _aligned(self, entry: VideoEntry) -> tuple[NumberedFiles, list[str]]:
        """Returns the files of the frames, with the number of frame 0, and what a user should know of it."""
        files = self._find(entry)
        origin, note = place("predictions", files.numbers, entry.numbers)
        return dataclasses.replace(files, origin=origin), [note] if note else []

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Frames that are scored but have no map, maps beyond the video, maps of another shape than it."""
        found = self._find(entry)
        if found is None:
            return [f"{entry.name}: {self._none(entry)}"]
        # All are handed in where no truth is published.
        scored = protocol.frames(entry) if entry.published else list(range(entry.frames))
        if self._still(entry):
            first = read_levels(found).values
            return [f"{entry.name}: {line}" for line in _value_notes(first, entry, scored)]
        if isinstance(found, pathlib.Path):
            told, folder = [], found.parent
            with self._stack(found, entry) as stack:
                first = next(iter(stack))
        else:
            found, told = self._aligned(entry)
            told, folder = told + self._gaps(entry, found, scored), found.folder
            first = read_levels(next(found.of_frame(i) for i in range(found.length) if found.has(i))).values
        if folder in (self.folder, self.folder / "maps") and self._alone:
            told.append(f"its predictions are taken from {folder}, since it is the only video")
        return [f"{entry.name}: {line}" for line in told + _value_notes(first, entry, scored)]

    def _gaps(self, entry: VideoEntry, files: NumberedFiles, scored: list[int]) -> list[str]:
        told = []
        if missing := [index + 1 for index in scored if not files.has(index)]:
            told.append(
                f"{len(missing)} of {len(scored)} frames have no prediction (the first is frame {missing[0]})"
            )
        if files.length > entry.frames + 2:
            told.append(f"predictions up to frame {files.length}, but it has {entry.frames} frames")
        return told + files.notes

    def _none(self, entry: VideoEntry) -> str:
        """Says where predictions were sought, what lies there, and what is read."""
        own = self.folder / entry.name
        folder = own if own.is_dir() else self.folder
        there = ", ".join(path.name for path in visible_files(folder)[:3]) or "nothing"
        read = f"{_READ_STILL}; {_READ}" if entry.is_still else _READ
        return f"no predictions in {own}; {folder.name} holds {there}; read are {read}"

    def _stack(self, path: pathlib.Path, entry: VideoEntry) -> MapStack:
        """Opens the file with all maps of a video: one for each frame, since they carry no numbers."""
        stack = MapStack(path)
        frames = entry.numbers.last - entry.numbers.first + 1
        if stack.count not in (frames, entry.frames):
            stack.close()
            stack.refuse(f"one for each of the {frames} frames")
        return stack

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Reads the map of each frame."""
        found = self._find(entry)
        if found is None:
            raise AvsalError(self._none(entry))
        if self._still(entry):
            yield read_grey(found, stretch=True)
            return
        if isinstance(found, pathlib.Path):
            with contextlib.closing(self._stack(found, entry)) as stack:
                for number, values in zip(range(entry.frames), stack, strict=False):
                    yield as_grey(Levels(values, stack.full), f"map {number + 1} of {found}", stretch=True)
            return
        files, _ = self._aligned(entry)
        for index in range(entry.frames):
            yield read_grey(files.of_frame(index), stretch=True) if files.has(index) else None


def _value_notes(first: np.ndarray, entry: VideoEntry, scored: list[int]) -> list[str]:
    """Returns what is unusual about the first map of a video."""
    notes = _misshapen(entry, first.shape, scored)
    if first.min() < 0:
        notes.insert(0, "the maps hold negative numbers: each is stretched from its smallest to its largest")
    return notes


def _misshapen(entry: VideoEntry, shape: tuple[int, int], scored: list[int]) -> list[str]:
    """A map is resized to its truth; one of another aspect ratio was probably made for something else."""
    if not scored:
        return []
    truth = entry.truth(scored[0]).size
    height, width = shape
    if abs(width / height * truth[0] / truth[1] - 1) <= _ASPECT_TOLERANCE:
        return []
    return [f"maps are {width}x{height}, but the truth is {truth[1]}x{truth[0]}; they are stretched"]
