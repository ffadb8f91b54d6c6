"""The columns of a table of recorded gaze, recognised by the names that eye trackers give them.

Names are compared in lower case, without units, spaces and signs: `Gaze point X [MCS px]` is `gazepointx`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from avsal_jax.errors import AvsalError

# The spellings of each role, the preferred first. Adding a spelling takes a word here.
_SPELLINGS = {
    "stimulus": """stimulus stimulusname stimulusfile presentedstimulusname image imagename imagefile img
        picture video videoname clip media medianame presentedmedianame file filename""",
    "observer": """observer observername observerid participant participantname participantid subject
        subjectname subjectid subj sub viewer person recordingsessionlabel recording
        recordingname recordingid""",
    "x": """x fixx xfix fixationx fixationpointx fixationpositionx currentfixx gazex xgaze gazepointx
        gazepositionx averagegazex positionx posx pointx porx pointofregardx""",
    "y": """y fixy yfix fixationy fixationpointy fixationpositiony currentfixy gazey ygaze gazepointy
        gazepositiony averagegazey positiony posy pointy pory pointofregardy""",
    "start": """start starttime onset onsettime fixationstart fixationstarttime fixationonset fixstart
        currentfixstart eventstart eventstarttrialtime starttimestamp begin time timestamp t
        recordingtimestamp""",
    "end": """end endtime fixationend fixationendtime fixend currentfixend eventend eventendtrialtime
        endtimestamp stop""",
    "duration": """duration dur fixationduration fixduration fixdur currentfixduration eventduration
        gazeeventduration""",
    "time": """time timestamp t sampletime recordingtime recordingtimestamp trialtime localtimestamp
        eyetrackertimestamp""",
    "validity": "valid isvalid gazevalid validity gazevalidity",
    "pupil": "pupil pupilsize pupildiameter pupilarea",
    "width": "width stimuluswidth mediawidth imagewidth videowidth",
    "height": "height stimulusheight mediaheight imageheight videoheight",
}
_RANKS = {role: {word: rank for rank, word in enumerate(text.split())} for role, text in _SPELLINGS.items()}
# What a unit is called in the name of a column, and its seconds.
_TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "μs", "microseconds"), "us"),
    "ns": "ns",
}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# Pixels of the stimulus ("media") before those that may be of the screen ("display") and shares of it.
_POSITION_UNITS = ("mcspx", "px", "pix", "pixel", "pixels", "", "adcspx", "dacspx", "mcsnorm", "norm")
_UNIT_AT_END = re.compile(
    rf"^(.+?)[\s_.\-]+({'|'.join([*_TIME_UNITS, *filter(None, _POSITION_UNITS)])})$", re.IGNORECASE
)
_UNIT_IN_BRACKETS = re.compile(r"^(.+?)[\s_]*[\[(]([^\[\]()]*)[\])]$")
_EYES = ("", "left", "right")  # both eyes as one position first


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
      index: of its cell in a row.
      name: as in the header.
      unit: `s`, `ms`, `us` or `ns` where its name states a unit of time; `norm` for shares; else ''.
    """

    index: int
    name: str
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Eye:
    """The columns of one eye, or of both as one position.

    Attributes:
      x, y: the position.
      validity: what states whether it is valid; of several columns one valid eye is enough.
      pupil: the size of the pupil; of several columns one above 0 is enough.
    """

    x: Column
    y: Column
    validity: tuple[Column, ...] = ()
    pupil: tuple[Column, ...] = ()


@dataclasses.dataclass(frozen=True)
class RecordingColumns:
    """Where a table holds what.

    Attributes:
      stimulus, observer: names.
      eyes: one, or the left and the right eye, whose positions are averaged.
      time: start of a fixation, or time of a sample.
      end, duration: of a fixation; one of the two is None, and both are for samples.
      width, height: of the stimulus, where the table states them.
      unused: names of the columns that are not read.
    """

    stimulus: Column
    observer: Column
    eyes: tuple[Eye, ...]
    time: Column
    end: Column | None
    duration: Column | None
    width: Column | None
    height: Column | None
    unused: tuple[str, ...]

    def note(self, file_name: str) -> str:
        """Returns a line with the columns that are read, and those that are not."""
        eyes = [(f"{axis}", column) for eye in self.eyes for axis, column in (("x", eye.x), ("y", eye.y))]
        quality = [("validity", c) for eye in self.eyes for c in eye.validity]
        quality += [("pupil", c) for eye in self.eyes for c in eye.pupil]
        roles = [("stimulus", self.stimulus), ("observer", self.observer), *eyes, ("time", self.time)]
        roles += [("end", self.end), ("duration", self.duration), *quality]
        roles += [("width", self.width), ("height", self.height)]
        used = ", ".join(f"{role} = {column.name}" for role, column in roles if column)
        unused = f"; not read: {', '.join(self.unused)}" if self.unused else ""
        return f"{file_name}: columns are {used}{unused}"


COLUMNS_OF = {
    "fixations": "the columns stimulus, observer, x, y, start_ms, duration_ms (or end_ms)",
    "gaze": "the columns stimulus, observer, time_ms, x, y",
}


