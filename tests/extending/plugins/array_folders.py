"""A data set in a layout of its own: frames as pictures, densities as an array, fixations as a table.

  ROOT/train.txt, ROOT/test.txt      the videos of each split, a name per line
  ROOT/VIDEO/frames/0001.png ...     the frames
  ROOT/VIDEO/density.npy             float [frames, height, width] in [0, 1]
  ROOT/VIDEO/fixations.csv           frame, row, column, counted from 0, in pixels of the density
  ROOT/VIDEO/sound.wav               the sound; silence where it is missing

  avsal prepare --plugin array_folders.py --dataset lab_walks --root ROOT --output prepared
  avsal evaluate --plugin array_folders.py --dataset arrays:MINE --root ROOT --model centre --output results

`lab_walks` is a registered set. `arrays:NAME` is any other folder in this layout.
"""

import csv
import dataclasses
import functools
import pathlib

import numpy as np

from avsal_jax import AvsalError, register
from avsal_jax.data import (
    IMAGE_SUFFIXES,
    ArrayTruth,
    DataSet,
    Fixations,
    ListedVideo,
    NumberedFiles,
    Packaging,
    Truth,
    VideoEntry,
    numbered_files,
    read_image,
    tree_identity,
)

AVSAL_API = "1.0"
RATE = 25.0  # frames per second


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayVideo(VideoEntry):
    """A video whose truth is arrays.

    Attributes:
      folder: of the video.
      images: its frames' files.
    """

    folder: pathlib.Path
    images: NumberedFiles

    has_files = True
    has_fixations = True

    @functools.cached_property
    def densities(self) -> np.ndarray:
        """float [frames, height, width]."""
        return np.load(self.folder / "density.npy", mmap_mode="r", allow_pickle=False)

    @functools.cached_property
    def points(self) -> np.ndarray:
        """int32 [fixations, 3]: frame, row, column."""
        with (self.folder / "fixations.csv").open(newline="", encoding="utf-8") as file:
            rows = [[int(row[key]) for key in ("frame", "row", "column")] for row in csv.DictReader(file)]
        return np.array(rows, np.int32).reshape(-1, 3)

    def frame(self, index: int) -> np.ndarray:
        return read_image(self.images.of_frame(index))

    def frame_name(self, index: int) -> str:
        return self.images.of_frame(index).name

    def has_truth(self, index: int) -> bool:
        return True

    def truth(self, index: int) -> Truth:
        points = np.unique(self.points[self.points[:, 0] == index, 1:], axis=0)
        return ArrayTruth(np.asarray(self.densities[index], np.float64), Fixations(points))

    def identity(self) -> list[str]:
        """A change of any file makes the video another one: it is prepared and evaluated again."""
        return [f"arrays 1, {self.fps} fps", tree_identity(self.folder)]


@register("packaging", "arrays")
class ArrayFolders(Packaging):
    """VIDEO/frames, VIDEO/density.npy and VIDEO/fixations.csv, with a list of names for each split."""

    @classmethod
    def user_set(cls, name: str) -> DataSet:
        return DataSet(title=name, packaging=cls(), fps=RATE)

    def check(self) -> None:
        if not list(self.root.glob("*/density.npy")):
            raise AvsalError(f"{self.root} has no VIDEO/density.npy; it is not the root of {self.dataset}")

    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        path = self.root / f"{self.split}.txt"
        if not path.is_file():
            raise AvsalError(f"{self.dataset} needs the list {path}")
        return tuple(ListedVideo(name) for name in path.read_text(encoding="utf-8").split())

    def entry(self, video: ListedVideo) -> VideoEntry:
        folder = self.root / video.video
        images = numbered_files(folder / "frames", IMAGE_SUFFIXES)
        complete = images is not None and (folder / "density.npy").is_file()
        sound = folder / "sound.wav"
        return ArrayVideo(
            dataset=self.dataset,
            name=video.video,
            frames=images.count if complete else 0,
            fps=self.rate(video),
            listed_frames=None,
            category=None,
            notes=() if complete else (f"{folder} lacks frames or density.npy",),
            sound=sound if sound.is_file() else None,
            folder=folder,
            images=images,
        )


register("dataset", "lab_walks")(
    DataSet(
        title="Walks through our laboratory",
        about="videos of a camera that is carried, watched by our students",
        packaging=ArrayFolders(),
        fps=RATE,
        licence="ours; not for publication",
    )
)
