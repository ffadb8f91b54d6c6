"""The data sets by name: `open_dataset` finds the videos of a split on disk."""

from __future__ import annotations

import dataclasses
import pathlib

from avsal_jax.data.packagings import Rearranged, ReleasedDhf1k, Stavis, open_dhf1k
from avsal_jax.data.schema import VideoEntry
from avsal_jax.data.sets.gaze_sets import open_gaze, split_of
from avsal_jax.data.sets.stimuli import DEFAULT_OPTIONS, GazeOptions
from avsal_jax.data.video_lists import (
    ListedVideo,
    checked_name,
    read_domain,
    read_fold_list,
    read_stimulus_list,
    read_user_list,
    shipped_categories,
    shipped_domain,
    shipped_list,
)
from avsal_jax.errors import AvsalError, did_you_mean


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What is known of a set before its files are seen.

    Attributes:
      packaging: `stavis`, `dhf1k`, `shots` (Hollywood-2, UCF-Sports), `rearranged` (your own like DHF1K) or
        `gaze` (recorded gaze with its stimuli).
      fps: frames per second where no list states them; None if no such number holds for the set.
      splits: their names.
      folds: numbers of folds, or empty where there is one split.
      folder: the set's folder in the packaging of STAViS.
      shipped: its lists are in the package (MIT, from GASP) and stand in for missing ones.
    """

    packaging: str
    fps: float | None
    splits: tuple[str, ...] = ("train", "test")
    folds: tuple[int, ...] = ()
    folder: str = ""
    shipped: bool = False


_FOLDS = (1, 2, 3)
_ALL_SPLITS = ("train", "val", "test")
ALL_STIMULI = "all"  # a split of recorded gaze: every stimulus, whatever its part
_GAZE_SPLITS = ("train", "test", ALL_STIMULI)
_PAL, _NTSC = 24.99975, 29.9997  # as the lists of STAViS have them
_AVE_SETS = ("diem", "coutrot1", "coutrot2")

DATASETS: dict[str, DataSet] = {
    "dhf1k": DataSet("dhf1k", 30.0, _ALL_SPLITS),
    "hollywood2": DataSet("shots", 24.0),
    "ucf": DataSet("shots", 24.0),  # the packaging states no rate; 24 is that of unisal @0440df77
    "diem": DataSet("stavis", _NTSC, folds=_FOLDS, folder="DIEM", shipped=True),
    "coutrot1": DataSet("stavis", _PAL, folds=_FOLDS, folder="Coutrot_db1", shipped=True),
    "coutrot2": DataSet("stavis", _PAL, folds=_FOLDS, folder="Coutrot_db2", shipped=True),
    "avad": DataSet("stavis", None, folds=_FOLDS, folder="AVAD"),
    "etmd": DataSet("stavis", _PAL, folds=_FOLDS, folder="ETMD_av"),
    "summe": DataSet("stavis", None, folds=_FOLDS, folder="SumMe"),
    "ave": DataSet("stavis", None, _ALL_SPLITS, shipped=True),
    "synthetic": DataSet("stavis", 25.0, _ALL_SPLITS, folder="synthetic"),  # written by data/synthetic
    "osie": DataSet("gaze", None, _GAZE_SPLITS),
    "eyecrowd": DataSet("gaze", None, _GAZE_SPLITS),
    "sun_scenes": DataSet("gaze", None, _GAZE_SPLITS),
    "hevc_gaze": DataSet("gaze", None, _GAZE_SPLITS, folds=(1, 2, 3, 4, 5)),
}


def open_dataset(
    name: str,
    root,
    split: str = "test",
    fold: int | None = None,
    list_file=None,
    gaze: GazeOptions | None = None,
) -> tuple[VideoEntry, ...]:
    """Finds the videos of a split; nothing but names of files, lists, and tables of gaze is read.

    Args:
      name: a key of DATASETS; or a set of your own: `stavis:NAME` (in the packaging of STAViS, with NAME as
        the name of its folders), `dhf1k:NAME` (<split>/<video>/{images,maps,fixation}) or `gaze:NAME`
        (stimuli/ with fixations.csv or gaze.csv).
      root: the folder that holds the set.
      split: `train`, `val` or `test`; val exists for dhf1k, ave, synthetic and your own sets; `all` for
        recorded gaze.
      fold: 1, 2 or 3 for the audio-visual sets, 1 to 5 for hevc_gaze; DIEM has one split, which every number
        means, and the test of hevc_gaze without a number has all clips. None for the others, and for a
        `stavis:NAME` whose lists have no number.
      list_file: videos to use instead of the split's, as `video`, `set video` or `video frames fps` per
        line, or `domain:NAME` (`video_lists.read_domain`); the sets are in the packaging of `name`. Then
        `fold` says nothing, and `split` only where videos are sought first.
      gaze: how recorded gaze is read; the defaults where None.

    Returns:
      The videos in the order of the list; one whose files are missing has `frames` 0 and notes.

    Raises:
      AvsalError: the set, split or fold is not known, the root is not one of the set's packaging, the
        list is missing, damaged or leads out of the root, or no video of it has its files.
    """
    dataset = find_dataset(name)
    root = pathlib.Path(root)
    if not root.is_dir():
        raise AvsalError(f"there is no folder {root}; the root is where {name} was unpacked")
    if split not in dataset.splits:
        raise AvsalError(f"{name} has no split {split!r}; it has {', '.join(dataset.splits)}")
    if list_file is None:
        _check_fold(name, dataset, fold=fold, split=split)
    if dataset.packaging == "gaze":
        return _gaze_entries(name, root=root, split=split, fold=fold, list_file=list_file, options=gaze)
    rows = () if list_file is None else _named_rows(name, pathlib.Path(list_file))
    packaging = _open_packaging(dataset, root=root, split=split, names={row.dataset for row in rows} | {name})
    rows = rows or _split_rows(name, dataset=dataset, root=root, packaging=packaging, split=split, fold=fold)
    for one in dict.fromkeys(row.dataset for row in rows):
        packaging.check(one)
    entries = tuple(packaging.entry(row, row.dataset) for row in _with_rates(rows, root))
    if not any(entry.frames for entry in entries):
        raise AvsalError(
            f"none of the {len(entries)} videos of {name} in {root} can be used; "
            f"{entries[0].name}: {'; '.join(entries[0].notes)}"
        )
    return entries


def open_whole(name: str, root, gaze: GazeOptions | None = None) -> tuple[tuple[VideoEntry, ...], list[str]]:
    """Returns all stimuli of a set of recorded gaze, whatever the split, and notes on the set.

    Other sets have neither: nothing is returned.
    """
    if find_dataset(name).packaging != "gaze":
        return (), []
    return open_gaze(name, pathlib.Path(root), gaze or DEFAULT_OPTIONS)


def find_dataset(name: str) -> DataSet:
    """Returns what is known of a set; AvsalError with the names that exist if it is none."""
    packaging, colon, own = name.partition(":")
    if not colon and name in DATASETS:
        return DATASETS[name]
    if colon and packaging == "stavis":
        return DataSet("stavis", None, _ALL_SPLITS, folder=checked_name(own, f"data set {name!r}"))
    if colon and packaging == "dhf1k":
        checked_name(own, f"data set {name!r}")
        return DataSet("rearranged", 30.0, _ALL_SPLITS)
    if colon and packaging == "gaze":
        checked_name(own, f"data set {name!r}")
        return DataSet("gaze", None, (*_ALL_SPLITS, ALL_STIMULI))
    raise AvsalError(
        f"{name!r} is no data set; there are {', '.join(DATASETS)}, and for one's own in a known packaging "
        "stavis:NAME, dhf1k:NAME and gaze:NAME"
    )


def _gaze_entries(
    name: str,
    root: pathlib.Path,
    split: str,
    fold: int | None,
    list_file,
    options: GazeOptions | None,
) -> tuple[VideoEntry, ...]:
    """The stimuli of a split, or those that a user's list names."""
    entries, _ = open_gaze(name, root, options or DEFAULT_OPTIONS)
    if list_file is not None:
        stimuli = _listed_stimuli(name, root, entries=entries, path=pathlib.Path(list_file))
    elif split == ALL_STIMULI or (find_dataset(name).folds and fold is None):
        stimuli = entries  # each is tested in one fold
    else:
        stimuli = split_of(name, root, entries=entries, split=split, fold=fold)
    if not any(entry.frames for entry in stimuli):
        reasons = "".join(f"; {entry.name}: {'; '.join(entry.notes)}" for entry in stimuli[:1])
        raise AvsalError(f"none of the {len(stimuli)} stimuli of {name} in {root} can be used{reasons}")
    return stimuli