def count_columns(header: Sequence[str], kind: str) -> int:
    """Returns how many kinds of needed columns a header has; `kind` is `fixations` or `gaze`."""
    time = "start" if kind == "fixations" else "time"
    return sum(bool(_candidates(header, role)) for role in ("stimulus", "observer", "x", "y", time))


def recognise_columns(header: Sequence[str], kind: str, file_name: str) -> RecordingColumns:
    """Returns the columns of a table by their names, in any order.

    Args:
      header: the names.
      kind: `fixations` or `gaze`.
      file_name: for the errors.

    Raises:
      AvsalError: a column is missing, or two have the same meaning.
    """
    fixations = kind == "fixations"
    columns = {
        role: _best(header, role, file_name)
        for role in ("stimulus", "observer", "start" if fixations else "time", "width", "height")
    }
    time = columns["start" if fixations else "time"]
    duration = _best(header, "duration", file_name) if fixations else None
    end = _best(header, "end", file_name) if fixations and duration is None else None
    eyes = _eyes(header, file_name, with_quality=not fixations)
    missing = [role for role in ("stimulus", "observer") if columns[role] is None]
    missing += [] if eyes else ["x and y"]
    missing += [] if time else ["start_ms" if fixations else "time_ms"]
    missing += ["duration_ms (or end_ms)"] if fixations and not (duration or end) else []
    if missing:
        raise AvsalError(
            f"{file_name} has no column {', '.join(missing)}: its header is {', '.join(header)}, and it "
            f"needs {COLUMNS_OF[kind]}; rename those that are called otherwise"
        )
    used = {column.index for column in (*columns.values(), duration, end) if column}
    used |= {column.index for eye in eyes for column in (eye.x, eye.y, *eye.validity, *eye.pupil)}
    return RecordingColumns(
        stimulus=columns["stimulus"],
        observer=columns["observer"],
        eyes=eyes,
        time=time,
        end=end,
        duration=duration,
        width=columns["width"],
        height=columns["height"],
        unused=tuple(name for index, name in enumerate(header) if name and index not in used),
    )


def _eyes(header: Sequence[str], file_name: str, with_quality: bool) -> tuple[Eye, ...]:
    """Returns one eye where there is a position of both, else the left and the right that there are."""
    by_side = {}
    for side in _EYES:
        x, y = (
            _best(header, role="x", file_name=file_name, side=side),
            _best(header, role="y", file_name=file_name, side=side),
        )
        if x and y:
            by_side[side] = x, y
    sides = [side for side in _EYES if side in by_side]
    if "" in sides:
        sides = [""]
    quality = {
        (role, side): _best(header, role=role, file_name=file_name, side=side) if with_quality else None
        for role in ("validity", "pupil")
        for side in _EYES
    }

    def of_side(role: str, side: str) -> tuple[Column, ...]:
        exact = quality[role, side]
        both_eyes = (quality[role, "left"], quality[role, "right"]) if side == "" else (quality[role, ""],)
        return tuple(filter(None, (exact,) if exact else both_eyes))

    return tuple(Eye(*by_side[side], of_side("validity", side), of_side("pupil", side)) for side in sides)


def _best(header: Sequence[str], role: str, file_name: str, side: str = "") -> Column | None:
    candidates = sorted(
        (rank, column.index, column) for rank, column, eye in _candidates(header, role) if eye == side
    )
    if not candidates:
        return None
    if len(candidates) > 1 and candidates[0][0] == candidates[1][0]:
        names = " and ".join(repr(column.name) for _, _, column in candidates[:2])
        raise AvsalError(f"{file_name} has two columns for {role}, {names}: remove or rename one")
    return candidates[0][2]


def _candidates(header: Sequence[str], role: str) -> list[tuple[tuple[int, int], Column, str]]:
    """Returns (rank, column, eye) of the columns whose names may mean a role."""
    ranks, columns = _RANKS[role], []
    for index, name in enumerate(header):
        bare, unit, eye = _split_name(name)
        if eye and role not in ("x", "y", "validity", "pupil"):
            continue
        if bare not in ranks and not unit and bare[-2:] in ("ms", "us"):  # as in `StartMs`
            bare, unit = bare[:-2], bare[-2:]
        if bare not in ranks:
            continue
        rank, kind = (ranks[bare], 0), _TIME_UNITS.get(unit, "")
        if role in ("x", "y"):
            if unit not in _POSITION_UNITS:
                continue
            rank = (ranks[bare], _POSITION_UNITS.index(unit))
            kind = "norm" if unit.endswith("norm") else ""
        columns.append((rank, Column(index, name, kind), eye))
    return columns


def _split_name(name: str) -> tuple[str, str, str]:
    """Returns the name without unit and eye, in lower case without signs; the unit; the eye."""
    text, unit = name.strip().lower(), ""
    if match := _UNIT_IN_BRACKETS.match(text) or _UNIT_AT_END.match(text):
        text, unit = match[1], re.sub(r"\s", "", match[2])
    words = [word for word in re.split(r"[\W_]+", text) if word]
    eye = ""
    for side in ("left", "right"):
        if side in text:
            eye, words = side, [word.replace(side, "") for word in words]
        elif len(words) > 1 and side[0] in (words[0], words[-1]):
            eye, words = side, words[1:] if words[0] == side[0] else words[:-1]
    return "".join(words), unit, eye
