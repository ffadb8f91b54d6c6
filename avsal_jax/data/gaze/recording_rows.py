"""The rows of a table of recorded gaze as arrays: names as numbers, times in seconds, what is left out."""

from __future__ import annotations

import array
import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import numpy as np

from avsal_jax.data.gaze.recording_columns import SECONDS, Column, Eye, RecordingColumns
from avsal_jax.data.gaze.text_tables import NumberReader, TextTable
from avsal_jax.errors import AvsalError

_MAX_ROWS, _MAX_NAME_CHARACTERS, _MAX_POSITION = 20_000_000, 1000, 1e6
_WORDS = {"valid": 1.0, "true": 1.0, "yes": 1.0, "invalid": 0.0, "false": 0.0, "no": 0.0}  # of validity
_LOST_POSITION = -10_000  # EyeLink writes -32768 where there is no position
_UNSURE_SHARE = 0.5
# What a typical value is in seconds; numbers without a unit are compared with these.
FIXATION_SECONDS = (0.03, 6.0)  # durations, and from one start to the next
SAMPLE_SECONDS = (1 / 2500, 1 / 25)  # from one sample to the next


class LeftOut:
    """Rows that are left out, by reason, with the first line of each."""

    def __init__(self):
        self._reasons: dict[str, tuple[int, int]] = {}

    def add(self, reason: str, line: int, count: int = 1) -> None:
        """Counts rows of which the first is in a line."""
        before, first = self._reasons.get(reason, (0, line))
        self._reasons[reason] = before + count, min(first, line)

    def notes(self, file_name: str) -> list[str]:
        """Returns a line for each reason."""
        return [
            f"{file_name}: {count:,} {'row' if count == 1 else 'rows'} left out, {reason} (first in line "
            f"{line})"
            for reason, (count, line) in sorted(self._reasons.items())
        ]


@dataclasses.dataclass(frozen=True)
class RawRows:
    """The rows whose cells can be read.

    Attributes:
      stimuli, observers: the names in the table, in the order in which they appear.
      stimulus, observer: int32 [N], indices of these.
      line: int64 [N], numbers of the lines.
      pairs: (stimulus, observer) of every row, also of those that are left out.
      values: float64 [N] by index of the column, NaN for cells without a value; and by name what was computed
        from these.
      words: indices of the columns of validity that hold words, as `Valid`.
      total: number of rows in the table.
    """

    stimuli: tuple[str, ...]
    observers: tuple[str, ...]
    stimulus: np.ndarray
    observer: np.ndarray
    line: np.ndarray
    pairs: frozenset[tuple[int, int]]
    values: dict[int | str, np.ndarray]
    words: frozenset[int]
    total: int

    def __len__(self) -> int:
        return len(self.line)

    @property
    def viewing(self) -> np.ndarray:
        """int64 [N]: a number for each (stimulus, observer)."""
        return self.stimulus.astype(np.int64) * len(self.observers) + self.observer

    def with_values(self, **values: np.ndarray) -> RawRows:
        """Returns the rows with computed values added, float64 [N] by name."""
        return dataclasses.replace(self, values={**self.values, **values})

    def ordered(self, order: np.ndarray) -> RawRows:
        """Returns the rows of some indices, in their order."""
        return dataclasses.replace(
            self,
            stimulus=self.stimulus[order],
            observer=self.observer[order],
            line=self.line[order],
            values={key: column[order] for key, column in self.values.items()},
        )

    def keep(self, mask: np.ndarray, reason: str, left_out: LeftOut) -> RawRows:
        """Returns the rows of a mask and counts the others as left out."""
        if mask.all():
            return self
        left_out.add(reason, int(self.line[~mask].min()), int((~mask).sum()))
        return self.ordered(np.flatnonzero(mask))


