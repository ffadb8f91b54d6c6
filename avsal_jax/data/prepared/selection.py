"""Which prepared videos a run trains on and which it validates on: (set, fold) pairs, lists, hold-outs."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from avsal_jax.data.prepared.sampling import random_fraction
from avsal_jax.data.prepared.videos import PreparedSet, PreparedVideo, folder_of
from avsal_jax.data.sets.datasets import find_dataset
from avsal_jax.data.sets.video_lists import read_domain
from avsal_jax.errors import AvsalError

VALIDATIONS = ("published", "holdout")


class PreparedSources:
    """The prepared sets of one folder.

    A source is a pair (set, fold), such as `("coutrot1", 1)` or `("dhf1k", None)`; or the path of a list file
    with `set video` per line, as a string; or the name of a list that comes with the project, such as
    `domain:nature`.

    Args:
      root: the folder of prepared sets, as `avsal prepare --output`.
    """

    def __init__(self, root):
        self._root = pathlib.Path(root)
        self._sets: dict[str, PreparedSet] = {}

    def videos(self, sources: Sequence, split: str, labelled: bool = True) -> list[PreparedVideo]:
        """Returns the videos of a split of all sources, each once, in their order.

        Args:
          sources: see above; a list provides all its videos, independent of the split.
          split: `train`, `val` or `test`.
          labelled: whether to refuse videos without published truth.

        Raises:
          AvsalError: a set is not prepared or not complete; it lacks the split, fold or a video; there is no
            video.
        """
        unique: dict[tuple, PreparedVideo] = {}
        for source in sources:
            for video in self._of(source, split):
                unique.setdefault((video.dataset, video.name), video)
        videos = list(unique.values())
        if not videos:
            raise AvsalError(f"the sources {_words(sources)} have no video in the split {split}")
        if labelled and (unlabelled := [v for v in videos if not v.published]):
            raise AvsalError(
                f"{unlabelled[0].dataset} {unlabelled[0].name} and {len(unlabelled) - 1} more videos have no "
                "published truth: they cannot be trained on with labels, nor scored"
            )
        return videos

    def split(
        self, sources: Sequence, validation: str = "published", fraction: float = 0.1, seed: int = 0
    ) -> tuple[list[PreparedVideo], list[PreparedVideo], str]:
        """Returns (training videos, validation videos, the rule in words).

        `published`: the validation list of each set, or its `test` list if it has none, as in the papers; not
        available for list files. `holdout`: a `fraction` of the training list, by whole videos.

        Raises:
          AvsalError: as in `videos`; an unknown rule; a hold-out that leaves one of the parts empty.
        """
        train = self.videos(sources, "train")
        if validation == "holdout":
            return *_held_out(train, fraction, seed), f"holdout({fraction:g}, {seed}) of the training list"
        if validation != "published":
            raise AvsalError(f"validation {validation!r} is not one of {', '.join(VALIDATIONS)}")
        if any(isinstance(source, str) for source in sources):
            raise AvsalError("a list file has no published validation list; use validation holdout")
        rules: dict[str, None] = {}
        held_out: list[PreparedVideo] = []
        for source in sources:
            split = "val" if "val" in self._set(source[0]).preparation.lists else "test"
            held_out += self.videos([source], split)
            rules[f"{source[0]}: {split} list"] = None
        return train, held_out, ", ".join(rules)

    def _set(self, name: str) -> PreparedSet:
        if name not in self._sets:
            find_dataset(name)  # so that no name from a file leads elsewhere
            folder = folder_of(self._root, name)
            if not folder.is_dir():
                names = ", ".join(
                    sorted(p.name for p in self._root.glob("*/")) if self._root.is_dir() else ()
                )
                raise AvsalError(
                    f"{name} is not prepared in {self._root}, which holds {names or 'nothing'}: "
                    f"avsal prepare --dataset {name} --root DIR --output {self._root}"
                )
            self._sets[name] = PreparedSet(folder)
        return self._sets[name]

    def _of(self, source, split: str) -> list[PreparedVideo]:
        if not isinstance(source, str):
            name, fold = source
            prepared = self._set(name)
            videos = [prepared.video(index) for index in prepared.split_indices(split, fold)]
            return [video for video in videos if video is not None]
        return [self._video_of_list(source, row.dataset, row.video) for row in read_domain(source)]

    def _video_of_list(self, source: str, dataset: str, name: str) -> PreparedVideo:
        prepared = self._set(dataset)
        index = prepared.names().get((dataset, name))
        if index is None:
            raise AvsalError(f"{source} names {dataset} {name}, which is not in {prepared.folder}")
        video = prepared.video(index)
        if video is None:
            raise AvsalError(
                f"{source} names {dataset} {name}, which could not be prepared; "
                f"{prepared.folder / 'report.md'} says why"
            )
        return video


def _held_out(train: list[PreparedVideo], fraction: float, seed: int) -> tuple[list, list]:
    count = round(fraction * len(train))
    if not 0 < count < len(train):
        raise AvsalError(
            f"a hold-out of {fraction:g} of {len(train)} videos is {count}; both parts need at least one"
        )
    ordered = sorted(train, key=lambda v: random_fraction(seed, "holdout", v.dataset, v.name))
    held_out = {(v.dataset, v.name) for v in ordered[:count]}
    return (
        [v for v in train if (v.dataset, v.name) not in held_out],
        [v for v in train if (v.dataset, v.name) in held_out],
    )


def _words(sources: Sequence) -> str:
    return ", ".join(source if isinstance(source, str) else f"{source[0]}:{source[1]}" for source in sources)
