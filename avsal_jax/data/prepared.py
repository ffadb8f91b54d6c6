"""A prepared data set: its description, its lists, its videos, and access to any part of their sound."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from avsal_jax.data.audio import Sound
from avsal_jax.data.shards import ShardFolder
from avsal_jax.errors import AvsalError

FILE, FORMAT = "preparation.json", 1
Lists = dict[str, dict[str, list[int]]]  # split -> fold ("" for none) -> indices of videos
_MAX_VIDEOS = 100_000


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a folder of prepared data is made of: the content of its `preparation.json`.

    Attributes:
      dataset: the name that was prepared.
      height, width: pixels of the pictures.
      encoding: `jpeg` or `png`.
      videos: (set, name) of each shard, in order.
      lists: split -> fold ("" for none) -> indices of videos.
      complete: False while it is being made, or if that was broken off.
    """

    dataset: str
    height: int
    width: int
    encoding: str
    videos: tuple[tuple[str, str], ...]
    lists: Lists
    complete: bool = False

    def to_json(self) -> dict:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    def difference(self, other: Preparation) -> str:
        """Returns in words what keeps `other` from going on with this one; nothing if nothing does."""
        if self.dataset != other.dataset:
            return f"of {self.dataset}"
        mine, others = (f"{p.height}x{p.width} {p.encoding}" for p in (self, other))
        if mine != others:
            return f"{mine}, not {others}"
        if self.videos != other.videos:
            return f"of {len(self.videos)} videos; the root has {len(other.videos)}, or others"
        return ""


def folder_of(root, dataset: str) -> pathlib.Path:
    """Returns the folder of a set among prepared ones: `stavis:MINE` is in stavis-MINE."""
    return pathlib.Path(root) / dataset.replace(":", "-")


def read_preparation(folder: pathlib.Path) -> Preparation:
    """Reads the description of a folder, complete or not; AvsalError where there is none that is sound."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AvsalError(f"{folder} holds no prepared data set: there is no {FILE}") from error
    except (OSError, ValueError) as error:
        raise AvsalError(f"{path} cannot be read: {error}") from error
    try:
        if content.pop("format") != FORMAT:
            raise AvsalError(f"{path} is of another version of avsal_jax; prepare the set again")
        content["videos"] = tuple((str(dataset), str(name)) for dataset, name in content["videos"])
        found = Preparation(**content)
        count = len(found.videos)
        indices = [i for folds in found.lists.values() for part in folds.values() for i in part]
        sides = (found.height, found.width)
        if count > _MAX_VIDEOS or not all(isinstance(i, int) and 0 <= i < count for i in indices):
            raise ValueError("a list names a video that is not there")
        if not all(isinstance(side, int) and 0 < side <= 4096 for side in sides):
            raise ValueError(f"the pictures are said to be {sides}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, AvsalError):
            raise
        raise AvsalError(f"{path} is damaged: {error}; prepare the set again") from error
    return found


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """One video of a prepared set: its record, and its shards.

    Attributes:
      dataset, name: of the video.
      fps: frames per second.
      frames: how many.
      rate: Hz of its sound; 0 where it has none.
      samples: of its sound.
      piece: samples of a record of sound.
      published: whether there is truth.
      black: bool [frames], where the density is black.
      size: (height, width) of the truth of its first frame.
      category: `Social`, `Nature`, `Other` or "".
      shards, index: where its records are.
    """

    dataset: str
    name: str
    fps: float
    frames: int
    rate: int
    samples: int
    piece: int
    published: bool
    fixated: bool
    black: np.ndarray
    size: tuple[int, int]
    category: str
    shards: ShardFolder = dataclasses.field(repr=False, compare=False)
    index: int

    @property
    def sound(self) -> Sound | None:
        """Its sound, read piece by piece where samples are asked for; None where it has none."""
        return Sound(_Pieces(self), self.rate) if self.samples else None


class PreparedSet:
    """A prepared set that is complete.

    Args:
      folder: as `prepare` made it.

    Raises:
      AvsalError: there is none, or it is not complete, or damaged.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.preparation = read_preparation(self.folder)
        made = self.preparation
        if not made.complete:
            raise AvsalError(
                f"{self.folder} is not complete: preparing {made.dataset} was broken off; run the same "
                "avsal prepare again, which does what is missing"
            )
        self._shards = ShardFolder(self.folder, len(made.videos), (made.height, made.width), made.encoding)
        self._videos: dict[int, PreparedVideo | None] = {}

    def names(self) -> dict[tuple[str, str], int]:
        """Returns (set, name) -> index of every video."""
        return {key: index for index, key in enumerate(self.preparation.videos)}

    def video(self, index: int) -> PreparedVideo | None:
        """Returns a video, or None for one that could not be prepared."""
        if index not in self._videos:
            self._videos[index] = self._read(index)
        return self._videos[index]

    def listed(self, split: str, fold: int | None) -> list[int]:
        """Returns the videos of a split; AvsalError where it was not prepared."""
        made = self.preparation
        folds = made.lists.get(split)
        if not folds:
            there = ", ".join(made.lists) or "none"
            raise AvsalError(f"{self.folder} has no split {split}; it has {there}")
        key = "" if fold is None or (set(folds) == {""} and made.dataset == "diem") else str(fold)
        if key not in folds:
            there = ", ".join(fold or "none" for fold in folds)
            raise AvsalError(f"{made.dataset} was prepared with the folds {there}; got {key or 'none'}")
        return folds[key]

    def _read(self, index: int) -> PreparedVideo | None:
        if not self._shards.count_records("videos", index):
            return None
        record = self._shards.read("videos", index, [0])[0]
        video = PreparedVideo(
            dataset=record["dataset"].decode(),
            name=record["name"].decode(),
            fps=float(record["fps"]),
            frames=int(record["frames"]),
            rate=int(record["rate"]),
            samples=int(record["samples"]),
            piece=int(record["piece"]),
            published=bool(record["published"]),
            fixated=bool(record["fixated"]),
            black=record["black"],
            size=tuple(int(side) for side in record["size"]),
            category=record["category"].decode(),
            shards=self._shards,
            index=index,
        )
        self._check(video)
        return video

    def _check(self, video: PreparedVideo) -> None:
        pieces = math.ceil(video.samples / video.piece) if video.piece else 0
        expected = {"pictures": video.frames, "targets": video.frames, "sound": pieces}
        for kind, count in expected.items():
            there = self._shards.count_records(kind, video.index)
            if there != count:
                path = self._shards.path(kind, video.index)
                raise AvsalError(
                    f"{path} has {there} records, its video states {count}; prepare the set again"
                )


class _Pieces(Sequence):
    """The sound of a prepared video, as a sequence that gives slices."""

    def __init__(self, video: PreparedVideo):
        self._video = video

    def __len__(self) -> int:
        return self._video.samples

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        if end <= begin:
            return np.zeros(0, np.float32)
        video = self._video
        first, last = begin // video.piece, (end - 1) // video.piece
        records = video.shards.read("sound", video.index, range(first, last + 1))
        wave = np.concatenate([record["wave"] for record in records])
        return wave[begin - first * video.piece : end - first * video.piece]
