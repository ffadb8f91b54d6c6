"""The rows of a table of recordings become fixations in pixels of the stimulus and seconds."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import numpy as np

from avsal_jax.data.gaze.eye_events import (
    BRIDGED_SECONDS,
    MERGED_DEGREES,
    MERGED_SECONDS,
    DispersionRule,
    EventRule,
    Samples,
    VelocityRule,
    find_fixations,
)
from avsal_jax.data.gaze.recording_columns import SECONDS, RecordingColumns
from avsal_jax.data.gaze.recording_rows import (
    FIXATION_SECONDS,
    SAMPLE_SECONDS,
    LeftOut,
    RawRows,
    eye_positions,
    mean_of_eyes,
    sample_positions,
    time_unit,
    typical_interval,
)
from avsal_jax.data.gaze.stimuli import GazeOptions
from avsal_jax.data.gaze.stimulus_files import StimulusFile
from avsal_jax.data.gaze.viewing_times import ViewingClock
from avsal_jax.errors import AvsalError

_LONGEST_SECONDS = 60.0  # of a fixation
_OVERLAP_SECONDS = 0.002  # shorter overlaps come from rounded times
_OUTSIDE_SHARE = 0.2  # of positions, from which on they look like those of the screen
# Positions are shares where this part of them lies in [0, limit], and all lie within the bound.
_SHARE_LIMIT, _SHARE_QUORUM, _SHARE_BOUND = 1.05, 0.9, 3.0
EVENT_RULES = {
    "ivt": lambda options: VelocityRule(options.velocity, options.shortest),
    "idt": lambda options: DispersionRule(options.dispersion, options.shortest),
}


@dataclasses.dataclass
class TableStimulus:
    """A stimulus of the table: its name, its file (None where it is missing), and notes."""

    name: str
    path: pathlib.Path | None
    file: StimulusFile | None
    notes: list[str]


def stimulus_sizes(entries: list[TableStimulus]) -> np.ndarray:
    """Returns float64 [stimuli, 2], (height, width) in pixels; 0 where there is no file."""
    return np.array([entry.file.size if entry.file else (0, 0) for entry in entries], np.float64)


@dataclasses.dataclass(frozen=True)
class Recording:
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
    entries: list[TableStimulus]
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
        return self._without_repeats(rows.with_values(start=rows.values["seconds"]))

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
            typical=typical_interval(rows, rows.values["time"]),
            seconds=SAMPLE_SECONDS,
            choice=self.options.time_unit,
            file_name=self.file_name,
        )
        self.notes.extend([note, *notes])
        rows = self._from_first_frame(self._in_stimulus(rows), unit)
        rule = EVENT_RULES[self.options.events](self.options)
        fixations, intervals = _events_of_rows(rows, rule, pixels)
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

    def _without_repeats(self, rows: RawRows) -> RawRows:
        """Leaves out rows of a fixation that the table repeats, as exports with a row for each sample do.

        An observer fixates one place at a time: fixations that overlap otherwise are kept, and counted.
        """
        before, after = _overlaps(rows)
        equals = [rows.values[key][before] == rows.values[key][after] for key in ("x", "y", "duration")]
        is_first = np.ones(len(rows), bool)
        is_first[after[np.all(equals, 0)]] = False
        rows = self._keep(
            rows, is_first, "which repeat a fixation, as in an export with a row for each sample"
        )
        if count := len(_overlaps(rows)[1]):
            self.notes.append(
                f"{self.file_name}: {count:,} fixations begin before another of the same observer on the "
                "same stimulus ends, as in tables of both eyes or of several trials: all of them count"
            )
        return rows

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
            unit, note = time_unit(
                start, typical=difference, seconds=FIXATION_SECONDS, choice=choice, file_name=self.file_name
            )
            end_unit = end.unit or unit
            self.notes.append(note)
            if end_unit == unit:
                return unit, (length - time) * SECONDS[unit]
            return unit, length * SECONDS[end_unit] - time * SECONDS[unit]
        length_unit, note = time_unit(
            columns.duration,
            typical=float(np.median(length)),
            seconds=FIXATION_SECONDS,
            choice=choice,
            file_name=self.file_name,
        )
        self.notes.append(note)
        interval = typical_interval(rows, time)
        try:
            unit, note = time_unit(
                columns.time,
                typical=interval,
                seconds=FIXATION_SECONDS,
                choice=choice,
                file_name=self.file_name,
            )
        except AvsalError:
            unit = length_unit
            note = f"{self.file_name}: {columns.time.name} is in {unit}, as {columns.duration.name} is"
        self.notes.append(note)
        return unit, length * SECONDS[length_unit]

    def _from_first_frame(self, rows: RawRows, unit: str) -> RawRows:
        """Adds the value `seconds` since the first frame."""
        files = [stimulus.file for stimulus in self.entries]
        clock = ViewingClock(
            rows.values["time"], unit=SECONDS[unit], viewing=rows.viewing, stimulus=rows.stimulus
        )
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
        height, width = stimulus_sizes(self.entries)[rows.stimulus].T
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


def _overlaps(rows: RawRows) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of neighbouring rows of one viewing, where the second begins before the first ends."""
    start, duration = rows.values["start"], rows.values["duration"]
    order = np.lexsort((start, rows.viewing))
    before, after = order[:-1], order[1:]
    overlap = start[before] + duration[before] - start[after]
    mask = (overlap > _OVERLAP_SECONDS) & (rows.viewing[before] == rows.viewing[after])
    return before[mask], after[mask]


def _are_shares(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether positions lie in [0, 1], but for a few that are just outside."""
    place = np.stack([x, y])
    if not place.size or np.abs(place).max() > _SHARE_BOUND:
        return False
    return bool(((place >= 0) & (place <= _SHARE_LIMIT)).all(0).mean() >= _SHARE_QUORUM)


def _events_of_rows(rows: RawRows, rule: EventRule, pixels_per_degree: float) -> tuple[RawRows, list[float]]:
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
