"""The row of a data set, the base class of packagings, and the lookup of sets by name."""

from __future__ import annotations

import abc
import copy
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from avsal_jax import registry
from avsal_jax.data.gaze.stimuli import DEFAULT_OPTIONS, GazeOptions
from avsal_jax.data.sets.entries import FileEntry, VideoEntry
from avsal_jax.data.sets.file_entries import file_entry
from avsal_jax.data.sets.raw_fixations import RawFixations
from avsal_jax.data.sets.video_lists import (
    ListedVideo,
    checked_name,
    read_domain,
    read_user_list,
    shipped_domain,
)
from avsal_jax.errors import AvsalError, did_you_mean

SPLITS = ("train", "val", "test")
ALL_STIMULI = "all"  # a split of recorded gaze: every stimulus, whatever its part
SIX = "six"  # the group of the six audio-visual sets; papers report their average


class Generator(abc.ABC):
    """Writes a generated data set."""

    @abc.abstractmethod
    def settings(self, values: Mapping[str, str]) -> object:
        """Returns the settings for `avsal prepare --set KEY=VALUE`; they have `videos`, `height` and `width`.

        Raises:
          AvsalError: an unknown key or a value that is not allowed.
        """

    @abc.abstractmethod
    def write(
        self,
        root: pathlib.Path,
        settings: object,
        progress: Callable[[Iterable], Iterable],
        workers: int | None,
    ) -> None:
        """Writes the set into `root`; skips the parts that exist.

        Args:
          root: the folder.
          settings: from the method `settings`.
          progress: wraps an iterable with a length, which has one element per missing video.
          workers: processes; None for one per usable core.

        Raises:
          AvsalError: the folder holds a set of other settings, or cannot be written.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set: its properties that do not depend on the files.

    Attributes:
      title: its name in tables and on its page.
      about: one line.
      packaging: the layout of its files.
      fps: frames per second if no list states them; None if the set has no common rate.
      splits: some of `train`, `val`, `test` and `all`.
      folds: their numbers; empty if each split is a single list.
      single_split: whether all folds have the same lists, so that the fold may be omitted.
      disjoint_folds: whether each video is in the test list of exactly one fold; without a fold, the test
        list is all videos.
      folds_on_disk: whether the lists in the root define the folds; any number from 1 is accepted.
      group: `six` for the audio-visual sets over which papers average; empty for none.
      protocol: the protocol that papers use for it.
      licence: in words, as its page states it.
      source: where it is published.
      observers: how the raw fixations of each observer are read; None if they are not supported.
      may_lack_truth: whether a video without truth counts as unpublished truth, not as damaged.
      made_of: the sets whose videos it lists, if it has no files of its own.
      categories: category of its videos -> name under which papers print results for it.
      generator: writes the set, if it is generated. The videos of two such sets have the same names.
    """

    title: str
    packaging: Packaging
    about: str = ""
    fps: float | None = None
    splits: tuple[str, ...] = ("train", "test")
    folds: tuple[int, ...] = ()
    single_split: bool = False
    disjoint_folds: bool = False
    folds_on_disk: bool = False
    group: str = ""
    protocol: str = "vinet"
    licence: str = ""
    source: str = ""
    observers: RawFixations | None = None
    may_lack_truth: bool = False
    made_of: tuple[str, ...] = ()
    categories: Mapping[str, str] = dataclasses.field(default_factory=dict)
    generator: Generator | None = None

    def __post_init__(self):
        allowed = (*SPLITS, ALL_STIMULI)
        if unknown := [split for split in self.splits if split not in allowed]:
            raise AvsalError(f"{self.title}: {unknown[0]!r} is not a split; splits are {', '.join(allowed)}")

    def check_split(self, name: str, split: str) -> None:
        """Raises AvsalError if the set, called `name`, has no such split."""
        if split not in self.splits:
            raise AvsalError(f"{name} has no split {split!r}; it has {', '.join(self.splits)}")

    def check_fold(self, name: str, split: str, fold: int | None) -> None:
        """Raises AvsalError if a split of the set, called `name`, has no such fold."""
        if self.folds_on_disk:
            if fold is not None and fold < 1:
                raise AvsalError(f"folds are numbered from 1; got {fold}")
        elif not self.folds:
            if fold is not None:
                raise AvsalError(f"{name} has no folds; leave the fold {fold} out")
        elif fold is None and self.disjoint_folds and split != "train":
            return
        elif split == ALL_STIMULI and fold is not None:
            raise AvsalError(f"the split {ALL_STIMULI} of {name} has no folds; leave the fold {fold} out")
        elif fold not in self.folds and not (self.single_split and fold is None):
            value = "no fold was given" if fold is None else f"got {fold}"
            raise AvsalError(f"{name} has the folds {', '.join(map(str, self.folds))}; {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Packaging(abc.ABC):
    """The layout of the files of a set on disk.

    To add a packaging, implement `videos` and `entry` in a subclass, and override `check` and `parts` if the
    defaults do not fit. Fields are what differs between sets of one packaging. The packaging of a row has no
    folder; `opened` returns a copy at one, on which the other methods are called.

    Attributes:
      dataset (only after `opened`, like the next four): name of the set.
      row: of the set.
      root: the folder, a Path.
      split: of the videos.
      gaze: how recorded gaze is read, `GazeOptions`.
      has_observers: whether fixations are separate for each observer, as in recorded gaze.
      contents: what messages call the elements of the set.
    """

    has_observers: ClassVar[bool] = False
    contents: ClassVar[str] = "videos"

    def check(self) -> None:  # noqa: B027 - most packagings have no specific folder to check
        """Raises AvsalError if the root does not hold the set."""

    def parts(self) -> tuple[tuple[str, int | None], ...]:
        """Returns the (split, fold) pairs that `avsal prepare` reads."""
        folds = (None,) if self.row.single_split or not self.row.folds else self.row.folds
        return tuple((split, fold) for split in self.row.splits if split != ALL_STIMULI for fold in folds)

    @abc.abstractmethod
    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        """Returns the videos of the split, by lists or by folders, in their order.

        Raises:
          AvsalError: a list is missing or damaged, or the split has no video.
        """

    @abc.abstractmethod
    def entry(self, video: ListedVideo) -> VideoEntry:
        """Returns a video, even if its files are damaged.

        A video that cannot be used has `frames` 0 and a note with the reason.

        Raises:
          AvsalError: its frame rate is unknown.
        """

    @classmethod
    def user_set(cls, name: str) -> DataSet | None:
        """Returns the row of `PACKAGING:NAME`, a set that is not registered; None if that is not allowed."""
        return None

    def opened(self, dataset: str, row: DataSet, root, split: str, gaze: GazeOptions | None) -> Packaging:
        """Returns the packaging at a folder; nothing is read."""
        packaging = copy.copy(self)
        gaze = DEFAULT_OPTIONS if gaze is None else gaze
        place = {"dataset": dataset, "row": row, "root": pathlib.Path(root), "split": split, "gaze": gaze}
        vars(packaging).update(place)  # not fields, which a row sets
        return packaging

    def entire(self) -> tuple[tuple[VideoEntry, ...], list[str]]:
        """Returns all stimuli of recorded gaze, of all splits, and notes on the set; else nothing."""
        return (), []

    def rows_of_list(self, path: pathlib.Path) -> tuple[ListedVideo, ...]:
        """Returns the videos that a list of the user names, each with its set, in this packaging.

        Raises:
          AvsalError: the list is damaged, or names a set in another packaging.
        """
        domain = shipped_domain(str(path))
        rows = read_user_list(path, self.dataset) if domain is None else read_domain(str(path))
        for row in not_empty(rows, path):
            try:
                other = find_dataset(row.dataset)
            except AvsalError as error:
                raise AvsalError(f"{path}, {row.video}: {error}") from error
            if other.made_of:
                raise AvsalError(
                    f"{path}: {row.dataset} is made of several sets; write `set video`, as in "
                    f"`{other.made_of[0]} {row.video}`"
                )
            if type(other.packaging) is not type(self):
                raise AvsalError(
                    f"{path}: {row.dataset} {row.video} is not in the packaging of {self.dataset}; open it "
                    "by itself"
                )
        return rows

    def rate(self, video: ListedVideo) -> float:
        """Returns the frames per second of the list, else of the row; raises AvsalError without either."""
        fps = video.fps or self.row.fps
        if fps is None:
            raise AvsalError(
                f"the rate of {self.dataset} {video.video} is not known: {self.rate_place()}; write `video "
                "frames fps` in your list"
            )
        return fps

    def rate_place(self) -> str:
        """Returns why the rate is unknown, for messages."""
        return "the set has no usual rate"

    def file_entry(
        self,
        video: ListedVideo,
        *,
        images: pathlib.Path,
        maps: pathlib.Path,
        fixation_maps: list[tuple],
        **options,
    ) -> FileEntry:
        """Returns a video whose frames and truth are numbered files; arguments as `file_entries.file_entry`.

        Raises:
          AvsalError: as `rate`.
        """
        options = {"may_lack_truth": self.row.may_lack_truth} | options
        return file_entry(
            dataclasses.replace(video, fps=self.rate(video)),
            self.dataset,
            images=images,
            maps=maps,
            fixation_maps=fixation_maps,
            **options,
        )


def find_dataset(name: str) -> DataSet:
    """Returns the row of a set, registered or `PACKAGING:NAME`; AvsalError lists the available names."""
    prefix, colon, inner = name.partition(":")
    if not colon and (row := registry.lookup("dataset", name)) is not None:
        return row
    packaging = registry.lookup("packaging", prefix) if colon else None
    if packaging is not None and packaging.user_set("NAME") is not None:
        return packaging.user_set(checked_name(inner, f"data set {name!r}"))
    names, packagings = registry.table("dataset"), registry.table("packaging")
    prefixes = sorted(f"{key}:NAME" for key, form in packagings.items() if form.user_set("NAME") is not None)
    raise AvsalError(
        f"{name!r} is not a data set{did_you_mean(name, names)}; there are {', '.join(names)}, and for your "
        f"own in a packaging {', '.join(prefixes[:-1])} and {prefixes[-1]}"
    )


def group_names(group: str) -> tuple[str, ...]:
    """Returns the names of the sets of a group, in the order of their table."""
    return tuple(name for name, row in registry.table("dataset").items() if row.group == group)


def not_empty(rows: tuple[ListedVideo, ...], path: pathlib.Path) -> tuple[ListedVideo, ...]:
    """Returns the videos of a list; raises AvsalError if it is empty."""
    if not rows:
        raise AvsalError(f"the list {path} names no video")
    return rows
