"""Saved maps of any method as a source: finds the files of a video and the frame of each file."""

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

_ASPECT_TOLERANCE = 0.1  # small differences are common: models predict at one size for all videos
_READ = (
    "a file for each frame, its number in the name, in FOLDER/VIDEO or FOLDER/VIDEO/maps "
    "(png, jpg, bmp, tif, webp and other pictures; npy, npz, mat), and all maps of a video "
    "[frames, height, width] as FOLDER/VIDEO/maps.npz or FOLDER/VIDEO.npz (npy too)"
)
_READ_STILL = "the map of a photograph as FOLDER/NAME.png or FOLDER/maps/NAME.png"


class SavedMaps(MapSource):
    """Maps that a method saved in a folder, as pictures or arrays, one file per frame or per video.

    Args:
      folder: contains `<video>/` or `<video>/maps/` with a file per frame, or `<video>/maps.npz` or
        `<video>.npz` with all maps of a video.
      alone: whether only one video is evaluated; its maps may then be in `folder` itself.

    The map of a photograph may also be a file of its name: FOLDER/NAME.png or FOLDER/maps/NAME.png.
    `media.numbering` assigns files to frames; the maps of a file with all maps are in order.
    """

    def __init__(self, folder, alone: bool = False):
        self.folder, self._alone = pathlib.Path(folder), alone
        if not self.folder.is_dir():
            raise AvsalError(f"there is no folder of predictions {self.folder}")
        self.label = self.folder.name or self.folder.resolve().name

    def identity(self, entry: VideoEntry) -> str:
        """Returns the identity of the video's files."""
        files = self._find(entry)
        if files is None:
            return "no maps"
        is_file = isinstance(files, pathlib.Path)
        return f"maps {tree_identity(files) if is_file else folder_identity(files.folder)}"

    def _still(self, entry: VideoEntry) -> pathlib.Path | None:
        """Returns the map with the name of a photograph: FOLDER/NAME.png or FOLDER/maps/NAME.png."""
        if not (entry.is_still and entry.frames):  # a photograph without a file has no frame
            return None
        names = [entry.name, entry.frame_name(0)]  # for photographs that differ only in their suffix
        folders = (self.folder, self.folder / "maps")
        paths = [f / f"{name}{suffix}" for f in folders for name in names for suffix in sorted(MAP_SUFFIXES)]
        return next((path for path in paths if path.is_file()), None)

    def _find(self, entry: VideoEntry) -> NumberedFiles | pathlib.Path | None:
        """Returns the files of the frames, or the file with all maps of the video."""
        if still := self._still(entry):
            return still
        video_folder = self.folder / entry.name
        folders = [video_folder / "maps", video_folder] + (
            [self.folder / "maps", self.folder] if self._alone else []
        )
        for folder in folders:
            stacks = [folder / f"maps{suffix}" for suffix in STACK_SUFFIXES]
            stacks += (
                [folder.with_name(folder.name + suffix) for suffix in STACK_SUFFIXES]
                if folder == video_folder
                else []
            )
            if files := numbered_files(folder, MAP_SUFFIXES):
                return files
            if stack := next((path for path in stacks if path.is_file()), None):
                return stack
        return None

    def _aligned(self, entry: VideoEntry) -> tuple[NumberedFiles, list[str]]:
        """Returns the files of the frames, with the number of frame 0, and notes on how it was determined."""
        files = self._find(entry)
        origin, note = place("predictions", files.numbers, entry.numbers)
        return dataclasses.replace(files, origin=origin), [note] if note else []

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Reports scored frames without a map, maps beyond the video, maps of a different aspect ratio."""
        files = self._find(entry)
        if files is None:
            return [f"{entry.name}: {self._missing(entry)}"]
        # Without published truth, all frames are submitted.
        scored = protocol.scored_indices(entry) if entry.published else list(range(entry.frames))
        if self._still(entry):
            first = read_levels(files).values
            return [f"{entry.name}: {line}" for line in _value_notes(first, entry, scored)]
        if isinstance(files, pathlib.Path):
            notes, folder = [], files.parent
            with self._stack(files, entry) as stack:
                first = next(iter(stack))
        else:
            files, notes = self._aligned(entry)
            notes, folder = notes + self._gaps(entry, files, scored), files.folder
            first = read_levels(next(files.of_frame(i) for i in range(files.length) if files.has(i))).values
        if folder in (self.folder, self.folder / "maps") and self._alone:
            notes.append(f"its predictions are read from {folder}, since it is the only video")
        return [f"{entry.name}: {line}" for line in notes + _value_notes(first, entry, scored)]

    def _gaps(self, entry: VideoEntry, files: NumberedFiles, scored: list[int]) -> list[str]:
        notes = []
        if missing := [index + 1 for index in scored if not files.has(index)]:
            notes.append(
                f"{len(missing)} of {len(scored)} frames have no prediction (the first is frame {missing[0]})"
            )
        if files.length > entry.frames + 2:
            notes.append(f"predictions up to frame {files.length}, but it has {entry.frames} frames")
        return notes + files.notes

    def _missing(self, entry: VideoEntry) -> str:
        """Returns a message with the expected folder, the existing files, and the supported formats."""
        video_folder = self.folder / entry.name
        folder = video_folder if video_folder.is_dir() else self.folder
        content = ", ".join(path.name for path in visible_files(folder)[:3]) or "nothing"
        read = f"{_READ_STILL}; {_READ}" if entry.is_still else _READ
        return f"no predictions in {video_folder}; {folder.name} holds {content}; expected: {read}"

    def _stack(self, path: pathlib.Path, entry: VideoEntry) -> MapStack:
        """Opens the file with all maps of a video, one per frame, since maps in it have no numbers."""
        stack = MapStack(path)
        frames = entry.numbers.last - entry.numbers.first + 1
        if stack.count not in (frames, entry.frames):
            stack.close()
            stack.refuse(f"one for each of the {frames} frames")
        return stack

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Reads the map of each frame."""
        files = self._find(entry)
        if files is None:
            raise AvsalError(self._missing(entry))
        if self._still(entry):
            yield read_grey(files, stretch=True)
            return
        if isinstance(files, pathlib.Path):
            with contextlib.closing(self._stack(files, entry)) as stack:
                for number, values in zip(range(entry.frames), stack, strict=False):
                    yield as_grey(Levels(values, stack.full), f"map {number + 1} of {files}", stretch=True)
            return
        files, _ = self._aligned(entry)
        for index in range(entry.frames):
            yield read_grey(files.of_frame(index), stretch=True) if files.has(index) else None


def _value_notes(first: np.ndarray, entry: VideoEntry, scored: list[int]) -> list[str]:
    """Returns notes on unusual values or shapes of the first map of a video."""
    notes = _misshapen(entry, first.shape, scored)
    if first.min() < 0:
        notes.insert(0, "the maps hold negative numbers: each is stretched from its minimum to its maximum")
    return notes


def _misshapen(entry: VideoEntry, shape: tuple[int, int], scored: list[int]) -> list[str]:
    """Returns a note if the aspect ratios of map and truth differ: the map is probably of another video."""
    if not scored:
        return []
    truth = entry.truth(scored[0]).size
    height, width = shape
    if abs(width / height * truth[0] / truth[1] - 1) <= _ASPECT_TOLERANCE:
        return []
    return [f"maps are {width}x{height}, but the truth is {truth[1]}x{truth[0]}; they are stretched"]