def _listed_stimuli(name: str, root: pathlib.Path, entries, path: pathlib.Path) -> tuple[VideoEntry, ...]:
    """The stimuli that the lines of a list name, each once; a line may begin with the name of the set."""
    if shipped_domain(str(path)) is not None:
        raise AvsalError(f"{path} is a list of other sets than {name}")
    by_name, stimuli = {entry.name: entry for entry in entries}, {}
    for place, line in read_stimulus_list(path):
        first, *rest = line.split(maxsplit=1)
        if line not in by_name and rest and first != name and (first in DATASETS or ":" in first):
            raise AvsalError(f"{place} names the set {first}, and this is {name}; open it by itself")
        stimulus = rest[0] if line not in by_name and rest and first == name else line
        if stimulus not in by_name:
            raise AvsalError(
                f"{name} has no stimulus {stimulus!r} in {root}; it has {len(entries)} others"
                f"{did_you_mean(stimulus, by_name)}"
            )
        stimuli[stimulus] = by_name[stimulus]
    return tuple(stimuli.values())


def own_folds(folder: str, root, split: str) -> list[int | None]:
    """Returns the folds of one's own set in the packaging of STAViS, by the lists in its root.

    Args:
      folder: the set's, as `find_dataset(name).folder`.
      root, split: as in `open_dataset`.

    Returns:
      Numbers of folds; None for a list without a number.
    """
    begin = f"{folder}_list_{split}"
    names = {p.name for p in (pathlib.Path(root) / "fold_lists").glob("*_fps.txt")}
    middles = [n.removeprefix(begin).removesuffix("_fps.txt") for n in names if n.startswith(begin)]
    numbers = sorted(int(m[1:]) for m in middles if m[:1] == "_" and m[1:].isdecimal() and m[1] != "0")
    return [*([None] if "" in middles else []), *numbers]


