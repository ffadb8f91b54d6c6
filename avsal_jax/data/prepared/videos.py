"""A prepared data set: its description, its lists, its videos, and access to any part of their sound."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from avsal_jax import registry
from avsal_jax.data.prepared.shards import ShardFolder
from avsal_jax.errors import AvsalError
from avsal_jax.media.clip_sound import Sound

FILE, FORMAT = "preparation.json", 2
Lists = dict[str, dict[str, list[int]]]  # split -> fold ("" for none) -> indices of videos
ENCODINGS, MAX_SIDE = ("jpeg", "png"), 4096  # of the pictures; pixels
_MAX_VIDEOS = 100_000
_PREPARE_AGAIN = "delete {} and prepare the set again"


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The description of a folder of prepared data: the content of its `preparation.json`.

    Attributes:
      dataset: the name that was prepared.
      height, width: pixels of the pictures.
      encoding: `jpeg` or `png`.
      videos: (set, name) of each shard, in order.
      lists: split -> fold ("" for none) -> indices of videos.
      failed: indices of the videos without records, because their files are damaged.
      complete: False during preparation, or if it was interrupted.
    """

    dataset: str
    height: int
    width: int
    encoding: str
    videos: tuple[tuple[str, str], ...]
    lists: Lists
    failed: tuple[int, ...] = ()
    complete: bool = False

    def to_json(self) -> dict:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    def difference(self, other: Preparation) -> str:
        """Returns a description of why `other` cannot continue this preparation; '' if it can."""
        if self.dataset != other.dataset:
            return f"of {self.dataset}"
        form, new_form = (f"{p.height}x{p.width} {p.encoding}" for p in (self, other))
        if form != new_form:
            return f"{form}, not {new_form}"
        if self.videos != other.videos:
            return f"of {len(self.videos)} videos; the root has {len(other.videos)}, or others"
        return ""


_FIELDS = tuple(field.name for field in dataclasses.fields(Preparation))


def folder_of(root, dataset: str) -> pathlib.Path:
    """Returns the folder of a prepared set: `stavis:MINE` is in stavis-MINE."""
    return pathlib.Path(root) / dataset.replace(":", "-")


def read_preparation(folder: pathlib.Path) -> Preparation:
    """Reads the description of a folder, complete or not; raises AvsalError if it is missing or damaged."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AvsalError(f"{folder} holds no prepared data set: there is no {FILE}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise AvsalError(f"{path} cannot be read: {error}; {_PREPARE_AGAIN.format(folder)}") from error
    if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
        raise AvsalError(f"{path} is of another version of avsal_jax; {_PREPARE_AGAIN.format(folder)}")
    try:
        _check_form(content)
        videos = tuple((dataset, name) for dataset, name in content["videos"])
        fields = {name: content[name] for name in _FIELDS}
        preparation = Preparation(**{**fields, "videos": videos, "failed": tuple(content["failed"])})
        _check(preparation)
    except ValueError as error:
        raise AvsalError(f"{path} is damaged: {error}; {_PREPARE_AGAIN.format(folder)}") from error
    return preparation


def _check_form(content) -> None:
    """Raises ValueError if a description lacks a field, has an unknown one, or has a wrong type."""
    if not isinstance(content, dict):
        raise ValueError("it holds no object with fields")
    if different := sorted({"format", *_FIELDS} ^ set(content)):
        raise ValueError(
            f"it {'has a strange' if different[0] in content else 'lacks the'} field {different[0]!r}"
        )
    videos, lists, failed = content["videos"], content["lists"], content["failed"]
    if not isinstance(videos, list) or not all(
        isinstance(video, list) and len(video) == 2 and all(isinstance(word, str) for word in video)
        for video in videos
    ):
        raise ValueError("its videos are not pairs of a set and a name")
    parts = lists.values() if isinstance(lists, dict) else (None,)
    if not all(
        isinstance(folds, dict) and all(isinstance(f, list) for f in folds.values()) for folds in parts
    ):
        raise ValueError("its lists are not numbers of videos by split and fold")
    if not isinstance(failed, list):
        raise ValueError("its failed videos are not a list of numbers")


def _check(preparation: Preparation) -> None:
    """Raises ValueError if the values of a well-formed description are inconsistent."""
    count = len(preparation.videos)
    indices = [i for folds in preparation.lists.values() for part in folds.values() for i in part]
    if not all(type(i) is int and 0 <= i < count for i in (*indices, *preparation.failed)):
        raise ValueError("a list has the index of a video that does not exist")
    if count > _MAX_VIDEOS or len(set(preparation.videos)) < count:
        raise ValueError(f"it names {count} videos, some of them twice, or more than {_MAX_VIDEOS}")
    sides = (preparation.height, preparation.width)
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"its height and width are {sides}")
    if not isinstance(preparation.encoding, str) or preparation.encoding not in ENCODINGS:
        raise ValueError(f"its encoding is {preparation.encoding!r}")
    if not isinstance(preparation.dataset, str) or type(preparation.complete) is not bool:
        raise ValueError(f"its dataset is {preparation.dataset!r}, complete: {preparation.complete!r}")


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """One video of a prepared set: its record, and its shards.

    Attributes:
      dataset, name: of the video.
      fps: frames per second.
      frames: number of frames.
      rate: Hz of its sound; 0 without sound.
      samples: of its sound.
      piece: samples of a record of sound.
      published: whether there is truth.
      fixated: whether the truth has fixations.
      black: bool [frames], whether the density is black.
      size: (height, width) of the truth of its first frame.
      category: `Social`, `Nature`, `Other` or "".
      identity: digest of the files that its shards were made from.
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
    identity: str
    shards: ShardFolder = dataclasses.field(repr=False, compare=False)
    index: int

    @property
    def sound(self) -> Sound | None:
        """Its sound, which reads pieces on demand; None if it has no sound."""
        return Sound(_Pieces(self), self.rate) if self.samples else None

    def pictures_digest(self) -> str:
        """Returns a hash of its stored pictures, which does not depend on when they were prepared."""
        records = self.shards.read_raw("pictures", self.index, range(self.frames))
        return hashlib.sha256(b"".join(records)).hexdigest()


