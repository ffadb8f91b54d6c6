"""The truth of a frame as one object that reads every file once."""

from __future__ import annotations

import abc
import functools
import pathlib

import numpy as np

from avsal_jax.data.truth.fixation_maps import NO_FIXATIONS, Fixations, rescale_points
from avsal_jax.data.truth.grey_maps import grey_png
from avsal_jax.data.truth.truth_files import DensityFile, read_density_file, read_fixation_map, read_size


class Truth(abc.ABC):
    """The truth of a frame.

    Values are read or computed when they are first used, and cached in this object. Reading raises AvsalError
    if a file is missing or cannot be read.
    """

    @property
    @abc.abstractmethod
    def density(self) -> np.ndarray:
        """The continuous map: float64 [h, w] in [0, 1]."""

    @property
    @abc.abstractmethod
    def fixations(self) -> Fixations:
        """Points int32 [N, 2], (row, column) in a map of `size`, and what is unusual about that map.

        A pixel counts once, independent of how often it was fixated. Without fixation maps there are no
        points. Raises AvsalError also if the file is not a fixation map.
        """

    @property
    def density_size(self) -> tuple[int, int]:
        """(h, w) of the density, in pixels."""
        return self.density.shape

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the fixation map, in pixels; of the density if there is no fixation map."""
        return self.density_size

    @property
    def is_black(self) -> bool:
        """Whether the density is 0 everywhere."""
        return not self.density.any()

    @property
    def encoded(self) -> bytes:
        """The density as an 8-bit grey JPEG or PNG: the unchanged file, if it has that format."""
        return grey_png(self.density)

    def grid_points(self, grid: tuple[int, int]) -> np.ndarray:
        """Returns int64 [N, 2], (row, column) on a grid over the frame, a row for each fixation.

        If files list the fixations of each observer, a position that two of them fixate counts twice.
        """
        return rescale_points(self.fixations.points, self.size, grid)


class ArrayTruth(Truth):
    """Truth in memory.

    Args:
      density: float64 [h, w] in [0, 1].
      fixations: points (row, column) in [h, w].
    """

    def __init__(self, density: np.ndarray, fixations: Fixations = NO_FIXATIONS):
        self._density, self._fixations = density, fixations

    @property
    def density(self) -> np.ndarray:
        return self._density

    @property
    def fixations(self) -> Fixations:
        return self._fixations


class FileTruth(Truth):
    """Truth in files: a density map, and optionally a fixation map.

    Args:
      density_path: a picture.
      fixation_path: a picture or a .mat; None if the video has no fixation maps.
      variable: of the fixation map, if it is a .mat.
    """

    def __init__(self, density_path: pathlib.Path, fixation_path: pathlib.Path | None, variable: str):
        self._density_path, self._fixation_path, self._variable = density_path, fixation_path, variable
        self._size: tuple[int, int] | None = None

    @functools.cached_property
    def _density_file(self) -> DensityFile:
        return read_density_file(self._density_path)

    @functools.cached_property
    def density(self) -> np.ndarray:
        grey = self._density_file.grey
        return grey / 255.0 if grey.dtype == np.uint8 else grey

    @functools.cached_property
    def fixations(self) -> Fixations:
        if self._fixation_path is None:
            return NO_FIXATIONS
        fixations, self._size = read_fixation_map(self._fixation_path, self._variable)
        return fixations

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels; from the headers of the fixation map if `fixations` has not read it."""
        if self._fixation_path is None:
            return self.density_size
        if self._size is None:
            self._size = read_size(self._fixation_path, self._variable)
        return self._size

    @property
    def density_size(self) -> tuple[int, int]:
        return self._density_file.grey.shape

    @property
    def is_black(self) -> bool:
        return not self._density_file.grey.any()

    @property
    def encoded(self) -> bytes:
        content, grey = self._density_file.content, self._density_file.grey
        return grey_png(grey) if content is None else content