def read_rows(table: TextTable, columns: RecordingColumns, left_out: LeftOut) -> tuple[RawRows, list[str]]:
    """Returns the rows of a table, and notes on how its numbers are written.

    Raises:
      AvsalError: no row can be read, there are too many, or decimal commas and points are mixed.
    """
    validity = {column.index for eye in columns.eyes for column in eye.validity}
    numeric = sorted(
        {c.index for eye in columns.eyes for c in (eye.x, eye.y, *eye.validity, *eye.pupil)}
        | {c.index for c in (columns.time, columns.end, columns.duration, columns.width, columns.height) if c}
    )
    read_number, words, width = NumberReader(), set(), len(table.header)
    stimuli: dict[str, int] = {}
    observers: dict[str, int] = {}
    codes, numbers, pairs, total = array.array("q"), array.array("d"), set(), 0

    def read_validity(cell: str, index: int) -> float:
        word = _WORDS.get(cell.strip().lower())
        if word is None:
            return read_number(cell)
        words.add(index)
        return word

    readers = [
        (index, functools.partial(read_validity, index=index) if index in validity else read_number)
        for index in numeric
    ]

    for line, cells in table.rows():
        if cells is None:
            left_out.add("which begin with #, as comments do", line)
            continue
        total += 1
        if total > _MAX_ROWS:
            raise AvsalError(f"{table.path} has more than {_MAX_ROWS:,} rows: split the set")
        if len(cells) != width:
            left_out.add(f"which have another number of cells than the header's {width}", line)
            continue
        stimulus, observer = cells[columns.stimulus.index].strip(), cells[columns.observer.index].strip()
        if not (stimulus and observer):
            left_out.add("which lack the name of the stimulus or the observer", line)
            continue
        if max(len(stimulus), len(observer)) > _MAX_NAME_CHARACTERS:
            left_out.add(f"which have a name of more than {_MAX_NAME_CHARACTERS} characters", line)
            continue
        pair = stimuli.setdefault(stimulus, len(stimuli)), observers.setdefault(observer, len(observers))
        pairs.add(pair)
        try:
            row = [read(cells[index]) for index, read in readers]
        except ValueError:
            left_out.add("which have a cell that is not a number", line)
            continue
        numbers.extend(row)
        codes.extend((*pair, line))
    notes = read_number.notes(table.path)
    if not codes:
        reasons = "; ".join(left_out.notes(table.path.name))
        raise AvsalError(f"{table.path} has no row that can be read{f': {reasons}' if reasons else ''}")
    code = np.frombuffer(codes, np.int64).reshape(-1, 3)
    values = np.frombuffer(numbers, np.float64).reshape(len(code), len(numeric))
    rows = RawRows(
        tuple(stimuli),
        tuple(observers),
        stimulus=code[:, 0].astype(np.int32),
        observer=code[:, 1].astype(np.int32),
        line=code[:, 2].copy(),
        pairs=frozenset(pairs),
        values={index: values[:, place].copy() for place, index in enumerate(numeric)},
        words=frozenset(words),
        total=total,
    )
    return rows, notes


def eye_positions(rows: RawRows, eye: Eye) -> tuple[np.ndarray, np.ndarray]:
    """Returns x, y float64 [N] of an eye; NaN where the table has no position or one beyond all screens."""
    x, y = rows.values[eye.x.index].copy(), rows.values[eye.y.index].copy()
    with np.errstate(invalid="ignore"):
        is_lost = ~(
            np.isfinite(x) & np.isfinite(y) & (np.abs(x) <= _MAX_POSITION) & (np.abs(y) <= _MAX_POSITION)
        )
    x[is_lost] = y[is_lost] = np.nan
    return x, y


