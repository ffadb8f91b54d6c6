"""Lists of videos: the fold lists of STAViS, lists of users, and the lists of this package.

A name from a list becomes part of a path, so each name is checked to be that of a single folder.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
import pathlib
from collections.abc import Iterable

from avsal_jax.errors import AvsalError

_LISTS = pathlib.Path(__file__).parents[1] / "lists"
_GASP = _LISTS / "gasp"
_MAX_BYTES, _MAX_FRAMES, _MAX_RATE = 16_000_000, 100_000_000, 1_000.0
_MAX_NAME_BYTES = 200  # of the 255 that file systems take; suffixes are added
# A name that is truncated in GASP's fold files, and the scene type with which they mark two excluded videos.
_RENAMED = {"planet_earth_jungles_monkeys_1280x70": "planet_earth_jungles_monkeys_1280x704"}
_SCENES = {"SocialEXCLUDE": "Social"}


@dataclasses.dataclass(frozen=True)
class ListedVideo:
    """A line of a list.

    Attributes:
      video: the name of the video.
      dataset: the set that it belongs to, or None if the list does not state it.
      frames: the number of frames that the list states, or None.
      fps: frames per second, or None if the list does not state them.
      category: the scene type, or None.
      notes: what is unusual about the line.
    """

    video: str
    dataset: str | None = None
    frames: int | None = None
    fps: float | None = None
    category: str | None = None
    notes: tuple[str, ...] = ()


def read_fold_list(path: pathlib.Path) -> tuple[ListedVideo, ...]:
    """Reads a list of STAViS: `name frames fps` per line.

    Raises:
      AvsalError: the list cannot be read, or a line (given by its number) has a different form.
    """
    rows = []
    for location, words in _lines(path):
        if len(words) != 3:
            raise AvsalError(f"{location} has {len(words)} words; a fold list has `name frames fps` per line")
        rows.append(_with_numbers(words, location))
    return _without_repeats(rows, path)


def read_user_list(path: pathlib.Path, dataset: str) -> tuple[ListedVideo, ...]:
    """Reads a list of the user: `video`, `set video` or `video frames fps` per line.

    Lines that name no set are of `dataset`.

    Errors as in `read_fold_list`.
    """
    rows = []
    for location, words in _lines(path):
        if len(words) == 1:
            rows.append(ListedVideo(checked_name(words[0], location), dataset))
        elif len(words) == 2:
            rows.append(ListedVideo(checked_name(words[1], location), words[0]))
        elif len(words) == 3:
            rows.append(dataclasses.replace(_with_numbers(words, location), dataset=dataset))
        else:
            raise AvsalError(
                f"{location} has {len(words)} words; a list has `video`, `set video` or "
                "`video frames fps` per line"
            )
    return _without_repeats(rows, path)


def read_stimulus_list(path: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """Returns (`path, line N`, text) of each line: a stimulus, or set and stimulus. Names may hold spaces.

    Raises:
      AvsalError: the list cannot be read, or is empty.
    """
    rows = tuple(_text_lines(path))
    if not rows:
        raise AvsalError(f"the list {path} names no stimulus")
    return rows


def shipped_domain(source: str) -> str | None:
    """Returns NAME of `domain:NAME`, a list that comes with the project; None for the path of a file."""
    kind, colon, name = source.partition(":")
    return name if colon and kind == "domain" else None


def read_domain(source: str) -> tuple[ListedVideo, ...]:
    """Reads a list with `set video` per line: a file, or `domain:NAME` for one that comes with the project.

    `domain:nature` has the videos of DIEM and Coutrot whose scene type in AVE is Nature (by the lists of
    GASP); `domain:nature_train` and `domain:nature_test` are those of GASP's train.csv and test.csv
    (knowledgetechnologyuhh/gasp @3d181e47, MIT), 18 and 10 as in paper 000, whose lists were not published.

    Errors as in `read_fold_list`.
    """
    name = shipped_domain(source)
    if name is None:
        path = pathlib.Path(source)
    else:
        shipped = sorted(p.stem for p in (_LISTS / "domains").glob("*.txt"))
        if name not in shipped:
            raise AvsalError(
                f"{source!r} is not a list of this package; available lists are {', '.join(shipped)}"
            )
        path = _LISTS / "domains" / f"{name}.txt"
    rows = read_user_list(path, "")
    if unnamed := [row.video for row in rows if not row.dataset]:
        raise AvsalError(f"{path}: {unnamed[0]} has no set; write `set video`, as in `diem {unnamed[0]}`")
    if not rows:
        raise AvsalError(f"the list {path} names no video")
    return rows


@functools.cache
def shipped_list(name: str) -> tuple[ListedVideo, ...]:
    """Reads a list of GASP (knowledgetechnologyuhh/gasp @bc76e0e7, MIT), in the names of STAViS.

    Args:
      name: `train_stavis_1`, `test_ave`, ... GASP rounds rates, so they are not taken from it.
    """
    with (_GASP / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            ListedVideo(
                stavis_name(row["video_id"]),
                row["dataset"],
                category=_SCENES.get(row["scene_type"], row["scene_type"]),
            )
            for row in csv.DictReader(file)
        )


@functools.cache
def shipped_categories() -> dict[tuple[str, str], str]:
    """Returns (set, video) -> `Social`, `Nature` or `Other` for DIEM, Coutrot1 and Coutrot2."""
    names = sorted(path.stem for path in _GASP.glob("*.csv"))
    return {(row.dataset, row.video): row.category for name in names for row in shipped_list(name)}


def stavis_name(name: str) -> str:
    """Returns a video's name as STAViS writes it: `clip_4` of Coutrot and GASP is `clip4`."""
    head, _, number = name.partition("clip_")
    return f"clip{number}" if not head and number.isdecimal() else _RENAMED.get(name, name)


