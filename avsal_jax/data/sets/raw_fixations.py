"""Fixations of each observer, from the raw files of DIEM and Coutrot.

The packaged maps combine all observers. Measures in which one half of the observers predicts the other half
need them separately. Positions become pixels of the video's own size, counted from 0, rounded down.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.sets.video_lists import stavis_name
from avsal_jax.data.truth.mat_files import load_mat, mat_variables
from avsal_jax.errors import AvsalError
from avsal_jax.media.images import natural_order, visible_files

_SCREEN = (1280, 960)  # width, height of DIEM's; the movie was shown in its middle
_FIXATION = 1  # DIEM's event; -1 is an error, 0 a blink, 2 a saccade
_MAX_BYTES, _MAX_FRAMES = 100_000_000, 10_000_000
_CONDITIONS = {"Coutrot_Database1": "OriginalSounds", "Coutrot_Database2": "AudioVisual"}


@dataclasses.dataclass(frozen=True)
class Observer:
    """The fixations of one person in one video, at most one per frame.

    Attributes:
      name: of the observer, as in the files.
      frames: int32 [K], rising, from 0.
      points: int32 [K, 2], (row, column) in the video, for each of `frames`.
      outside: number of fixations outside the video, which are excluded.
    """

    name: str
    frames: np.ndarray
    points: np.ndarray
    outside: int = 0

    def at(self, index: int) -> tuple[int, int] | None:
        """Returns the (row, column) fixated in frame `index`, or None."""
        place = int(np.searchsorted(self.frames, index))
        if place == len(self.frames) or self.frames[place] != index:
            return None
        return int(self.points[place, 0]), int(self.points[place, 1])


@dataclasses.dataclass(frozen=True)
class RawClip:
    """A clip of a Coutrot database.

    Attributes:
      fps: frames per second.
      width, height: pixels.
      frames: number of frames.
      observers: in the order of the file.
    """

    fps: float
    width: int
    height: int
    frames: int
    observers: tuple[Observer, ...]


People = dict[str, tuple[tuple[Observer, ...], tuple[int, int]]]  # video -> observers, (height, width)


@dataclasses.dataclass(frozen=True)
class RawFixations:
    """How the raw fixations of a data set are read, observer by observer.

    Attributes:
      read: function of their path and of the videos: name -> observers, and (height, width) of the frames
        that they saw. Videos without raw fixations are omitted.
      blur: sigma of a density, as a share of the height; None for 20 pixels at the size of the truth.
    """

    read: Callable[[pathlib.Path, Sequence[VideoEntry]], People]
    blur: float | None = None


def people_of_folders(raw: pathlib.Path, entries: Sequence[VideoEntry]) -> People:
    """Returns the observers of videos from a folder of event files for each, as in DIEM.

    Args:
      raw: a folder with `<video>/event_data` or `<video>`.
      entries: the videos.

    Raises:
      AvsalError: as `diem_observers`.
    """
    people = {}
    for entry in entries:
        if not entry.frames:
            continue
        folder = next((f for f in (raw / entry.name / "event_data", raw / entry.name) if f.is_dir()), None)
        if folder is not None:
            height, width = entry.frame_size
            people[entry.name] = (diem_observers(folder, width, height), (height, width))
    return people


def coutrot_people(raw: pathlib.Path, entries: Sequence[VideoEntry]) -> People:
    """Returns the observers of all clips of a Coutrot database, a .mat file; errors as `coutrot_clips`."""
    return {name: (clip.observers, (clip.height, clip.width)) for name, clip in coutrot_clips(raw).items()}


def diem_observers(folder_or_files, width: int, height: int) -> tuple[Observer, ...]:
    """Reads the event files of one DIEM video, one file per observer.

    A line is: frame (from 1), then x, y, pupil, event of the left eye, and of the right. Only fixations
    count. If both eyes fixate, their mean position is used (not stated by the authors of the set).

    Args:
      folder_or_files: the video's `event_data` folder, or its files.
      width, height: of the movie, in pixels; its name ends with them.

    Raises:
      AvsalError: there is no file, or a file is damaged.
    """
    if not (0 < width <= _SCREEN[0] and 0 < height <= _SCREEN[1]):
        raise AvsalError(
            f"a movie of {width}x{height} was not shown on DIEM's screen of 1280x960; check its size"
        )
    if isinstance(folder_or_files, (str, pathlib.Path)):
        folder = pathlib.Path(folder_or_files)
        if not folder.is_dir():
            raise AvsalError(f"there is no folder {folder} of DIEM event files")
        files = [p for p in visible_files(folder) if p.suffix == ".txt"]
    else:
        folder, files = None, [pathlib.Path(path) for path in folder_or_files]
    if not files:
        raise AvsalError(
            f"there are no event files (.txt) in {folder}" if folder else "no event file was named"
        )
    corner = (_SCREEN[0] - width) / 2, (_SCREEN[1] - height) / 2
    return tuple(_diem_observer(path, corner, (height, width)) for path in sorted(files, key=natural_order))


def coutrot_clips(path, condition: str | None = None) -> dict[str, RawClip]:
    """Reads a raw Coutrot database: clip name (as in STAViS, `clip4`) -> its size and observers.

    Args:
      path: coutrot_database1.mat or coutrot_database2.mat.
      condition: the auditory condition, a field of the file; None for `OriginalSounds` (database 1) or
        `AudioVisual` (database 2).

    Raises:
      AvsalError: it cannot be read, is not such a database, or lacks the condition.
    """
    path = pathlib.Path(path)
    names = [name for name, _, _ in mat_variables(path)]
    variable = next((name for name in _CONDITIONS if name in names), None)
    if variable is None:
        raise AvsalError(f"{path} is not a Coutrot database: it holds neither {' nor '.join(_CONDITIONS)}")
    database = _structure(load_mat(path, variable), path, variable)
    condition = condition or _CONDITIONS[variable]
    if condition not in database:
        conditions = ", ".join(name for name in database if name != "Header")
        raise AvsalError(f"{path} has no condition {condition!r}; it has {conditions}")
    clips = _structure(database[condition], path, condition)
    return {stavis_name(name): _coutrot_clip(clip, path, name) for name, clip in clips.items()}


def _diem_observer(path: pathlib.Path, corner: tuple[float, float], size: tuple[int, int]) -> Observer:
    if path.is_file() and path.stat().st_size > _MAX_BYTES:
        raise AvsalError(f"{path} is too large to be a DIEM event file")
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        table = np.array([line.split() for line in lines if line.strip()], np.float64).reshape(-1, 9)
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise AvsalError(
            f"{path} is not a DIEM event file: its lines have 9 numbers (frame; x, y, pupil, event of each "
            "eye)"
        ) from error
    frames = table[:, 0]
    if not ((frames >= 1) & (frames <= _MAX_FRAMES) & (frames == np.floor(frames))).all():
        raise AvsalError(f"{path} has an invalid frame number; frames are numbered from 1")
    eyes = table[:, 1:].reshape(-1, 2, 4)  # x, y, pupil, event
    fixating = (eyes[..., 3] == _FIXATION) & np.isfinite(eyes[..., :2]).all(-1)
    is_fixated = fixating.any(1)
    total = np.where(fixating[..., None], eyes[..., :2], 0).sum(1)[is_fixated]
    place = total / fixating.sum(1)[is_fixated, None] - corner
    return _observer(path.stem, frames=frames[is_fixated].astype(np.int32) - 1, place=place, size=size)


def _observer(name: str, frames: np.ndarray, place: np.ndarray, size: tuple[int, int]) -> Observer:
    """Keeps (x, y) `place` [K, 2] inside `size` (height, width), and the first fixation of each frame."""
    points = np.floor(place[:, ::-1])
    inside = ((points >= 0) & (points < size)).all(1)
    frames, first = np.unique(frames[inside], return_index=True)
    points = points[inside][first].astype(np.int32)
    return Observer(name, frames=frames.astype(np.int32), points=points, outside=int((~inside).sum()))


def _coutrot_clip(clip, path: pathlib.Path, name: str) -> RawClip:
    fields = _structure(clip, path, name)
    info = _structure(fields.get("info"), path, f"{name}.info")
    fps, width, height, count = (
        _number(info, field=field, path=path, name=name)
        for field in ("fps", "vidwidth", "vidheight", "nframe")
    )
    data = fields.get("data")
    if not isinstance(data, np.ndarray) or data.dtype.kind not in "fiu" or data.ndim not in (2, 3):
        raise AvsalError(f"{name} in {path} has no positions: `data` is 2 x frames x observers")
    if data.shape[0] != 2:
        raise AvsalError(f"{name} in {path} has `data` of shape {data.shape}; it is 2 x frames x observers")
    count = min(int(count), data.shape[1])
    data = np.atleast_3d(data)[:, :count].astype(np.float64)  # MATLAB drops a last axis of one observer
    size, frames = (int(height), int(width)), np.arange(count, dtype=np.int32)
    observers = []
    for number in range(data.shape[2]):
        place = data[:, :, number].T
        is_valid = np.isfinite(place).all(1)
        observers.append(
            _observer(f"observer {number + 1}", frames=frames[is_valid], place=place[is_valid], size=size)
        )
    return RawClip(fps, width=int(width), height=int(height), frames=count, observers=tuple(observers))


def _structure(value, path: pathlib.Path, name: str) -> Mapping[str, object]:
    """Returns the fields of a 1 x 1 MATLAB structure."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    names: Iterable[str] = getattr(value, "_fieldnames", None) or ()
    if not names:
        raise AvsalError(f"{path} is not a Coutrot database: {name} is not a structure")
    return {field: getattr(value, field) for field in names}


def _number(info: Mapping[str, object], field: str, path: pathlib.Path, name: str) -> float:
    """Returns a positive number, unwrapped from any depth of MATLAB cells."""
    value = info.get(field)
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if not isinstance(value, np.ndarray) or value.size != 1 or value.dtype.kind not in "fiu":
        raise AvsalError(f"{name} in {path} does not say its {field}")
    number = float(value.item())
    if not 0 < number < _MAX_FRAMES:
        raise AvsalError(f"{name} in {path} has {field} {number}")
    return number
