"""Reads `gaze:NAME`: a folder of stimuli with a table of fixations, or of samples, of your own recordings.

  stimuli/         pictures or videos
  fixations.csv    stimulus, observer, x, y, start_ms, duration_ms; or
  gaze.csv         stimulus, observer, time_ms, x, y, and validity or pupil

docs/datasets/own.md describes the tables. Notes list what is recognised, changed or left out, with counts.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from avsal_jax.data.gaze.fixation_table import FixationTable
from avsal_jax.data.gaze.recording_columns import (
    COLUMNS_OF,
    RecordingColumns,
    count_columns,
    recognise_columns,
)
from avsal_jax.data.gaze.recording_fixations import Recording, TableStimulus, stimulus_sizes
from avsal_jax.data.gaze.recording_rows import LeftOut, RawRows, read_rows
from avsal_jax.data.gaze.stimuli import GazeOptions, GazeSet, Stimulus
from avsal_jax.data.gaze.stimulus_files import StimulusFolder, name_list, read_stimulus
from avsal_jax.data.gaze.text_tables import open_table
from avsal_jax.errors import AvsalError, one_line
from avsal_jax.media.image_videos import VIDEO_SUFFIXES
from avsal_jax.media.images import IMAGE_SUFFIXES

_SUFFIXES = (".csv", ".tsv", ".txt")


def read_recordings(root: pathlib.Path, options: GazeOptions) -> GazeSet:
    """Returns the stimuli and fixations of a folder of recordings, ordered by name.

    An observer of a stimulus is whoever has a row for it, be it left out. A stimulus without a file that can
    be read has `path` None and the size (0, 0), or that of the rectangle on the screen.

    Args:
      root: the folder, with `stimuli/` and a table.
      options: how the table is read.

    Raises:
      AvsalError: the folder or the table cannot be read, or something must be stated by an option.
    """
    root = pathlib.Path(root)
    path, kind, notes = _find_table(root)
    folder = StimulusFolder(root / "stimuli")
    table = open_table(path, lambda header: count_columns(header, kind), COLUMNS_OF[kind])
    columns = recognise_columns(table.header, kind, path.name)
    left_out = LeftOut()
    rows, number_notes = read_rows(table, columns, left_out)
    notes += [*table.notes(), f"{path.name}: {rows.total:,} rows", columns.note(path.name), *number_notes]
    rows, entries, match_notes = _match_stimuli(rows, folder=folder, left_out=left_out, file_name=path.name)
    _compare_sizes(rows, columns, entries)
    recording = Recording(
        path.name, columns=columns, options=options, entries=entries, left_out=left_out, notes=notes
    )
    rows = recording.fixations(rows) if kind == "fixations" else recording.events(rows)
    notes += [*left_out.notes(path.name), *match_notes]
    if options.drop_first:
        is_later = rows.values["start"] > 0
        notes.append(
            f"--drop-first leaves out {int((~is_later).sum()):,} fixations that began at 0 or before"
        )
        rows = rows.ordered(np.flatnonzero(is_later))
    stimuli = _stimuli(rows, entries, options)
    counts = sorted({len(stimulus.fixations.observers) for stimulus in stimuli})
    per_stimulus = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    notes.append(
        f"{len(stimuli)} stimuli, {len({observer for _, observer in rows.pairs})} observers in all, "
        f"{per_stimulus} for each stimulus, {len(rows):,} fixations"
    )
    return GazeSet(tuple(stimuli), tuple(map(one_line, notes)))


def _find_table(root: pathlib.Path) -> tuple[pathlib.Path, str, list[str]]:
    if not root.is_dir():
        raise AvsalError(f"there is no folder {root} of recordings")
    tables = {
        kind: [path for suffix in _SUFFIXES if (path := root / f"{kind}{suffix}").is_file()]
        for kind in ("fixations", "gaze")
    }
    for kind, paths in tables.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise AvsalError(f"{root} holds {names}: put all rows into one file, or remove one")
        if paths:
            unread = [path.name for other in tables if other != kind for path in tables[other]]
            notes = [f"{paths[0].name} is read, and {unread[0]} is not"] if unread else []
            return paths[0], kind, notes
    content = name_list(sorted(path.name for path in root.iterdir())) or "nothing"
    raise AvsalError(
        f"{root} has neither fixations.csv nor gaze.csv (or .tsv, .txt), but {content}; the first has "
        f"{COLUMNS_OF['fixations']}, the second {COLUMNS_OF['gaze']}"
    )


def _match_stimuli(
    rows: RawRows, folder: StimulusFolder, left_out: LeftOut, file_name: str
) -> tuple[RawRows, list[TableStimulus], list[str]]:
    """Returns the rows with indices of the stimuli, these in order of name, and notes.

    Names that mean one file become one stimulus. Rows are left out whose stimulus cannot be a file's name.
    """
    matches, reasons = {}, {}
    for code, name in enumerate(rows.stimuli):
        try:
            match = folder.match(name)
        except AvsalError:
            continue
        matches[code] = match
        if match.path and match.reason:
            reasons.setdefault(match.reason, []).append(name)
    is_name = np.array([code in matches for code in range(len(rows.stimuli))])
    rows = rows.keep(
        is_name[rows.stimulus], "whose stimulus cannot be the name of a file in stimuli/", left_out
    )
    paths = {match.key: match.path for match in matches.values()}
    if not any(paths.values()):
        raise AvsalError(
            f"no stimulus of {file_name} has a file in {folder.folder}: it names "
            f"{name_list(map(repr, rows.stimuli), 3)}; the folder holds the files that these are called after"
        )
    names = _names(paths, folder)
    keys = sorted(paths, key=lambda key: (names[key], key))
    reason_of = {match.key: match.reason for match in matches.values()}
    entries = [_entry(names[key], paths[key], f"{key} {reason_of[key]}") for key in keys]
    index_of = {key: index for index, key in enumerate(keys)}
    new_code = np.full(len(rows.stimuli), -1, np.int32)
    for code, match in matches.items():
        new_code[code] = index_of[match.key]
    rows = dataclasses.replace(
        rows,
        stimuli=tuple(keys),
        stimulus=new_code[rows.stimulus],
        pairs=frozenset((int(new_code[code]), observer) for code, observer in rows.pairs if code in matches),
    )
    notes = [
        f"{file_name}: of {len(spellings)} stimuli the name {reason}: {name_list(map(repr, spellings), 3)}"
        for reason, spellings in sorted(reasons.items())
    ]
    missing = [stimulus.name for stimulus in entries if stimulus.path is None]
    if missing:
        notes.append(f"{len(missing)} stimuli without a file that can be read: {name_list(missing)}")
    return rows, entries, notes + folder.notes({key for key in keys if paths[key]})


def _names(paths: dict[str, pathlib.Path | None], folder: StimulusFolder) -> dict[str, str]:
    """Returns the name of each stimulus: without suffix, unless two would share it."""
    names = {key: folder.name_of(path) for key, path in paths.items() if path}
    used = set(names.values())
    for key in sorted(key for key, path in paths.items() if path is None):
        bare = pathlib.PurePath(key)
        stem = bare.stem if bare.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES else key
        names[key] = key if stem in used else stem
        used.add(names[key])
    return names


def _entry(name: str, path: pathlib.Path | None, reason: str) -> TableStimulus:
    if path is None:
        return TableStimulus(name, path=None, file=None, notes=[reason])
    try:
        file = read_stimulus(path)
    except AvsalError as error:
        return TableStimulus(name, path=None, file=None, notes=[str(error)])
    return TableStimulus(name, path=path, file=file, notes=list(file.notes))


def _compare_sizes(rows: RawRows, columns: RecordingColumns, entries: list[TableStimulus]) -> None:
    """Adds a note to stimuli whose file has a different size from the table."""
    if not (columns.width and columns.height):
        return
    widths, heights = rows.values[columns.width.index], rows.values[columns.height.index]
    file_height, file_width = stimulus_sizes(entries)[rows.stimulus].T
    differs = (file_width > 0) & np.isfinite(widths) & np.isfinite(heights)
    differs &= (widths != file_width) | (heights != file_height)
    _, firsts, counts = np.unique(rows.stimulus[differs], return_index=True, return_counts=True)
    for row, count in zip(np.flatnonzero(differs)[firsts], counts, strict=True):
        entries[rows.stimulus[row]].notes.append(
            f"the table states {widths[row]:g}x{heights[row]:g} in {count:,} rows, and the file is "
            f"{file_width[row]:g}x{file_height[row]:g}: positions are read as pixels of the file"
        )


def _stimuli(rows: RawRows, entries: list[TableStimulus], options: GazeOptions) -> list[Stimulus]:
    """Returns the stimuli in the order of `entries`, with the observers of each in order of name."""
    rows = rows.ordered(np.argsort(rows.stimulus, kind="stable"))
    cuts = np.searchsorted(rows.stimulus, np.arange(len(entries) + 1))
    numbers: list[list[int]] = [[] for _ in entries]
    for stimulus, observer in sorted(rows.pairs, key=lambda pair: rows.observers[pair[1]]):
        numbers[stimulus].append(observer)
    return [
        _stimulus(
            rows.ordered(np.arange(cuts[index], cuts[index + 1])),
            entry=entry,
            observers=numbers[index],
            options=options,
        )
        for index, entry in enumerate(entries)
    ]


def _stimulus(rows: RawRows, entry: TableStimulus, observers: list[int], options: GazeOptions) -> Stimulus:
    """Returns a stimulus with its rows; `observers` are the indices of its observers in order of name."""
    size, seconds, notes = (0, 0), None, list(entry.notes)
    if entry.file:
        size, seconds = entry.file.size, entry.file.seconds
    elif options.stimulus_rect:
        size = round(options.stimulus_rect[3]), round(options.stimulus_rect[2])
    place_of = np.zeros(len(rows.observers), int)
    place_of[observers] = np.arange(len(observers))
    values = [rows.values[key] for key in ("x", "y", "start", "duration")]
    fixations = FixationTable.of_rows(
        observers=[rows.observers[number] for number in observers],
        size=size,
        rows=np.stack([place_of[rows.observer], *values], 1),
    )
    if seconds and (late := int((fixations.start >= seconds).sum())):
        notes.append(f"{late:,} of {len(fixations):,} fixations begin after its end at {seconds:.3f} s")
    return Stimulus(
        name=entry.name,
        path=entry.path,
        is_video=bool(entry.file and entry.file.is_video),
        fixations=fixations,
        notes=tuple(map(one_line, notes)),
    )