def checked_name(name: str, location: str) -> str:
    """Returns `name` if it is that of a single folder; else raises AvsalError with `location`."""
    if name in ("", ".", "..") or any(c in name for c in "/\\:") or not name.isprintable():
        raise AvsalError(
            f"{location}: {name!r} is not a name of a video; names hold no '/', '\\' or ':' and are not '..'"
        )
    if (length := len(name.encode())) > _MAX_NAME_BYTES:
        raise AvsalError(
            f"{location}: a name of {length} bytes; names of videos have up to {_MAX_NAME_BYTES}"
        )
    return name


def _with_numbers(words: list[str], location: str) -> ListedVideo:
    name = checked_name(words[0], location)
    try:
        frames, fps = int(words[1]), float(words[2])
    except ValueError:
        frames, fps = 0, math.nan
    if not (0 < frames <= _MAX_FRAMES and 0 < fps <= _MAX_RATE):
        raise AvsalError(
            f"{location}: {' '.join(words[1:])!r} is not a number of frames and a rate, as in `385 24.99975`"
        )
    return ListedVideo(name, frames=frames, fps=fps)


def _lines(path: pathlib.Path) -> Iterable[tuple[str, list[str]]]:
    """Yields `path, line N` and the words of each line that is not empty."""
    return ((place, line.split()) for place, line in _text_lines(path))


def _text_lines(path: pathlib.Path) -> Iterable[tuple[str, str]]:
    """Yields `path, line N` and the text of each line that is not empty, without space around it."""
    try:
        with path.open("rb") as file:  # a device or a pipe states no size
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise AvsalError(f"{path} is too large to be a list of videos")
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except OSError as error:
        raise AvsalError(f"cannot read the list {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AvsalError(f"{path} is not a list of videos: it is not UTF-8 text") from error
    for number, line in enumerate(text.split("\n"), 1):
        if text := line.strip():
            yield f"{path}, line {number}", text


def _without_repeats(rows: list[ListedVideo], path: pathlib.Path) -> tuple[ListedVideo, ...]:
    """Keeps the first line of each video, with a note if there are more."""
    unique: dict[tuple, ListedVideo] = {}
    for row in rows:
        key = row.dataset, row.video
        if key in unique:
            note = f"{path.name} lists it more than once"
            unique[key] = dataclasses.replace(unique[key], notes=(note,))
        else:
            unique[key] = row
    return tuple(unique.values())
