"""The packaging of STAViS (atsiami/STAViS @71fd51f): the audio-visual sets, by fold lists."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from avsal_jax.data.sets.dataset import SPLITS, DataSet, Packaging, not_empty
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.sets.video_lists import ListedVideo, read_fold_list, shipped_categories, shipped_list
from avsal_jax.errors import AvsalError
from avsal_jax.media.images import IMAGE_SUFFIXES, visible_files
from avsal_jax.registry import register

_MAT = frozenset({".mat"})
_GASP_SPLITS = {"val": "validation"}  # names in its lists


@register("packaging", "stavis")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stavis(Packaging):
    """video_frames/, video_audio/ and annotations/, each with <set folder>/<video>, and fold_lists/.

    Attributes:
      folder: of the set, such as `Coutrot_db1`; empty for a set that lists videos of other sets.
      shipped: name of its lists in the package, with {split} and {fold}, which replace missing lists on disk;
        empty if the package has no lists of the set.
    """

    folder: str = ""
    shipped: str = ""

    @classmethod
    def user_set(cls, name: str) -> DataSet:
        return DataSet(
            title=name,
            packaging=cls(folder=name),
            splits=SPLITS,
            folds_on_disk=True,
            may_lack_truth=True,
        )

    def check(self) -> None:
        frames = self.root / "video_frames"
        if not frames.is_dir():
            raise AvsalError(
                f"{self.root} is not a root in the packaging of STAViS: it has no folder video_frames "
                "(and possibly no video_audio, annotations and fold_lists)"
            )
        if not (frames / self.folder).is_dir():
            names = ", ".join(p.name for p in visible_files(frames)) or "nothing"
            raise AvsalError(
                f"{self.root} has no {self.dataset}: there is no folder video_frames/{self.folder}; "
                f"video_frames holds {names}"
            )

    def parts(self) -> tuple[tuple[str, int | None], ...]:
        """Returns the parts that the lists on disk define, if `folds_on_disk`."""
        if not self.row.folds_on_disk:
            return super().parts()
        pairs = tuple((split, fold) for split in self.row.splits for fold in self._folds(split))
        return pairs or (("train", None),)

    def videos(self, fold: int | None) -> tuple[ListedVideo, ...]:
        split = _GASP_SPLITS.get(self.split, self.split)
        if not self.folder:
            return shipped_list(self.shipped.format(split=split, fold=fold))
        number = "" if self.row.single_split or fold is None else f"_{fold}"
        path = self.root / "fold_lists" / f"{self._list_name(self.split)}{number}_fps.txt"
        if path.is_file():
            return not_empty(read_fold_list(path), path)
        if self.shipped:
            rows = shipped_list(self.shipped.format(split=split, fold=fold or 1))
            return tuple(row for row in rows if row.dataset == self.dataset)
        raise AvsalError(
            f"{self.dataset} needs its list {path}: unpack fold_lists.tar.gz of STAViS there, or give a list "
            "file"
        )

    def entry(self, video: ListedVideo) -> VideoEntry:
        truth = self.root / "annotations" / self.folder / video.video
        return self.file_entry(
            self._completed(video),
            images=self.root / "video_frames" / self.folder / video.video,
            maps=truth / "maps",
            fixation_maps=[
                (truth, _MAT, "fixMap_"),
                (truth, IMAGE_SUFFIXES, "fixMap_"),
            ],  # next to eye_tracks.mat
            sound=self.root / "video_audio" / self.folder / video.video / f"{video.video}.wav",
        )

    def rate_place(self) -> str:
        return f"no list in {self.root / 'fold_lists'} has it"

    def _completed(self, video: ListedVideo) -> ListedVideo:
        """Returns the video with frames and rate from the lists in the root, and its category."""
        row = video if video.fps is not None else self._root_lists.get(video.video, video)
        category = video.category or shipped_categories().get((self.dataset, video.video))
        return dataclasses.replace(video, frames=row.frames, fps=row.fps, category=category)

    @functools.cached_property
    def _root_lists(self) -> dict[str, ListedVideo]:
        """The rows of all fold lists of the set, by the name of the video."""
        paths = sorted(self._lists(self._list_name("")))
        return {row.video: row for path in paths for row in read_fold_list(path)}

    def _folds(self, split: str) -> list[int | None]:
        """Returns the numbers of folds by the lists in the root; None for a list without a number."""
        begin = self._list_name(split)
        middles = [path.name.removeprefix(begin).removesuffix("_fps.txt") for path in self._lists(begin)]
        numbers = sorted(int(m[1:]) for m in middles if m[:1] == "_" and m[1:].isdecimal() and m[1] != "0")
        return [*([None] if "" in middles else []), *numbers]

    def _list_name(self, split: str) -> str:
        return f"{self.folder}_list_{split}"

    def _lists(self, begin: str) -> list[pathlib.Path]:
        lists = (self.root / "fold_lists").glob("*_fps.txt")
        return [path for path in lists if path.name.startswith(begin)]