def _check_fold(name: str, dataset: DataSet, fold: int | None, split: str) -> None:
    if name.startswith("stavis:"):
        if fold is not None and fold < 1:
            raise AvsalError(f"folds are numbered from 1; got {fold}")
    elif not dataset.folds:
        if fold is not None:
            raise AvsalError(f"{name} has no folds; leave the fold {fold} out")
    elif fold is None and dataset.packaging == "gaze" and split != "train":
        return  # a clip is tested in one fold: without a number, all folds are meant
    elif split == ALL_STIMULI and fold is not None:
        raise AvsalError(f"the split {ALL_STIMULI} of {name} has no folds; leave the fold {fold} out")
    elif fold not in dataset.folds and not (name == "diem" and fold is None):
        given = "no fold was given" if fold is None else f"got {fold}"
        raise AvsalError(f"{name} has the folds {', '.join(map(str, dataset.folds))}; {given}")


def _open_packaging(
    dataset: DataSet, root: pathlib.Path, split: str, names: set[str]
) -> Stavis | Rearranged | ReleasedDhf1k:
    if dataset.packaging == "stavis":
        return Stavis(root, {name: find_dataset(name).folder for name in names | set(_AVE_SETS)})
    if dataset.packaging == "dhf1k":
        return open_dhf1k(root, split)
    return Rearranged(root, split, shots=dataset.packaging == "shots")


def _named_rows(name: str, path: pathlib.Path) -> tuple[ListedVideo, ...]:
    """Reads the user's list; every line gets a set, in the packaging of `name`."""
    packaging = find_dataset(name).packaging
    shipped = shipped_domain(str(path)) is not None
    rows = _not_empty(read_domain(str(path)) if shipped else read_user_list(path, name), path)
    for row in rows:
        try:
            other = find_dataset(row.dataset).packaging
        except AvsalError as error:
            raise AvsalError(f"{path}, {row.video}: {error}") from error
        if row.dataset == "ave":
            raise AvsalError(
                f"{path}: ave is made of several sets; write `set video`, as in `diem {row.video}`"
            )
        if other != packaging:
            raise AvsalError(
                f"{path}: {row.dataset} {row.video} is not in the packaging of {name}; open it by itself"
            )
    return rows


def _not_empty(rows: tuple[ListedVideo, ...], path: pathlib.Path) -> tuple[ListedVideo, ...]:
    if not rows:
        raise AvsalError(f"the list {path} names no video")
    return rows


def _split_rows(name, dataset, root, packaging, split, fold) -> tuple[ListedVideo, ...]:
    """The videos of a split: by the root's fold lists, the shipped lists, or what lies in its folders."""
    if dataset.packaging != "stavis":
        rows = packaging.videos()
    elif name == "ave":
        return shipped_list({"val": "validation"}.get(split, split) + "_ave")
    else:
        packaging.check(name)
        number = "" if name == "diem" or fold is None else f"_{fold}"
        path = root / "fold_lists" / f"{dataset.folder}_list_{split}{number}_fps.txt"
        if path.is_file():
            rows = _not_empty(read_fold_list(path), path)
        elif dataset.shipped:
            rows = [row for row in shipped_list(f"{split}_stavis_{fold or 1}") if row.dataset == name]
        else:
            raise AvsalError(
                f"{name} needs its list {path}: unpack fold_lists.tar.gz of STAViS there, or name a list file"
            )
    return tuple(dataclasses.replace(row, dataset=name) for row in rows)


def _with_rates(rows: tuple[ListedVideo, ...], root: pathlib.Path) -> list[ListedVideo]:
    """Fills in what the root's fold lists, or else the set, say of frames, rates and categories."""
    known: dict[str, dict[str, ListedVideo]] = {}
    filled = []
    for row in rows:
        dataset = find_dataset(row.dataset)
        if row.fps is None and row.dataset not in known:
            known[row.dataset] = _root_lists(dataset, root)
        other = row if row.fps is not None else known[row.dataset].get(row.video, row)
        fps = other.fps or dataset.fps
        if fps is None:
            raise AvsalError(
                f"the rate of {row.dataset} {row.video} is not known: no list in {root / 'fold_lists'} has "
                "it; write `video frames fps` in your list"
            )
        category = row.category or shipped_categories().get((row.dataset, row.video))
        filled.append(dataclasses.replace(row, frames=other.frames, fps=fps, category=category))
    return filled


def _root_lists(dataset: DataSet, root: pathlib.Path) -> dict[str, ListedVideo]:
    """Returns what all the root's fold lists of a set say, by the name of the video."""
    if dataset.packaging != "stavis":
        return {}
    begin = f"{dataset.folder}_list_"
    paths = sorted(p for p in (root / "fold_lists").glob("*_fps.txt") if p.name.startswith(begin))
    return {row.video: row for path in paths for row in read_fold_list(path)}