def mean_of_eyes(positions: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean x, y of the eyes that have a position; NaN where none has."""
    if len(positions) == 1:
        return positions[0]
    x, y = (np.stack([position[axis] for position in positions]) for axis in (0, 1))
    count = np.isfinite(x).sum(0)
    with np.errstate(invalid="ignore"):
        return np.nansum(x, 0) / np.where(count, count, np.nan), np.nansum(y, 0) / np.where(
            count, count, np.nan
        )


def sample_positions(rows: RawRows, columns: RecordingColumns, file_name: str) -> tuple[np.ndarray, ...]:
    """Returns x, y float64 [N] of samples, NaN where they are lost, and notes.

    Lost are samples without a position, at exactly (0, 0) or (-1, -1), with a pupil of 0 or below, and those
    that the columns of validity exclude.
    """
    counts: dict[str, int] = {}
    positions, notes = [], []
    for eye in columns.eyes:
        x, y = eye_positions(rows, eye)
        reasons = {
            "without a position": np.isnan(x),
            "at (0, 0) or (-1, -1)": ((x == 0) & (y == 0)) | ((x == -1) & (y == -1)) | (x < _LOST_POSITION),
        }
        if eye.pupil:
            sizes = np.stack([rows.values[column.index] for column in eye.pupil])
            reasons["with a pupil of 0"] = ~(sizes > 0).any(0)
        if eye.validity:
            no_position = np.any(list(reasons.values()), 0)
            meanings = [
                _validity(rows, column=column, no_position=no_position, file_name=file_name)
                for column in eye.validity
            ]
            reasons["marked as not valid"] = ~np.any([valid for valid, _ in meanings], 0)
            notes += [f"{file_name}: {meaning}" for _, meaning in meanings]
        is_lost = np.zeros(len(rows), bool)
        for reason, mask in reasons.items():
            counts[reason] = counts.get(reason, 0) + int((mask & ~is_lost).sum())
            is_lost |= mask
        x[is_lost] = y[is_lost] = np.nan
        positions.append((x, y))
    x, y = mean_of_eyes(positions)
    lost_count = int(np.isnan(x).sum())
    eyes = f" (of {len(positions)} eyes, which are averaged)" if len(positions) > 1 else ""
    parts = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
    if parts:
        notes.append(
            f"{file_name}: {lost_count:,} of {len(rows):,} samples are lost, as in a blink: {parts}{eyes}"
        )
    return x, y, notes


def _validity(
    rows: RawRows, column: Column, no_position: np.ndarray, file_name: str
) -> tuple[np.ndarray, str]:
    """Returns whether samples are valid by a column, bool [N], and what its values mean.

    Words are read as such. Numbers up to 4 are codes from 0 (valid) to 4, of which 0 and 1 are kept. Of a
    column with 0 and 1 only, the one that goes with lost positions means invalid; where that does not decide,
    1 means valid in a column called `valid` (also in part), and any other column is asked about.
    """
    values = rows.values[column.index]
    numbers = set(np.unique(values[np.isfinite(values)]).tolist())
    one_means_valid = values == 1, f"1 in {column.name} means valid"
    if column.index in rows.words:
        return values == 1, f"{column.name} says in words what is valid"
    if not numbers <= {0, 1, 2, 3, 4}:
        raise AvsalError(
            f"{file_name} has values in {column.name} that are not a validity: it is 1 for valid and 0 for "
            "not valid, `Valid` or `Invalid`, or a code from 0 (valid) to 4; rename or remove the column"
        )
    if numbers & {2, 3, 4}:
        return values <= 1, f"{column.name} has codes from 0 (valid) to 4; 0 and 1 are kept"
    lost_share = {
        number: float(no_position[values == number].mean()) if number in numbers else math.nan
        for number in (0, 1)
    }
    if lost_share[1] > _UNSURE_SHARE > lost_share[0]:
        return values == 0, f"0 in {column.name} means valid"
    if lost_share[0] > _UNSURE_SHARE or re.search(r"valid(?!ity)", column.name.lower()) or numbers == {1}:
        return one_means_valid
    if numbers == {0}:
        return values == 0, f"0 in {column.name} means valid"
    raise AvsalError(
        f"{file_name} does not show which number in {column.name} means valid: rename the column to `valid` "
        "where 1 means valid; swap the numbers first where it is 0"
    )


def time_unit(
    column: Column, typical: float, seconds: tuple[float, float], choice: str | None, file_name: str
) -> tuple[str, str]:
    """Returns the unit of a column of times, and a note on how it was decided.

    Args:
      column: its name may state the unit, which then counts.
      typical: a typical duration or interval in the column's unit; NaN without any.
      seconds: smallest and largest of what it may be in seconds.
      choice: of the user (`--time-unit`), or None.
      file_name: for the note.

    Raises:
      AvsalError: nothing shows the unit.
    """
    if column.unit:
        note = f"{file_name}: {column.name} is in {column.unit}, by its name"
        if choice and choice != column.unit:
            note += f"; --time-unit {choice} has no effect on it"
        if not math.isnan(typical) and not seconds[0] / 3 <= typical * SECONDS[column.unit] <= seconds[1] * 3:
            note += f", though a typical value there, {typical:g} {column.unit}, is unusual: check the unit"
        return column.unit, note
    if choice:
        return choice, f"{file_name}: {column.name} is in {choice}, by --time-unit"
    units = [unit for unit in ("s", "ms") if seconds[0] <= typical * SECONDS[unit] <= seconds[1]]
    if len(units) != 1:
        example = "" if math.isnan(typical) else f" (a typical value is {typical:g})"
        raise AvsalError(
            f"{file_name} does not show whether {column.name} is in seconds or milliseconds{example}: add "
            f"--time-unit ms or --time-unit s, or the unit to its name, as in {column.name}_ms or "
            f"{column.name}_us"
        )
    return units[0], f"{file_name}: {column.name} is in {units[0]}, by a typical value of {typical:g}"


def typical_interval(rows: RawRows, time: np.ndarray) -> float:
    """Returns the median time between neighbours of one viewing, in the unit of `time`; NaN without any."""
    order = np.lexsort((time, rows.viewing))
    step, is_same = np.diff(time[order]), np.diff(rows.viewing[order]) == 0
    steps = step[is_same]
    return float(np.median(steps)) if len(steps) else math.nan
