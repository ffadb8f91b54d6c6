"""Reads `gaze:NAME`: a folder of stimuli with a table of fixations, or of samples, of your own recordings.

  stimuli/         pictures or videos
  fixations.csv    stimulus, observer, x, y, start_ms, duration_ms; or
  gaze.csv         stimulus, observer, time_ms, x, y, and validity or pupil

docs/datasets/own.md describes the tables. Notes list what is recognised, changed or left out, with counts.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib

import numpy as np

from avsal_jax.data.image_videos import VIDEO_SUFFIXES
from avsal_jax.data.images import IMAGE_SUFFIXES
from avsal_jax.data.sets.eye_events import (
    BRIDGED_SECONDS,
    MERGED_DEGREES,
    MERGED_SECONDS,
    DispersionRule,
    EventRule,
    Samples,
    VelocityRule,
    find_fixations,
)
from avsal_jax.data.sets.fixation_table import FixationTable
from avsal_jax.data.sets.recording_columns import (
    COLUMNS_OF,
    SECONDS,
    RecordingColumns,
    count_columns,
    recognise_columns,
)
from avsal_jax.data.sets.recording_rows import (
    FIXATION_SECONDS,
    SAMPLE_SECONDS,
    LeftOut,
    RawRows,
    eye_positions,
    mean_of_eyes,
    read_rows,
    sample_positions,
    time_unit,
    typical_interval,
)
from avsal_jax.data.sets.stimuli import GazeOptions, GazeSet, Stimulus
from avsal_jax.data.sets.stimulus_files import StimulusFile, StimulusFolder, name_list, read_stimulus
from avsal_jax.data.sets.text_tables import open_table
from avsal_jax.data.sets.viewing_times import ViewingClock
from avsal_jax.errors import AvsalError, one_line

_SUFFIXES = (".csv", ".tsv", ".txt")
_LONGEST_SECONDS = 60.0  # of a fixation
_OUTSIDE_SHARE = 0.2  # of positions, from which on they look like those of the screen
# Positions are shares where this part of them lies in [0, limit], and all lie within the bound.
_SHARE_LIMIT, _SHARE_QUORUM, _SHARE_BOUND = 1.05, 0.9, 3.0
EVENT_RULES = {
    "ivt": lambda options: VelocityRule(options.velocity, options.shortest),
    "idt": lambda options: DispersionRule(options.dispersion, options.shortest),
}


@dataclasses.dataclass
class _Entry:
    """A stimulus of the table: its name, its file (None where it is missing), and notes."""

    name: str
    path: pathlib.Path | None
    file: StimulusFile | None
    notes: list[str]


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
    rows, entries, match_notes = _match_stimuli(rows, folder, left_out, path.name)
    _compare_sizes(rows, columns, entries)
    recording = _Recording(path.name, columns, options, entries, left_out, notes)
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
) -> tuple[RawRows, list[_Entry], list[str]]:
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


def _entry(name: str, path: pathlib.Path | None, reason: str) -> _Entry:
    if path is None:
        return _Entry(name, None, None, [reason])
    try:
        file = read_stimulus(path)
    except AvsalError as error:
        return _Entry(name, None, None, [str(error)])
    return _Entry(name, path, file, list(file.notes))


def _compare_sizes(rows: RawRows, columns: RecordingColumns, entries: list[_Entry]) -> None:
    """Adds a note to stimuli whose file has a different size from the table."""
    if not (columns.width and columns.height):
        return
    widths, heights = rows.values[columns.width.index], rows.values[columns.height.index]
    file_height, file_width = _sizes(entries)[rows.stimulus].T
    differs = (file_width > 0) & np.isfinite(widths) & np.isfinite(heights)
    differs &= (widths != file_width) | (heights != file_height)
    _, firsts, counts = np.unique(rows.stimulus[differs], return_index=True, return_counts=True)
    for row, count in zip(np.flatnonzero(differs)[firsts], counts, strict=True):
        entries[rows.stimulus[row]].notes.append(
            f"the table states {widths[row]:g}x{heights[row]:g} in {count:,} rows, and the file is "
            f"{file_width[row]:g}x{file_height[row]:g}: positions are read as pixels of the file"
        )


def _sizes(entries: list[_Entry]) -> np.ndarray:
    """Returns float64 [stimuli, 2], (height, width) in pixels; 0 where there is no file."""
    return np.array([entry.file.size if entry.file else (0, 0) for entry in entries], np.float64)


@dataclasses.dataclass(frozen=True)
class _Recording:
    """What the rows of a table are read with.

    Attributes:
      file_name: of the table.
      columns: of the table.
      options: of the user.
      entries: the stimuli.
      left_out: counts rows that are left out.
      notes: of the set; lines are added.
    """

    file_name: str
    columns: RecordingColumns
    options: GazeOptions
    entries: list[_Entry]
    left_out: LeftOut
    notes: list[str]

    def fixations(self, rows: RawRows) -> RawRows:
        """Returns rows of fixations with x, y (pixels of the stimulus), start and duration (seconds)."""
        time, length = self.columns.time, self.columns.duration or self.columns.end
        x, y = mean_of_eyes([eye_positions(rows, eye) for eye in self.columns.eyes])
        rows = rows.with_values(x=x, y=y, time=rows.values[time.index], length=rows.values[length.index])
        is_complete = np.isfinite([rows.values[key] for key in ("x", "y", "time", "length")]).all(0)
        rows = self._keep(rows, is_complete, "which lack a position or a time")
        unit, duration = self._fixation_times(rows)
        rows = self._keep(rows.with_values(duration=duration), duration > 0, "whose duration is not above 0")
        is_short = rows.values["duration"] <= _LONGEST_SECONDS
        rows = self._keep(rows, is_short, f"whose duration is above {_LONGEST_SECONDS:g} s")
        rows = self._from_first_frame(self._in_stimulus(rows), unit)
        return rows.with_values(start=rows.values["seconds"])

    def events(self, rows: RawRows) -> RawRows:
        """Returns the fixations in rows of samples, as `fixations` does."""
        pixels = self.options.pixels_per_degree
        if pixels is None:
            raise AvsalError(
                f"{self.file_name} holds samples, which become fixations by thresholds in degrees: add "
                "--pixels-per-degree, the pixels of the stimulus in one degree of visual angle, which is "
                "distance_cm * tan(1 degree) * pixels_per_cm (0.01746 * distance_cm * pixels_per_cm)"
            )
        time = self.columns.time
        rows = self._keep(rows, np.isfinite(rows.values[time.index]), "which lack the time")
        x, y, notes = sample_positions(rows, self.columns, self.file_name)
        rows = rows.with_values(x=x, y=y, time=rows.values[time.index])
        rows = rows.ordered(np.lexsort((rows.values["time"], rows.viewing)))
        repeats = np.append(False, (np.diff(rows.values["time"]) == 0) & (np.diff(rows.viewing) == 0))
        rows = self._keep(rows, ~repeats, "whose time another sample of the viewing has")
        unit, note = time_unit(
            time,
            typical_interval(rows, rows.values["time"]),
            SAMPLE_SECONDS,
            self.options.time_unit,
            self.file_name,
        )
        self.notes.extend([note, *notes])
        rows = self._from_first_frame(self._in_stimulus(rows), unit)
        rule = EVENT_RULES[self.options.events](self.options)
        fixations, intervals = _find_events(rows, rule, pixels)
        if intervals:
            low, high = min(intervals) * 1000, max(intervals) * 1000
            self.notes.append(
                f"{self.file_name}: {1 / float(np.median(intervals)):.4g} samples per second (one in "
                f"{low:.3g} to {high:.3g} ms, by viewing)"
            )
        self.notes.append(
            f"{len(fixations):,} fixations (--events {self.options.events}) by {rule}, of at least "
            f"{rule.shortest * 1000:g} ms; those less than {MERGED_SECONDS * 1000:g} ms and "
            f"{MERGED_DEGREES:g} degrees apart are merged; losses of up to {BRIDGED_SECONDS * 1000:g} ms are "
            f"bridged; {pixels:g} pixels per degree"
        )
        return fixations

    def _keep(self, rows: RawRows, mask: np.ndarray, reason: str) -> RawRows:
        rows = rows.keep(mask, reason, self.left_out)
        if not len(rows):
            reasons = "; ".join(self.left_out.notes(self.file_name))
            raise AvsalError(f"no row of {self.file_name} can be used: {reasons}")
        return rows

    def _fixation_times(self, rows: RawRows) -> tuple[str, np.ndarray]:
        """Returns the unit of the start, and the durations in seconds.

        Where no name states a unit, durations decide; the start's unit is that of the time from one start to
        the next, or the duration's where that does not decide.
        """
        columns, choice = self.columns, self.options.time_unit
        time, length = rows.values["time"], rows.values["length"]
        if columns.end:
            end = columns.end
            if not end.unit and columns.time.unit:
                end = dataclasses.replace(end, unit=columns.time.unit)
            start = columns.time if columns.time.unit else dataclasses.replace(columns.time, unit=end.unit)
            difference = float(np.median(length - time)) if end.unit == start.unit else math.nan
            unit, note = time_unit(start, difference, FIXATION_SECONDS, choice, self.file_name)
            end_unit = end.unit or unit
            self.notes.append(note)
            if end_unit == unit:
                return unit, (length - time) * SECONDS[unit]
            return unit, length * SECONDS[end_unit] - time * SECONDS[unit]
        length_unit, note = time_unit(
            columns.duration, float(np.median(length)), FIXATION_SECONDS, choice, self.file_name
        )
        self.notes.append(note)
        interval = typical_interval(rows, time)
        try:
            unit, note = time_unit(columns.time, interval, FIXATION_SECONDS, choice, self.file_name)
        except AvsalError:
            unit = length_unit
            note = f"{self.file_name}: {columns.time.name} is in {unit}, as {columns.duration.name} is"
        self.notes.append(note)
        return unit, length * SECONDS[length_unit]

    def _from_first_frame(self, rows: RawRows, unit: str) -> RawRows:
        """Adds the value `seconds` since the first frame."""
        files = [stimulus.file for stimulus in self.entries]
        clock = ViewingClock(rows.values["time"], SECONDS[unit], rows.viewing, rows.stimulus)
        seconds, notes = clock.seconds(
            self.options.time_origin,
            is_video=np.array([bool(file and file.is_video) for file in files]),
            duration=np.array([file.seconds if file and file.seconds else math.inf for file in files]),
            file_name=self.file_name,
        )
        self.notes.extend(notes)
        return rows.with_values(seconds=seconds)

    def _in_stimulus(self, rows: RawRows) -> RawRows:
        """Returns the rows with x, y in pixels of the stimulus, from those of the screen or from shares."""
        x, y, screen, rect = (
            rows.values["x"],
            rows.values["y"],
            self.options.screen,
            self.options.stimulus_rect,
        )
        height, width = _sizes(self.entries)[rows.stimulus].T
        has_size = width > 0
        valid = np.isfinite(x)
        is_share = self.columns.eyes[0].x.unit == "norm" or _are_shares(x[valid], y[valid])
        if is_share:
            area = f"the screen of {screen[0]}x{screen[1]}" if screen else "the stimulus"
            self.notes.append(f"{self.file_name}: positions are shares of {area}, from 0 to 1")
            scale_x, scale_y = screen or (np.where(has_size, width, 1), np.where(has_size, height, 1))
            x, y = x * scale_x, y * scale_y
        if screen:
            left, top, rect_width, rect_height = rect
            self.notes.append(
                f"{self.file_name}: positions are read on a screen of {screen[0]}x{screen[1]}, with the "
                f"stimulus in {rect_width:g}x{rect_height:g} pixels from ({left:g}, {top:g}) on"
            )
            x = (x - left) / rect_width * np.where(has_size, width, round(rect_width))
            y = (y - top) / rect_height * np.where(has_size, height, round(rect_height))
        checked = valid & has_size
        with np.errstate(invalid="ignore"):
            is_outside = checked & ~((x >= 0) & (x < width) & (y >= 0) & (y < height))
        if checked.any() and is_outside.sum() > _OUTSIDE_SHARE * checked.sum():
            hint = (
                "check --screen and --stimulus-rect"
                if screen
                else ("they look like pixels of the screen: add --screen WxH and --stimulus-rect x,y,w,h")
            )
            self.notes.append(
                f"{self.file_name}: {int(is_outside.sum()):,} of {int(checked.sum()):,} positions lie "
                f"outside the stimuli; {hint}"
            )
        return rows.with_values(x=x, y=y)


def _are_shares(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether positions lie in [0, 1], but for a few that are just outside."""
    place = np.stack([x, y])
    if not place.size or np.abs(place).max() > _SHARE_BOUND:
        return False
    return bool(((place >= 0) & (place <= _SHARE_LIMIT)).all(0).mean() >= _SHARE_QUORUM)


