"""The videos of a data set on disk: `open_dataset` finds those of a split."""

from __future__ import annotations

import dataclasses
import pathlib

from avsal_jax.data.gaze.stimuli import GazeOptions
from avsal_jax.data.sets.dataset import Packaging, find_dataset
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError


def open_dataset(
    name: str,
    root,
    split: str = "test",
    fold: int | None = None,
    list_file=None,
    gaze: GazeOptions | None = None,
) -> tuple[VideoEntry, ...]:
    """Finds the videos of a split; reads only file names, lists and tables of gaze.

    Args:
      name: a registered set (`avsal list dataset`); or a set of your own, `PACKAGING:NAME`: `stavis:NAME` (in
        the packaging of STAViS, with NAME as the name of its folders), `dhf1k:NAME`
        (<split>/<video>/{images,maps,fixation}) or `gaze:NAME` (stimuli/ with fixations.csv or gaze.csv).
      root: the folder that holds the set.
      split: `train`, `val`, `test`, or for recorded gaze `all`; the row of a set lists those it has.
      fold: a number of the row's `folds`; see `DataSet.check_fold`.
      list_file: videos to use instead of the split's, as `video`, `set video` or `video frames fps` per
        line, or `domain:NAME` (`video_lists.read_domain`); the sets are in the packaging of `name`. Then
        `fold` has no effect, and `split` only determines which folders are searched first.
      gaze: how recorded gaze is read; None for the defaults.

    Returns:
      The videos in the order of the list; a video whose files are missing has `frames` 0 and notes.

    Raises:
      AvsalError: the set, split or fold is unknown, the root is not in the set's packaging, the list is
        missing, damaged or leads out of the root, or none of its videos has its files.
    """
    row = find_dataset(name)
    root = pathlib.Path(root)
    if not root.is_dir():
        raise AvsalError(f"there is no folder {root}; the root is where {name} was unpacked")
    row.check_split(name, split)
    packaging = open_packaging(name, root=root, split=split, gaze=gaze)
    if list_file is None:
        row.check_fold(name, split=split, fold=fold)
        packaging.check()
        rows = packaging.videos(fold)
    else:
        rows = packaging.rows_of_list(pathlib.Path(list_file))
    rows = [video if video.dataset else dataclasses.replace(video, dataset=name) for video in rows]
    packagings = {name: packaging}
    for dataset in dict.fromkeys(video.dataset for video in rows):
        packagings.setdefault(dataset, open_packaging(dataset, root=root, split=split, gaze=gaze)).check()
    entries = tuple(packagings[video.dataset].entry(video) for video in rows)
    if not any(entry.frames for entry in entries):
        reasons = "".join(f"; {entry.name}: {'; '.join(entry.notes)}" for entry in entries[:1])
        raise AvsalError(
            f"none of the {len(entries)} {packaging.contents} of {name} in {root} can be used{reasons}"
        )
    return entries


def open_packaging(name: str, root, split: str = "test", gaze: GazeOptions | None = None) -> Packaging:
    """Returns the packaging of a set at a folder; arguments and errors as in `open_dataset`."""
    row = find_dataset(name)
    return row.packaging.opened(name, row=row, root=root, split=split, gaze=gaze)


def open_entire(name: str, root, gaze: GazeOptions | None = None) -> tuple[tuple[VideoEntry, ...], list[str]]:
    """Returns all stimuli of a set of recorded gaze, of all splits, and notes on the set.

    For other sets, both are empty.
    """
    return open_packaging(name, root=root, gaze=gaze).entire()
