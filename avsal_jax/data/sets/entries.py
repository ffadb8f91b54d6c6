"""A video of a data set: the definition of its names, dtypes and units."""

from __future__ import annotations

import abc
import dataclasses
import functools
import operator
import pathlib
from collections.abc import Iterator

import numpy as np

from avsal_jax.data.truth.frame_truth import FileTruth, Truth
from avsal_jax.data.truth.truth_files import READING, NumberedFiles
from avsal_jax.identity import folder_identity, tree_identity
from avsal_jax.media.images import read_image
from avsal_jax.media.numbering import Numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoEntry(abc.ABC):
    """One video with its truth, on disk; frames are read one at a time, on demand.

    A photograph is a video of one frame. Frame `index` counts from 0.

    Attributes:
      dataset: the set that the video comes from: `diem`, also for a video of the `ave` lists.
      name: of the video, as in the lists.
      frames: number up to the last with an image, truth, and a place in the list. 0 if the video cannot be
        used; `notes` has the reason. Some of these frames may lack truth (`has_truth`).
      fps: frames per second.
      listed_frames: number of frames that the list states, or None.
      category: `Social`, `Nature` or `Other`, if published.
      notes: lines on inconsistencies.
      sound: the sound file, or None.
      published: False if the truth is not published (the test videos of DHF1K).
      without_truth: number of images without truth, before and after the last frame.
    """

    dataset: str
    name: str
    frames: int
    fps: float
    listed_frames: int | None
    category: str | None
    notes: tuple[str, ...]
    sound: pathlib.Path | None
    published: bool = True
    without_truth: int = 0

    @property
    def group(self) -> str:
        """Name that near-duplicate videos share; the video's own name if it has no near-duplicate."""
        return self.name

    @property
    def observers(self) -> int | None:
        """Number of observers; None if fixations are given as maps."""
        return None

    @property
    def is_still(self) -> bool:
        """Whether it is a photograph."""
        return False

    @property
    @abc.abstractmethod
    def has_files(self) -> bool:
        """Whether its images and its truth exist, even if they are inconsistent."""

    @property
    def may_be_missing(self) -> bool:
        """Whether it is a stimulus that this copy of its set lacks; this is reported, but not an error."""
        return False

    @property
    @abc.abstractmethod
    def has_fixations(self) -> bool:
        """Whether it has fixations, not densities alone."""

    @property
    def numbers(self) -> Numbers:
        """The numbers of its frames' images; from 1 if they are not numbered files."""
        return Numbers(1, self.frames, self.frames)

    def has_image(self, index: int) -> bool:
        """Whether the image of a frame exists, without which only saved maps can be scored."""
        return self.has_files

    @abc.abstractmethod
    def frame(self, index: int) -> np.ndarray:
        """Returns RGB uint8 [H, W, 3].

        Raises:
          AvsalError: the file is missing or cannot be read.
          IndexError: there is no such frame.
        """

    def iter_frames(self) -> Iterator[np.ndarray]:
        """Yields all frames in order; errors as in `frame`."""
        return (self.frame(index) for index in range(self.frames))

    @functools.cached_property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the frames, in pixels; errors as in `frame`."""
        return self.frame(0).shape[:2]

    @abc.abstractmethod
    def frame_name(self, index: int) -> str:
        """Returns the file name of the frame in its data set, as `img_00001.jpg`; errors as in `frame`."""

    def frame_time(self, index: int) -> float:
        """Returns the seconds from the first frame to frame `index`."""
        return self._checked(index) / self.fps

    @abc.abstractmethod
    def has_truth(self, index: int) -> bool:
        """Whether a frame has a density map and, if the video has fixations, those of the frame."""

    @abc.abstractmethod
    def truth(self, index: int) -> Truth | None:
        """Returns the truth of a frame, not yet read; None if it is not published.

        Raises:
          IndexError: there is no such frame.
        """

    @abc.abstractmethod
    def identity(self) -> list[str]:
        """Returns the identity of the video's frames, truth and sound, on which results depend."""

    def _checked(self, index: int) -> int:
        index = operator.index(index)
        if not 0 <= index < self.frames:
            raise IndexError(f"{self.dataset} {self.name} has frames 0 to {self.frames - 1}, not {index}")
        return index


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry(VideoEntry):
    """A video whose frames and truth are numbered files.

    Each kind of files has the number of frame 0 as `origin` (`numbering` has the rule).

    Attributes:
      images: the frames' files, or None.
      maps: the density maps' files, or None.
      fixation_maps: the fixation maps' files, or None.
      variable: of the fixation maps, if they are .mat files.
    """

    images: NumberedFiles | None
    maps: NumberedFiles | None
    fixation_maps: NumberedFiles | None
    variable: str = "eyeMap"

    @property
    def has_files(self) -> bool:
        return self.images is not None and self.maps is not None

    @property
    def has_fixations(self) -> bool:
        return self.fixation_maps is not None

    @property
    def numbers(self) -> Numbers:
        return Numbers(self.images.origin, self.images.last, self.images.count)

    def has_image(self, index: int) -> bool:
        return self.images.has(index)

    def frame(self, index: int) -> np.ndarray:
        index = self._checked(index)
        return read_image(self.images.of_frame(index))

    def frame_name(self, index: int) -> str:
        index = self._checked(index)
        return self.images.of_frame(index).name

    def has_truth(self, index: int) -> bool:
        index, kinds = self._checked(index), (self.maps, self.fixation_maps)
        return self.published and all(files.has(index) for files in kinds if files is not None)

    def truth(self, index: int) -> Truth | None:
        index = self._checked(index)
        if not self.published:
            return None
        fixation_path = None if self.fixation_maps is None else self.fixation_maps.of_frame(index)
        return FileTruth(self.maps.of_frame(index), fixation_path, self.variable)

    def identity(self) -> list[str]:
        folders = [files.folder for files in (self.images, self.maps, self.fixation_maps) if files]
        sound = [tree_identity(self.sound)] if self.sound else []
        return [
            f"{self.frames} frames, {self.fps} fps, reading {READING}",
            *map(folder_identity, folders),
            *sound,
        ]
