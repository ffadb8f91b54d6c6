"""The grid over a stimulus on which recorded gaze is scored, and the frames of a video that are scored."""

from __future__ import annotations

import bisect
import dataclasses

import numpy as np

from avsal_jax.data.gaze.fixation_table import blur_counts, count_cells
from avsal_jax.data.gaze.stimuli import DEFAULT_BLUR, Blur
from avsal_jax.data.sets.entries import VideoEntry

_TIME_TOLERANCE = 1e-6  # seconds; times are sums of rounded steps
_LEAST_OF_FEW = 2  # fixations; with one, no observer could predict another


@dataclasses.dataclass(frozen=True)
class GazeGrid:
    """A grid that depends only on the stimulus, so that scores do not depend on the model's map size.

    Attributes:
      rows: number of rows; the number of columns is round(rows * width / height) of the stimulus.
      first_time, interval: seconds; the first frames of a video at or after `first_time`,
        `first_time + interval`, ... are scored.
      least_fixations: frames of a video with fewer fixations are skipped; if the video has fewer observers
        than this, frames with fewer than 2.
      sigma: of the Gaussian blur for densities and for maps of observers, truncated at 4 sigma, with
        reflected borders.
      pixels_per_degree: of the stimulus, for a sigma in degrees.
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
        """Returns the scored frames: frame 0 of a photograph, a subset of a video."""
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
        """Returns the first frame at or after each scored time, given the times of all frames in seconds."""
        if (np.diff(times) >= 0).all():  # works for any duration, even if the last frame is far off
            due = np.floor((times - self.first_time + _TIME_TOLERANCE) / self.interval)
            return np.flatnonzero((due >= 0) & (np.diff(due, prepend=-1) > 0))
        due = np.arange(self.first_time, times.max() + _TIME_TOLERANCE, self.interval)
        # If times are not sorted, the result depends on the search algorithm. That of NumPy differs between
        # versions; the published scores were computed with this one.
        frames = np.array([bisect.bisect_left(times, time) for time in due - _TIME_TOLERANCE], int)
        return np.unique(frames[frames < len(times)])

    def least(self, entry: VideoEntry) -> int:
        """Returns the smallest number of fixations of a scored video frame."""
        is_small = entry.observers is not None and entry.observers < self.least_fixations
        return _LEAST_OF_FEW if is_small else self.least_fixations

    def density(self, entry: VideoEntry, points: np.ndarray) -> np.ndarray:
        """Returns float64 [rows, columns]: the counts of points (row, column), blurred."""
        sigma = self.sigma.cells(entry.frame_size[0], self.rows, self.pixels_per_degree)
        return blur_counts(count_cells(points, self.size(entry)), sigma)
