"""The fixations of all observers on one stimulus, and what is computed from any subset of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.ndimage

_TIME_TOLERANCE = 1e-7  # seconds
_COLUMNS = ("observer", "x", "y", "start", "duration")


@dataclasses.dataclass(frozen=True)
class FixationTable:
    """A row for each fixation, ordered by observer, then by time.

    Attributes:
      observers: names of those who saw the stimulus, also of those without a fixation.
      size: (height, width) of the stimulus in pixels, which `x` and `y` refer to.
      observer: int32 [N], index into `observers`.
      x, y: float64 [N], pixels from the upper left corner of the stimulus; a position may lie outside.
      start: float64 [N], seconds since the first frame was shown; NaN where the files state no times.
      duration: float64 [N], seconds.
    """

    observers: tuple[str, ...]
    size: tuple[int, int]
    observer: np.ndarray
    x: np.ndarray
    y: np.ndarray
    start: np.ndarray
    duration: np.ndarray

    @classmethod
    def of_rows(
        cls, observers: Sequence[str], size: tuple[int, int], rows: Iterable[Sequence[float]]
    ) -> FixationTable:
        """Returns the table of rows (index of the observer, x, y, start, duration), sorted."""
        values = np.array(list(rows), np.float64).reshape(-1, len(_COLUMNS))
        values = values[
            np.lexsort((values[:, 3], values[:, 0]))
        ]  # stable: rows without times keep their order
        return cls(
            tuple(observers), size, values[:, 0].astype(np.int32), *(values[:, i].copy() for i in range(1, 5))
        )

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, keep: np.ndarray) -> FixationTable:
        """Returns the rows of a mask bool [N]; the numbers of observers do not change."""
        return dataclasses.replace(self, **{name: getattr(self, name)[keep] for name in _COLUMNS})

    @property
    def is_inside(self) -> np.ndarray:
        """bool [N]: whether a fixation lies on the stimulus."""
        height, width = self.size
        return (self.x >= 0) & (self.x < width) & (self.y >= 0) & (self.y < height)

    def of_observers(self, observers: Iterable[int]) -> FixationTable:
        """Returns the fixations of some observers, given by their indices."""
        return self.rows(np.isin(self.observer, list(observers)))

    def during(self, time: float) -> FixationTable:
        """Returns the fixations that last at `time` seconds: start <= time < start + duration."""
        time += _TIME_TOLERANCE  # a sum of two rounded times counts as the time that it stands for
        return self.rows((self.start <= time) & (time < self.start + self.duration))

    def cells(self, grid: tuple[int, int]) -> np.ndarray:
        """Returns int64 [M, 2], the (row, column) of each fixation inside, on a grid over the stimulus.

        A fixation lies in the cell (int(y / height * rows), int(x / width * columns)).
        """
        table, (height, width), (rows, columns) = self.rows(self.is_inside), self.size, grid
        row, column = (table.y / height * rows).astype(int), (table.x / width * columns).astype(int)
        return np.stack([np.minimum(row, rows - 1), np.minimum(column, columns - 1)], 1)

    def counts(self, grid: tuple[int, int]) -> np.ndarray:
        """Returns float64 [rows, columns]: how many fixations lie in each cell."""
        return count_cells(self.cells(grid), grid)

    def density(self, grid: tuple[int, int], sigma: float) -> np.ndarray:
        """Returns the counts blurred by a Gaussian of `sigma` cells (border reflected), float64."""
        return blur_counts(self.counts(grid), sigma)


def count_cells(cells: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns float64 `grid`: how often each (row, column) of int [N, 2] occurs."""
    counts = np.zeros(grid)
    np.add.at(counts, (cells[:, 0], cells[:, 1]), 1.0)
    return counts


def blur_counts(counts: np.ndarray, sigma: float) -> np.ndarray:
    """Returns a map of counts blurred by a Gaussian of `sigma` cells, cut at 4 sigma, border reflected."""
    return scipy.ndimage.gaussian_filter(counts, sigma)
