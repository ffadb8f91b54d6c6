"""A video of a data set: the one statement of its names, dtypes and units."""

from __future__ import annotations

import dataclasses
import operator
import pathlib

import numpy as np

from avsal_jax.data.truth_files import (
    NumberedFiles,
    count_nan,
    encoded_density,
    read_density,
    read_fixations,
    read_size,
)
from avsal_jax.data.video import read_image
from avsal_jax.errors import AvsalError
from avsal_jax.identity import folder_identity, tree_identity


@dataclasses.dataclass(frozen=True)
class VideoEntry:
    """One video with its truth, on disk; frames are read one at a time, when asked for.

    Frame `index` counts from 0. Its image, density and fixation map are the files of one number.

    Attributes:
      dataset: the set that the video comes from: `diem`, also for a video of the `ave` lists.
      name: of the video, as in the lists.
      frames: usable frames: the minimum of image files, map files and the list. 0 where the video is
        listed but its files are missing; `notes` say which.
      fps: frames per second.
      listed: number of frames that the list states, or None.
      category: `Social`, `Nature` or `Other`, where published.
      notes: what disagreed, in words.
      sound: the sound file, or None.
      images: the frames' files, or None.
      maps: the density maps' files, or None.
      fixation_maps: the fixation maps' files, or None.
      published: False where there is no published truth (the test videos of DHF1K).
      first: the number of frame 0 in file names.
      variable: of the fixation maps, where those are .mat files.
    """

    dataset: str
    name: str
    frames: int
    fps: float
    listed: int | None
    category: str | None
    notes: tuple[str, ...]
    sound: pathlib.Path | None
    images: NumberedFiles | None
    maps: NumberedFiles | None
    fixation_maps: NumberedFiles | None
    published: bool = True
    first: int = 1
    variable: str = "eyeMap"

    def frame(self, index: int) -> np.ndarray:
        """Returns RGB uint8 [H, W, 3].

        Raises:
          AvsalError: the file is missing or cannot be read.
          IndexError: there is no such frame.
        """
        number = self._number(index)
        return read_image(self.images.path(number))

    def frame_name(self, index: int) -> str:
        """Returns the file name of the frame in its data set, as `img_00001.jpg`; errors as in `frame`."""
        number = self._number(index)
        return self.images.name(number)

    def density(self, index: int) -> np.ndarray | None:
        """Returns the continuous map / 255: float64 [h, w] in [0, 1]; None where none is published.

        Errors as in `frame`.
        """
        number = self._number(index)
        return read_density(self.maps.path(number)) if self.published else None

    def fixations(self, index: int) -> np.ndarray | None:
        """Returns int32 [N, 2], (row, column) in a map of `truth_size`; None where none are published.

        A pixel counts once, however often it was looked at. Errors as in `frame`.
        """
        number = self._number(index)
        if not self.published:
            return None
        if self.fixation_maps is None:
            raise AvsalError(f"{self.dataset} {self.name} has no fixation maps beside {self.maps.folder}")
        return read_fixations(self.fixation_maps.path(number), self.variable)

    def truth_size(self, index: int) -> tuple[int, int] | None:
        """Returns (h, w) of the fixation map, or of the density where there is none.

        None where no truth is published. Errors as in `frame`.
        """
        number = self._number(index)
        if not self.published:
            return None
        return read_size((self.fixation_maps or self.maps).path(number), self.variable)

    def encoded_density(self, index: int) -> bytes:
        """Returns the continuous map as an 8-bit grey JPEG or PNG: the file as it is, where it is such a one.

        Errors as in `frame`; also where no truth is published.
        """
        if not self.published:
            raise AvsalError(f"{self.dataset} {self.name} has no published truth")
        return encoded_density(self.maps.path(self._number(index)))

    def damaged_fixations(self, index: int) -> int:
        """Returns how many values of the fixation map are no numbers (NaN); they count as not fixated."""
        number = self._number(index)
        known = self.published and self.fixation_maps is not None
        return count_nan(self.fixation_maps.path(number), self.variable) if known else 0

    def identity(self) -> list[str]:
        """Returns the identity of the video's frames, truth and sound: what results depend on."""
        folders = [files.folder for files in (self.images, self.maps, self.fixation_maps) if files]
        sound = [tree_identity(self.sound)] if self.sound else []
        return [f"{self.frames} frames, {self.fps} fps", *map(folder_identity, folders), *sound]

    def _number(self, index: int) -> int:
        index = operator.index(index)
        if not 0 <= index < self.frames:
            raise IndexError(f"{self.dataset} {self.name} has frames 0 to {self.frames - 1}, not {index}")
        return self.first + index
