"""Packagings without lists, with a folder for each split: DHF1K, Hollywood-2 and UCF-Sports."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import ClassVar

from avsal_jax.data.sets.dataset import SPLITS, DataSet, Packaging
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.sets.video_lists import ListedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.media.images import IMAGE_SUFFIXES, natural_order, visible_files
from avsal_jax.registry import register

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "validation"),
    "test": ("test", "testing"),
}
_FIRST_WITHHELD = 701  # DHF1K: the truth of its test videos is not published
_MAT = frozenset({".mat"})


@register("packaging", "rearranged")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rearranged(Packaging):
    """<split>/<video>/{images,maps,fixation}, as in public training code for DHF1K.

    Videos of a list may be directly in the root, without a split.
    """

    shots: ClassVar[bool] = False

    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        """Returns the videos of the split, in the order of their names."""
        folders = [folder for split in self._splits_of_videos() for folder in self._folders(split)]
        if not folders:
            raise AvsalError(
                f"{self.root} has no folder {' or '.join(SPLIT_FOLDERS[self.split])}: videos are searched in "
                "<split>/<video>/images, their truth in <split>/<video>/maps and fixation"
            )
        names = {p.name: p for folder in folders for p in visible_files(folder) if p.is_dir()}
        if odd := [name for name in names if not name.isprintable()]:
            raise AvsalError(f"{self.root} has a video named {odd[0]!a}; rename it in printable letters")
        paths = [p for p in sorted(names.values(), key=natural_order) if self._is_in_split(p.name)]
        if not paths:
            raise AvsalError(f"there is no video of the split {self.split} in {', '.join(map(str, folders))}")
        return tuple(ListedVideo(path.name) for path in paths)

    def entry(self, video: ListedVideo) -> VideoEntry:
        splits = [self.split, *(split for split in SPLIT_FOLDERS if split != self.split)]
        parents = [folder for split in splits for folder in self._folders(split)] + [self.root]
        folder = _first_folder(p / name for p in parents for name in self._spellings(video.video))
        fixation = folder / "fixation"
        return self.file_entry(
            video,
            images=folder / "images",
            maps=folder / "maps",
            fixation_maps=[(fixation, IMAGE_SUFFIXES, None), (fixation, _MAT, None)],
            may_lack_truth=self._may_lack_truth(video.video),
            shots=self.shots,
            variable="I",
        )

    def _splits_of_videos(self) -> Iterable[str]:
        """Returns the splits whose folders are searched for videos."""
        return [self.split]

    def _is_in_split(self, name: str) -> bool:
        return True

    def _spellings(self, name: str) -> list[str]:
        return [name]

    def _may_lack_truth(self, name: str) -> bool:
        return self.row.may_lack_truth

    def _folders(self, split: str) -> list[pathlib.Path]:
        return [self.root / n for n in SPLIT_FOLDERS[split] if (self.root / n).is_dir()]


@register("packaging", "shots")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shots(Rearranged):
    """<split>/<video>/{images,maps,fixation}, frames numbered through all shots of a film."""

    shots: ClassVar[bool] = True


class _NumberedDhf1k(Rearranged):
    """DHF1K in folders of splits; the numbers of the videos determine the split."""

    def _splits_of_videos(self) -> Iterable[str]:
        return SPLIT_FOLDERS

    def _is_in_split(self, name: str) -> bool:
        return _in_split(name, self.split)

    def _spellings(self, name: str) -> list[str]:
        return _spellings(name)

    def _may_lack_truth(self, name: str) -> bool:
        return _withheld(name)


class _ReleasedDhf1k(Packaging):
    """DHF1K as released: annotation/NNNN/{maps,fixation}, and frames that the user extracted.

    Frames are searched in annotation/NNNN/images, frames/NNNN, video/NNNN and videodata/NNNN/images.
    Fixation maps are images in fixation/, or .mat (variable `I`) in fixation/maps/ (as in the archive) or
    maps/ (as in its README).
    """

    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        """Returns the videos of the split, in the order of their numbers; named NNNN as in annotation/."""
        parents = [self.root / n for n in ("annotation", "frames", "video", "videodata")]
        names = {p.name for folder in parents if folder.is_dir() for p in folder.iterdir() if p.is_dir()}
        numbers = sorted({int(name) for name in names if _in_split(name, self.split)})
        if not numbers:
            raise AvsalError(
                f"there is no video of the split {self.split} in {self.root / 'annotation'} or frames"
            )
        return tuple(ListedVideo(f"{number:04d}") for number in numbers)

    def entry(self, video: ListedVideo) -> VideoEntry:
        names = _spellings(video.video)
        truth = _first_folder(self.root / "annotation" / name for name in names)
        images = [truth / "images"]
        images += [self.root / parent / name for parent in ("frames", "video") for name in names]
        images += [self.root / "videodata" / name / "images" for name in names]
        fixation = truth / "fixation"
        return self.file_entry(
            video,
            images=next((p for p in images if p.is_dir()), self.root / "frames" / video.video),
            maps=truth / "maps",
            fixation_maps=[
                (fixation, IMAGE_SUFFIXES, None),
                (fixation / "maps", _MAT, None),
                (truth / "maps", _MAT, None),
            ],
            may_lack_truth=_withheld(video.video),
            variable="I",
        )


@register("packaging", "dhf1k")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dhf1k(Packaging):
    """DHF1K as released (a folder annotation/), or re-arranged into folders of splits.

    A set of your own, `dhf1k:NAME`, is <split>/<video>/{images,maps,fixation} at 30 frames per second.
    """

    @classmethod
    def user_set(cls, name: str) -> DataSet:
        return DataSet(title=name, packaging=Rearranged(), fps=30.0, splits=SPLITS, may_lack_truth=True)

    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        return self._layout.videos(fold)

    def entry(self, video: ListedVideo) -> VideoEntry:
        return self._layout.entry(video)

    @functools.cached_property
    def _layout(self) -> Packaging:
        released = (self.root / "annotation").is_dir()
        layout = _ReleasedDhf1k() if released else _NumberedDhf1k()
        return layout.opened(self.dataset, row=self.row, root=self.root, split=self.split, gaze=self.gaze)


def _first_folder(paths: Iterable[pathlib.Path]) -> pathlib.Path:
    """Returns the first path that is a folder, or else the first path."""
    paths = list(paths)
    return next((path for path in paths if path.is_dir()), paths[0])


def _spellings(video: str) -> list[str]:
    """Returns the possible folder names: DHF1K uses three digits for videos, and four for annotation."""
    return [video, f"{int(video):04d}", f"{int(video):03d}"] if video.isdecimal() else [video]


def _in_split(video: str, split: str) -> bool:
    low, high = {"train": (1, 600), "val": (601, 700), "test": (701, 1000)}[split]
    return video.isdecimal() and low <= int(video) <= high


def _withheld(video: str) -> bool:
    return video.isdecimal() and int(video) >= _FIRST_WITHHELD