def _find_events(rows: RawRows, rule: EventRule, pixels_per_degree: float) -> tuple[RawRows, list[float]]:
    """Returns a row for each fixation in samples ordered by viewing and time, and the intervals."""
    cuts = np.flatnonzero(np.diff(rows.viewing)) + 1
    indices, columns, intervals = [], [], []
    for first, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(rows)], strict=True):
        time, x, y = (rows.values[key][first:stop] for key in ("seconds", "x", "y"))
        samples = Samples(time, x / pixels_per_degree, y / pixels_per_degree)
        if len(samples) > 1:
            intervals.append(samples.interval)
        fixations = find_fixations(samples, rule)
        indices.append(np.full(len(fixations), first))
        columns.append(
            np.stack(
                [
                    fixations.x * pixels_per_degree,
                    fixations.y * pixels_per_degree,
                    fixations.start,
                    fixations.duration,
                ]
            )
        )
    x, y, start, duration = np.concatenate(columns, 1)
    events = dataclasses.replace(rows, values={}).ordered(np.concatenate(indices))
    return events.with_values(x=x, y=y, start=start, duration=duration), intervals


def _stimuli(rows: RawRows, entries: list[_Entry], options: GazeOptions) -> list[Stimulus]:
    """Returns the stimuli in the order of `entries`, with the observers of each in order of name."""
    rows = rows.ordered(np.argsort(rows.stimulus, kind="stable"))
    cuts = np.searchsorted(rows.stimulus, np.arange(len(entries) + 1))
    numbers: list[list[int]] = [[] for _ in entries]
    for stimulus, observer in sorted(rows.pairs, key=lambda pair: rows.observers[pair[1]]):
        numbers[stimulus].append(observer)
    return [
        _stimulus(rows.ordered(np.arange(cuts[index], cuts[index + 1])), entry, numbers[index], options)
        for index, entry in enumerate(entries)
    ]


def _stimulus(rows: RawRows, entry: _Entry, observers: list[int], options: GazeOptions) -> Stimulus:
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
    if entry.file and (outside := int((~fixations.is_inside).sum())):
        notes.append(f"{outside:,} of {len(fixations):,} fixations lie outside the stimulus")
    if seconds and (late := int((fixations.start >= seconds).sum())):
        notes.append(f"{late:,} of {len(fixations):,} fixations begin after its end at {seconds:.3f} s")
    return Stimulus(
        name=entry.name,
        path=entry.path,
        is_video=bool(entry.file and entry.file.is_video),
        fixations=fixations,
        notes=tuple(map(one_line, notes)),
    )