class PreparedSet:
    """A prepared set that is complete.

    Args:
      folder: written by `prepare`.

    Raises:
      AvsalError: the set is missing, not complete, or damaged.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.preparation = read_preparation(self.folder)
        preparation = self.preparation
        if not preparation.complete:
            raise AvsalError(
                f"{self.folder} is not complete: preparing {preparation.dataset} was interrupted; run the "
                "same avsal prepare command again to finish it"
            )
        self._shards = ShardFolder(
            self.folder,
            count=len(preparation.videos),
            size=(preparation.height, preparation.width),
            encoding=preparation.encoding,
        )
        self._videos: dict[int, PreparedVideo | None] = {}

    def names(self) -> dict[tuple[str, str], int]:
        """Returns (set, name) -> index of every video."""
        return {key: index for index, key in enumerate(self.preparation.videos)}

    def video(self, index: int) -> PreparedVideo | None:
        """Returns a video, or None if it could not be prepared."""
        if index not in self._videos:
            self._videos[index] = self._read(index)
        return self._videos[index]

    def split_indices(self, split: str, fold: int | None) -> list[int]:
        """Returns the indices of the videos of a split; raises AvsalError if it was not prepared."""
        preparation = self.preparation
        folds = preparation.lists.get(split)
        if not folds:
            names = ", ".join(preparation.lists) or "none"
            raise AvsalError(f"{self.folder} has no split {split}; it has {names}")
        row = registry.lookup("dataset", preparation.dataset)
        is_any_fold = set(folds) == {""} and row is not None and row.single_split
        key = "" if fold is None or is_any_fold else str(fold)
        if key not in folds:
            names = ", ".join(fold or "none" for fold in folds)
            raise AvsalError(
                f"{preparation.dataset} was prepared with the folds {names}; got {key or 'none'}"
            )
        return folds[key]

    def _read(self, index: int) -> PreparedVideo | None:
        preparation = self.preparation
        if index in preparation.failed:
            return None
        video = read_video(self._shards, index)
        if (video.dataset, video.name) != preparation.videos[index]:
            path = self._shards.path("videos", index)
            raise AvsalError(
                f"{path} is of {video.dataset} {video.name}, not of {' '.join(preparation.videos[index])}; "
                "delete it and prepare the set again"
            )
        return video


def read_video(shards: ShardFolder, index: int) -> PreparedVideo:
    """Reads the record of a video; raises AvsalError if it, or a number of its other records, is invalid."""
    path = shards.path("videos", index)
    if (count := shards.count_records("videos", index)) != 1:
        raise AvsalError(f"{path} has {count} records, not one; prepare the set again")
    record = shards.read("videos", index, [0])[0]
    try:
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
            identity=record["identity"].decode(),
            shards=shards,
            index=index,
        )
    except UnicodeDecodeError as error:
        raise AvsalError(f"{path} is damaged: {error}; delete it and prepare the set again") from error
    has_sound = video.samples > 0
    sound = video.rate > 0 and video.piece > 0 if has_sound else (video.samples, video.piece) == (0, 0)
    if not (sound and 0 < video.fps < math.inf and 0 < video.frames == len(video.black)):
        raise AvsalError(
            f"{path} is damaged: {video.frames} frames ({len(video.black)} with truth) at {video.fps} a "
            f"second, {video.samples} samples at {video.rate} Hz; delete it and prepare the set again"
        )
    expected = {"pictures": video.frames, "targets": video.frames}
    expected["sound"] = -(-video.samples // video.piece) if has_sound else 0
    for kind, expected_count in expected.items():
        if (count := shards.count_records(kind, index)) != expected_count:
            raise AvsalError(
                f"{shards.path(kind, index)} has {count} records, but its video states {expected_count}; "
                "prepare the set again"
            )
    return video


class _Pieces(Sequence):
    """The sound of a prepared video, as a sequence whose slices are samples."""

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
