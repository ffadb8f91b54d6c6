"""Sets of recorded gaze: their stimuli, their lists, their videos in each split."""

from __future__ import annotations

import csv
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from avsal_jax.data.gaze.gaze_entries import GazeEntry, gaze_entry
from avsal_jax.data.gaze.recordings import read_recordings
from avsal_jax.data.gaze.stimuli import GazeOptions, GazeSet, Stimulus
from avsal_jax.errors import AvsalError, damage_reason, did_you_mean
from avsal_jax.identity import tree_identity

_LISTS = pathlib.Path(__file__).parents[1] / "lists" / "gaze"
_OWN_LISTS = "lists"  # folder of `gaze:NAME` with train.txt, val.txt, test.txt
_OWN_SPLITS = ("train", "val", "test")
TEST_THIRD = 0  # of photographs, the part that is never trained on
Reader = Callable[[pathlib.Path], GazeSet]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a list puts a stimulus.

    Attributes:
      group: of stimuli that show nearly the same; empty for one like no other.
      part: the fold (from 1) in which a clip is tested, or a photograph's third (from 0).
    """

    group: str
    part: int


@functools.cache
def placements(name: str) -> dict[str, Placement]:
    """Returns the list of a set that comes with the project: stimulus -> placement; empty for other sets.

    `tools/gaze_lists.py` has made them and states the rules.
    """
    path = _LISTS / f"{name}.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["stimulus"]: Placement(row["group"], int(row["part"])) for row in csv.DictReader(file)}


def open_gaze(
    name: str, root: pathlib.Path, options: GazeOptions, reader: Reader | None
) -> tuple[tuple[GazeEntry, ...], list[str]]:
    """Returns all stimuli of a set, those that cannot be used too (`frames` 0), and notes on the set.

    Args:
      name: of the set.
      root: the folder.
      options: how it is read.
      reader: function of the root; None for `read_recordings`, which takes the options too.

    Raises:
      AvsalError: the root is not one of the set, or its table is damaged.
    """
    root = pathlib.Path(root)
    return _opened(name, root=root, options=options, reader=reader, identity=tree_identity(root))


@functools.lru_cache(maxsize=4)
def _opened(name: str, root: pathlib.Path, options: GazeOptions, reader: Reader | None, identity: str):
    """Read once for all splits and folds, as long as no file changes."""
    content = read_recordings(root, options) if reader is None else reader(root)
    if not content.stimuli:
        raise AvsalError(f"{root} has no stimulus with gaze; {'; '.join(content.notes)}")
    lists = placements(name)
    names = [stimulus.name for stimulus in content.stimuli]
    if lists and not lists.keys() & set(names):
        raise AvsalError(f"{root} is not {name}: its stimuli are called {names[0]}, not {next(iter(lists))}")
    entries, notes = [], [*content.notes, f"densities of fixations have sigma {options.sigma}"]
    if not lists:
        paths = _own_lists(root)
        without = [split for split in _OWN_SPLITS if split not in paths]
        if not paths:
            notes.append(f"there are no lists in {_OWN_LISTS}/: every split is all stimuli")
        elif without:
            notes.append(f"no list of {' or '.join(without)}: it has the stimuli that no other list names")
    stimuli = content.stimuli if reader is None else _without_first(content.stimuli, options)
    for stimulus in stimuli:
        place = lists.get(stimulus.name)
        entries.append(
            gaze_entry(name, stimulus=stimulus, options=options, near=place.group if place else "")
        )
    if unknown := [entry.name for entry in entries if lists and entry.name not in lists]:
        notes.append(f"{len(unknown)} stimuli are in no list of the project, as {unknown[0]}: never tested")
    return tuple(entries), notes


def split_of(
    name: str, root: pathlib.Path, entries: tuple[GazeEntry, ...], split: str, fold: int | None
) -> tuple[GazeEntry, ...]:
    """Returns the stimuli of a split.

    Clips are tested in the fold of their list; photographs whose third is `TEST_THIRD` are those of the
    test. `gaze:NAME` has the stimuli that its lists/SPLIT.txt names, a line each; without such a file, those
    that no other list names; without any list, all.

    Raises:
      AvsalError: a list names a stimulus that is not in the set, or a split without a list has no stimulus.
    """
    lists = placements(name)
    if lists:
        tested = TEST_THIRD if fold is None else fold
        in_test = {entry.name: entry.name in lists and lists[entry.name].part == tested for entry in entries}
        return tuple(entry for entry in entries if in_test[entry.name] == (split == "test"))
    lists = _own_lists(pathlib.Path(root))
    if not lists:
        return entries
    by_name = {entry.name: entry for entry in entries}
    contents = {part: _stimuli_of_list(path, by_name) for part, path in lists.items()}
    if split in contents:
        return tuple(by_name[line] for line in contents[split])
    rest = tuple(entry for entry in entries if not any(entry.name in lines for lines in contents.values()))
    if not rest:
        raise AvsalError(
            f"{name} has no {split}: {_OWN_LISTS}/ has no {split}.txt, and its other lists name every "
            "stimulus"
        )
    return rest


def _own_lists(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the lists of a set of your own by split."""
    paths = {split: root / _OWN_LISTS / f"{split}.txt" for split in _OWN_SPLITS}
    return {split: path for split, path in paths.items() if path.is_file()}


def _stimuli_of_list(path: pathlib.Path, by_name: dict[str, GazeEntry]) -> tuple[str, ...]:
    """Returns the stimuli of a list, each once; AvsalError if one of them is not there."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise AvsalError(f"cannot read the list {path}: {damage_reason(error)}") from error
    names = [line.strip() for line in lines if line.strip()]
    for line in names:
        if line not in by_name:
            raise AvsalError(
                f"{path} names {line!r}, which is not among {len(by_name)} stimuli with gaze"
                f"{did_you_mean(line, by_name)}"
            )
    return tuple(dict.fromkeys(names))


def _without_first(stimuli: tuple[Stimulus, ...], options: GazeOptions) -> Iterator[Stimulus]:
    """Yields stimuli without the fixations that `drop_first` leaves out."""
    return map(_later_fixations, stimuli) if options.drop_first else iter(stimuli)


def _later_fixations(stimulus: Stimulus) -> Stimulus:
    """Leaves out fixations with start <= 0; without times, the first of each observer."""
    table = stimulus.fixations
    is_first = np.diff(table.observer, prepend=-1) != 0
    keep = np.where(np.isnan(table.start), ~is_first, table.start > 0)
    note = f"{int((~keep).sum())} first fixations are left out (--drop-first)"
    return dataclasses.replace(stimulus, fixations=table.rows(keep), notes=(*stimulus.notes, note))
