"""The grid over a stimulus on which recorded gaze is scored, and the frames of a video that are scored."""

from __future__ import annotations

import bisect
import dataclasses

import numpy as np

from avsal_jax.data.gaze.fixation_table import blur_counts, count_cells
from avsal_jax.data.gaze.stimuli import DEFAULT_BLUR, Blur
from avsal_jax.data.sets.entries import VideoEntry

_TIME_TOLERANCE = 1e-6  # seconds; times are sums of rounded steps
_LEAST_OF_FEW = 2  # fixations, so that one observer can predict another


@dataclasses.dataclass(frozen=True)
class GazeGrid:
    """Cells of a size that depends on the stimulus alone, so that no model's size enters a figure.

    Attributes:
      rows: of the grid; columns follow from the aspect of the stimulus, round(rows * width / height).
      first_time, interval: seconds; of a video, the first frames at or after `first_time`,
        `first_time + interval`, ... are scored.
      least_fixations: frames of a video with fewer are left out; with fewer than 2, where a video has fewer
        observers than this.
      sigma: of the Gaussian that makes densities and people's maps, cut at 4 sigma, border reflected.
      pixels_per_degree: for a sigma in degrees.
    """

    rows: int = 72
    first_time: float = 0.6
    interval: float = 1.0
    least_fixations: int = 5
    sigma: Blur = DEFAULT_BLUR
    pixels_per_degree: float | None = None

    def size(self, entry: VideoEntry) -> tuple[int, int]:
        """Returns (rows, columns)."""
        height, width = entry.frame_size
        return self.rows, max(1, round(self.rows * width / height))

    def frames(self, entry: VideoEntry) -> list[int]:
        """Returns the frames that are scored: the one of a photograph, some of a video."""
        if not entry.frames:
            return []
        if entry.is_still:
            return [0] if entry.has_truth(0) else []
        times = np.array([entry.frame_time(index) for index in range(entry.frames)])
        frames = self._first_frames(times)
        grid, least = self.size(entry), self.least(entry)
        return [
            index
            for index in map(int, frames)
            if entry.has_truth(index) and len(entry.truth(index).grid_points(grid)) >= least
        ]

    def _first_frames(self, times: np.ndarray) -> np.ndarray:
        """Returns the first frames at or after each time that is due, of all frames' times in seconds."""
        if (np.diff(times) >= 0).all():  # any length of time, as of a file whose last frame is far off
            due = np.floor((times - self.first_time + _TIME_TOLERANCE) / self.interval)
            return np.flatnonzero((due >= 0) & (np.diff(due, prepend=-1) > 0))
        due = np.arange(self.first_time, times.max() + _TIME_TOLERANCE, self.interval)
        # Where times go back and forth, the frame depends on the steps of the search. NumPy's differ between
        # its versions; these are those by which the published figures were made.
        frames = np.array([bisect.bisect_left(times, time) for time in due - _TIME_TOLERANCE], int)
        return np.unique(frames[frames < len(times)])

    def least(self, entry: VideoEntry) -> int:
        """Returns how many fixations a frame of a video has at least."""
        is_small = entry.observers is not None and entry.observers < self.least_fixations
        return _LEAST_OF_FEW if is_small else self.least_fixations

    def density(self, entry: VideoEntry, points: np.ndarray) -> np.ndarray:
        """Returns float64 [rows, columns]: points (row, column) counted and blurred."""
        sigma = self.sigma.cells(entry.frame_size[0], self.rows, self.pixels_per_degree)
        return blur_counts(count_cells(points, self.size(entry)), sigma)
