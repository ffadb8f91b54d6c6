"""Gaze on test sequences of HEVC: remega/video_database @80711cd (Xu et al., TIP 2017).

`video_database.mat` is MATLAB 7.3, which is HDF5; h5py reads it. Clips lie in videos/.
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np

from avsal_jax.data.gaze.fixation_table import FixationTable
from avsal_jax.data.gaze.stimuli import GazeSet, Stimulus
from avsal_jax.data.gaze.stimulus_files import name_list
from avsal_jax.data.sets.video_lists import checked_name
from avsal_jax.errors import AvsalError, damage_reason
from avsal_jax.media.frame_reader import FrameReader
from avsal_jax.media.images import visible_files

_FILE, _GROUP = "video_database.mat", "video_database"
_MAX_BYTES, _MAX_NAMES, _MAX_ROWS, _MAX_SIDE = 1 << 30, 10_000, 10_000_000, 1 << 15
# Columns of `fixdata` by the names that `fixdata_fields` states; in the order that FixationTable has them.
_FIELDS = ("SubjectIndex", "FixationPointX", "FixationPointY", "Timestamp", "GazeDuration", "VideoIndex")


def read_hevc_gaze(root: pathlib.Path) -> GazeSet:
    """Reads the clips that lie in the root, with their rows; those that are missing are noted.

    Raises:
      AvsalError: h5py is not installed, or the table is missing or damaged.
    """
    path = root / _FILE
    with _opened(path) as file:
        videos, observers = _names(file, "video_names_list"), _names(file, "subj_names_list")
        rows = _rows(file)
        info = {key: _numbers(file, f"videos_info/{key}") for key in ("frames", "framerate_fps", "size")}
    if info["size"].shape != (2, len(videos)) or any(
        info[key].size != len(videos) for key in ("frames", "framerate_fps")
    ):
        raise AvsalError(f"{path} is damaged: it does not state frames, rate and size of each video")
    if not all(np.isfinite(values).all() and (values > 0).all() for values in info.values()):
        raise AvsalError(f"{path} is damaged: frames, rates and sizes of videos are numbers above 0")
    spellings = collections.Counter(map(_spelling, videos))
    if twice := [name for name in videos if spellings[_spelling(name)] > 1]:
        raise AvsalError(f"{path} names the video {twice[0]} twice")
    valid, notes = _valid_rows(rows, videos=len(videos), observers=len(observers))
    files, spare = _files(root / "videos")
    stimuli = []
    for index, name in enumerate(videos):
        checked_name(name, f"{path}, video {index + 1}")
        table = valid[valid[:, 5] == index + 1]
        table = np.concatenate([table[:, :1] - 1, table[:, 1:3], table[:, 3:5] * 1e-3], 1)
        header = {key: info[key].reshape(-1, len(videos))[:, index] for key in info}
        stimuli.append(
            _clip(name, path=files.pop(_spelling(name), None), header=header, observers=observers, rows=table)
        )
    if spare := sorted(path.name for path in [*files.values(), *spare]):
        notes.append(f"{len(spare)} files in videos/ are not read: {name_list(spare)}")
    if not any(stimulus.path for stimulus in stimuli):
        reasons = next((f"; {stimulus.name}: {stimulus.notes[0]}" for stimulus in stimuli), "")
        raise AvsalError(f"{root / 'videos'} has none of the {len(videos)} clips that {_FILE} names{reasons}")
    return GazeSet(tuple(sorted(stimuli, key=lambda stimulus: stimulus.name)), tuple(notes))


def _clip(name: str, path, header: dict, observers: list[str], rows: np.ndarray) -> Stimulus:
    """Positions are pixels of the size that the table states; the clip may have another.

    A clip that cannot be read has `path` None and a note.
    """
    width, height = (int(side) for side in header["size"])
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise AvsalError(f"{_FILE} says that {name} has {width}x{height} pixels")
    size, notes = (height, width), []
    if path is None:
        notes.append(f"there is no clip of it in videos/; its {len(rows)} rows are left out")
    elif not len(rows):
        notes.append("the table has no row of it")
    if path is not None:
        try:
            reader = FrameReader(path)
            size, differences = _compared(reader, header)
            rows = rows * [1, size[1] / width, size[0] / height, 1, 1]
            notes += differences
            reader.close()
        except AvsalError as error:
            path = None
            notes.append(str(error))
    table = FixationTable.of_rows(observers, size, rows)
    return Stimulus(name, path, is_video=True, fixations=table, notes=tuple(notes))


def _compared(reader: FrameReader, header: dict) -> tuple[tuple[int, int], list[str]]:
    """Returns (height, width) of a clip, and how it differs from what the table says."""
    (width, height), size, notes = header["size"], reader.size, []
    rate, stated_rate = float(reader.video.info.rate), float(header["framerate_fps"][0])
    if size != (height, width):
        notes.append(
            f"it has {size[1]}x{size[0]} pixels, the table says {width:g}x{height:g}: positions are scaled"
        )
    if reader.count != header["frames"][0]:
        notes.append(f"it has {reader.count} frames, the table says {header['frames'][0]:g}")
    if abs(rate - stated_rate) > 0.01 * stated_rate:
        notes.append(f"its rate is {rate:g} frames per second, the table says {stated_rate:g}")
    return size, notes


def _files(folder: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
    """Returns the files by their spelling in the table, and those whose spelling another file has."""
    files, spare = {}, []
    for path in visible_files(folder) if folder.is_dir() else ():
        spelling = _spelling(path.stem)
        if spelling in files:
            spare.append(path)
        else:
            files[spelling] = path
    return files, spare


def _valid_rows(rows: np.ndarray, videos: int, observers: int) -> tuple[np.ndarray, list[str]]:
    """Returns the rows whose numbers make sense, and a note on the others."""
    index = (rows[:, 0], observers), (rows[:, 5], videos)
    good = np.isfinite(rows).all(1) & (rows[:, 4] > 0)
    for values, count in index:
        good &= (values >= 1) & (values <= count) & (values == np.floor(values))
    bad = int((~good).sum())
    return rows[good], [f"{bad} of {len(rows)} rows are damaged: they are left out"] if bad else []


def _spelling(name: str) -> str:
    """`Basketball Drive.avi` is `BasketballDrive` in the table."""
    return name.replace(" ", "").lower()


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator:
    try:
        import h5py
    except ImportError as error:
        raise AvsalError(
            f"{path} is a MATLAB 7.3 file, which h5py reads: pip install 'avsal-jax[gaze]' (or h5py)"
        ) from error
    if not path.is_file():
        raise AvsalError(f"there is no {path}: the root is a clone of remega/video_database")
    if path.stat().st_size > _MAX_BYTES:
        raise AvsalError(f"{path} is too large: {path.stat().st_size} bytes; {_MAX_BYTES} are read")
    try:
        with h5py.File(path, "r") as file:
            yield file[_GROUP]
    except AvsalError:
        raise
    except Exception as error:  # h5py raises whatever a damaged file makes of it
        raise AvsalError(f"{path} cannot be read: {damage_reason(error)}") from error


def _numbers(group, name: str) -> np.ndarray:
    data = group[name]
    if data.dtype.kind not in "fiu" or data.size > 6 * _MAX_ROWS:
        raise AvsalError(f"{_FILE} is damaged: {name} has {data.size} values of type {data.dtype}")
    return np.asarray(data, np.float64)


def _names(group, name: str) -> list[str]:
    """Returns the texts that a list of references to them names."""
    data = group[name]
    if data.size > _MAX_NAMES:
        raise AvsalError(f"{_FILE} is damaged: {name} has {data.size} names")
    return [_text(group, reference) for reference in data[()].ravel()]


def _text(group, reference) -> str:
    letters = group.file[reference]
    if letters.size > 1000:
        raise AvsalError(f"{_FILE} is damaged: a name has {letters.size} letters")
    return "".join(map(chr, np.asarray(letters).ravel().astype(int)))


def _rows(group) -> np.ndarray:
    """Returns float64 [N, 6] with the columns `_FIELDS`, whatever their order in the file."""
    data, names = _numbers(group, "fixdata"), [name.strip() for name in _names(group, "fixdata_fields")]
    if lacking := sorted(set(_FIELDS) - set(names)):
        raise AvsalError(f"{_FILE} has no column {lacking[0]}; it has {', '.join(names)}")
    if data.ndim != 2 or data.shape[0] != len(names):
        raise AvsalError(f"{_FILE} is damaged: fixdata has shape {data.shape} for {len(names)} columns")
    return data[[names.index(name) for name in _FIELDS]].T
