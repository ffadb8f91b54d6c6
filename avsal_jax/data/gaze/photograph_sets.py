"""Photographs with gaze as their authors packed them: OSIE and EyeCrowd, and the scenes of SUN2012.

| set | from | table |
|---|---|---|
| osie | NUS-VIP/predicting-human-gaze-beyond-pixels @4a46789 (Xu et al., JoV 2014) | data/eye/fixations.mat |
| eyecrowd | NUS-VIP/saliency-in-crowd @8bb0416 (Jiang, Xu, Zhao, ECCV 2014) | data/eye/fixations.mat |
| sun_scenes | Yanakz/Scene @2cf042b (Liang, Jiang, Liang, Zhao, SMC 2015) | data/tidy/fixations.mat |

Pictures lie in data/stimuli. Positions are pixels of the picture from its upper left corner.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterator

import numpy as np

from avsal_jax.data.gaze.fixation_table import FixationTable
from avsal_jax.data.gaze.mat_cells import cells_of, column_of, text_of, unwrapped
from avsal_jax.data.gaze.stimuli import GazeSet, Stimulus, picture_size
from avsal_jax.data.sets.video_lists import checked_name
from avsal_jax.errors import AvsalError
from avsal_jax.media.images import IMAGE_SUFFIXES, natural_order, visible_files

_MS = 1e-3
Rows = list[tuple[float, float, float, float, float]]  # observer, x, y, start, duration (seconds)


def read_eye_mat(root: pathlib.Path) -> GazeSet:
    """Reads OSIE or EyeCrowd: `fixations`, a cell per picture with `img` and `subjects`.

    The files state no start of a fixation: they are in the order of time.

    Raises:
      AvsalError: the root has no such folders, or the table is damaged.
    """
    path, pictures = root / "data" / "eye" / "fixations.mat", _pictures(root)
    left_out: collections.Counter[str] = collections.Counter()
    stimuli, table_names = [], set()
    for number, cell in enumerate(cells_of(path, "fixations").ravel(), 1):
        record = unwrapped(cell)
        name, subjects = text_of(getattr(record, "img", None)), getattr(record, "subjects", None)
        if name is None or not isinstance(subjects, np.ndarray):
            left_out["cells without a picture's name and its observers"] += 1
            continue
        checked_name(name, f"{path}, cell {number}")
        table_names.add(name)
        rows = list(_eye_rows(subjects, left_out))
        stimuli.append(_photograph(name, len(subjects), rows=rows, pictures=pictures))
    return _set(stimuli, table_names=table_names, pictures=pictures, path=path, left_out=left_out)


def _eye_rows(subjects: np.ndarray, left_out: collections.Counter) -> Iterator[tuple]:
    for observer, cell in enumerate(subjects.ravel()):
        record = unwrapped(cell)
        columns = [column_of(getattr(record, field, None)) for field in ("fix_x", "fix_y", "fix_duration")]
        if any(column is None for column in columns) or len({len(column) for column in columns}) > 1:
            left_out["observers without columns of one length"] += 1
            continue
        if not len(columns[0]):
            left_out["observers without a fixation"] += 1
        for x, y, duration in zip(*columns, strict=True):
            if np.isfinite((x, y, duration)).all():
                yield observer, x, y, np.nan, duration * _MS
            else:
                left_out["fixations with a number that is not finite"] += 1


def read_sun_scenes(root: pathlib.Path) -> GazeSet:
    """Reads the scenes of SUN2012: a cell array pictures x observers, pictures ordered by file name.

    Columns are y, x, start and duration in seconds (the readme does not say so; this way round every fixation
    lies inside, the other way one in seventeen does not). A cell is empty where an observer saw no picture.

    Raises:
      AvsalError: the root has no such folders, the table is damaged, or pictures are missing, since only
        their order says which cell is theirs.
    """
    path, pictures = root / "data" / "tidy" / "fixations.mat", _pictures(root)
    cells = cells_of(path, "fixations")
    if len(cells) != len(pictures):
        raise AvsalError(
            f"{path} has {len(cells)} rows, but {root / 'data' / 'stimuli'} has {len(pictures)} pictures: "
            "rows belong to pictures by their order alone, so all must be there"
        )
    left_out: collections.Counter[str] = collections.Counter()
    stimuli = []
    for name, row in zip(pictures, cells, strict=True):
        observers, rows = 0, []
        for cell in row:
            values = unwrapped(cell)
            if not isinstance(values, np.ndarray) or values.size == 0:
                left_out["empty cells, of observers who did not see a picture"] += 1
                continue
            if values.ndim != 2 or values.shape[1] != 4 or values.dtype.kind not in "fiu":
                left_out["cells without the columns y, x, start, duration"] += 1
                continue
            finite = np.isfinite(values).all(1)
            left_out["fixations with a number that is not finite"] += int((~finite).sum())
            rows += [
                (observers, x, y, start, duration) for y, x, start, duration in values[finite].astype(float)
            ]
            observers += 1
        stimuli.append(_photograph(name, observers, rows=rows, pictures=pictures))
    return _set(stimuli, table_names=set(pictures), pictures=pictures, path=path, left_out=left_out)


def _pictures(root: pathlib.Path) -> dict[str, pathlib.Path]:
    folder = root / "data" / "stimuli"
    if not folder.is_dir():
        raise AvsalError(f"{root} has no folder data/stimuli: the root is a clone of the set's repository")
    files = [path for path in visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    return {path.name: path for path in sorted(files, key=natural_order)}


def _photograph(name: str, observers: int, rows: Rows, pictures: dict[str, pathlib.Path]) -> Stimulus:
    path, notes = pictures.get(name), ()
    size = (1, 1)
    if path is None:
        notes = (f"there is no picture {name}",)
    else:
        try:
            size = picture_size(path)
        except AvsalError as error:
            path, notes = None, (str(error),)
    table = FixationTable.of_rows([f"observer {i + 1}" for i in range(observers)], size, rows)
    return Stimulus(pathlib.PurePath(name).stem, path, is_video=False, fixations=table, notes=notes)


def _set(
    stimuli: list[Stimulus],
    table_names: set[str],
    pictures: dict,
    path: pathlib.Path,
    left_out: collections.Counter,
) -> GazeSet:
    """Returns the set; `table_names` are the pictures' names in the table."""
    names = [stimulus.name for stimulus in stimuli]
    if twice := [name for name, count in collections.Counter(names).items() if count > 1]:
        raise AvsalError(f"{path} names the picture {twice[0]} twice")
    notes = [f"{count} {reason}" for reason, count in left_out.items() if count]
    if bare := len(pictures.keys() - table_names):
        notes.append(f"{bare} pictures have no row in {path.name}: they are left out")
    return GazeSet(tuple(stimuli), tuple(notes))
