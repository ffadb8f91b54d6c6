"""A stimulus with recorded gaze as a video of a data set; a photograph is a video of one frame."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import numpy as np

from avsal_jax.data.gaze.fixation_table import FixationTable, blur_counts, count_cells
from avsal_jax.data.gaze.stimuli import GazeOptions, Stimulus
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.truth.fixation_maps import Fixations
from avsal_jax.data.truth.frame_truth import Truth
from avsal_jax.errors import AvsalError
from avsal_jax.identity import tree_identity
from avsal_jax.media.frame_reader import FrameReader
from avsal_jax.media.image_videos import DEFAULT_RATE
from avsal_jax.media.images import read_image

# Raise it where the same rows come to be counted otherwise: no result of an earlier reading is then reused.
READING = 1
_MAX_TRUTH_ROWS = 360  # densities are smooth: larger ones would take seconds a frame and show no more


@dataclasses.dataclass(frozen=True, kw_only=True)
class GazeEntry(VideoEntry):
    """A photograph or a video with a table of fixations.

    The truth of a photograph is all fixations of its viewing; that of a frame of a video those that last at
    the time of its presentation. Maps have the stimulus' height, at most 360 rows, and its aspect.

    Attributes:
      stimulus: its file and its fixations.
      options: how maps are made of them.
      near: name of the group of stimuli that show nearly the same; empty for none.
    """

    stimulus: Stimulus
    options: GazeOptions
    near: str = ""

    @property
    def group(self) -> str:
        return self.near or self.name

    @property
    def observers(self) -> int:
        return len(np.unique(self.stimulus.fixations.observer))

    @property
    def is_still(self) -> bool:
        return not self.stimulus.is_video

    @property
    def has_files(self) -> bool:
        return self.stimulus.path is not None

    @property
    def may_be_missing(self) -> bool:
        return not self.has_files

    @property
    def has_fixations(self) -> bool:
        return True

    def frame(self, index: int) -> np.ndarray:
        index = self._checked(index)
        return read_image(self.stimulus.path) if self.is_still else self.stimulus.reader.frame(index)

    def iter_frames(self) -> Iterator[np.ndarray]:
        if self.is_still:
            yield self.frame(0)
            return
        reader = FrameReader(self.stimulus.path)  # its own, so that `frame` may be asked for others
        for index in range(self.frames):
            yield reader.frame(index)

    @property
    def frame_size(self) -> tuple[int, int]:
        return self.stimulus.fixations.size

    def frame_name(self, index: int) -> str:
        index = self._checked(index)
        path = self.stimulus.path
        return path.name if self.is_still else f"{path.stem}_{index + 1:06d}.png"

    def frame_time(self, index: int) -> float:
        index = self._checked(index)
        return 0.0 if self.is_still else float(self.stimulus.reader.times[index])

    def table(self, index: int) -> FixationTable:
        """Returns the fixations of all observers that belong to a frame, with those outside the stimulus."""
        index = self._checked(index)
        fixations = self.stimulus.fixations
        return fixations if self.is_still else fixations.during(self.frame_time(index))

    def has_truth(self, index: int) -> bool:
        return bool(self.table(index).is_inside.any())

    def truth(self, index: int) -> GazeTruth:
        return GazeTruth(self, self.table(index))

    def grid_density(self, points: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Returns float64 `grid`: points (row, column) counted, and blurred as `options` say."""
        height = self.stimulus.fixations.size[0]
        sigma = self.options.sigma.cells(height, grid[0], self.options.pixels_per_degree)
        return blur_counts(count_cells(points, grid), sigma)

    @property
    def truth_size(self) -> tuple[int, int]:
        """(h, w) of the maps, in pixels."""
        height, width = self.stimulus.fixations.size
        rows = min(height, _MAX_TRUTH_ROWS)
        return rows, max(1, round(rows * width / height))

    def identity(self) -> list[str]:
        table = self.stimulus.fixations
        rows = hashlib.sha256(repr((table.observers, table.size)).encode())
        for column in (table.observer, table.x, table.y, table.start, table.duration):
            rows.update(np.ascontiguousarray(column).tobytes())
        return [
            f"{self.frames} frames, {self.fps} fps, reading gaze {READING}, sigma {self.options.sigma}, "
            f"{self.options.pixels_per_degree} pixels per degree",
            rows.hexdigest(),
            tree_identity(self.stimulus.path) if self.has_files else "no file",
        ]


class GazeTruth(Truth):
    """The fixations of a frame, and the density that is made of them.

    Args:
      entry: the stimulus.
      table: the fixations of all observers that belong to the frame.
    """

    def __init__(self, entry: GazeEntry, table: FixationTable):
        self._entry, self._table = entry, table

    @functools.cached_property
    def density(self) -> np.ndarray:
        density = self._entry.grid_density(self.grid_points(self.size), self.size)
        top = density.max()
        return density / top if top > 0 else density

    @functools.cached_property
    def fixations(self) -> Fixations:
        points = np.unique(self.grid_points(self.size), axis=0)
        return Fixations(points.astype(np.int32))

    @property
    def size(self) -> tuple[int, int]:
        return self._entry.truth_size

    def grid_points(self, grid: tuple[int, int]) -> np.ndarray:
        return self._table.cells(grid)


def gaze_entry(dataset: str, stimulus: Stimulus, options: GazeOptions, near: str = "") -> GazeEntry:
    """Returns a stimulus as an entry; one whose file is missing or damaged has no frame, and a note."""
    notes, frames, rate, sound = list(stimulus.notes), 0, DEFAULT_RATE, None
    if stimulus.path is not None:
        table = stimulus.fixations
        if outside := int((~table.is_inside).sum()):
            notes.append(f"{outside} of {len(table)} fixations lie outside it: they are left out")
        if not table.is_inside.any():
            notes.append("no observer has a fixation on it")
        elif not stimulus.is_video:
            frames = 1
        else:
            try:
                reader = stimulus.reader
                info = reader.video.info
                frames, rate, sound = reader.count, float(info.rate), info.sound
                notes += reader.notes
            except AvsalError as error:
                notes.append(str(error))
    return GazeEntry(
        dataset=dataset,
        name=stimulus.name,
        frames=frames,
        fps=rate,
        listed_frames=None,
        category=None,
        notes=tuple(notes),
        sound=sound,
        stimulus=stimulus,
        options=options,
        near=near,
    )
