"""Evaluates data sets video by video: resumable, and in shares with identical results."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.truth.frame_truth import Truth
from avsal_jax.data.truth.grey_maps import to_8_bit
from avsal_jax.errors import AvsalError, error_line
from avsal_jax.evaluation.scoring import OtherFixations, frame_values, scored_frames
from avsal_jax.evaluation.stored_results import part_path, read_part_file, write_part
from avsal_jax.evaluation.units import Settings, Unit
from avsal_jax.files import write_json
from avsal_jax.media.audio import envelope, is_silent
from avsal_jax.metrics import find_metric


def check(units: Sequence[Unit], settings: Settings) -> list[str]:
    """Returns the problems of the videos and their maps, before anything is computed."""
    problems = []
    for unit in units:
        entry = unit.entry
        problems += [f"{entry.name}: {note}" for note in entry.notes]
        if not entry.frames:
            continue
        try:
            problems += unit.source.problems(entry, settings.protocol) + settings.prior_problems(entry)
            if entry.sound is not None and is_silent(entry.sound):
                problems.append(f"{entry.name}: {entry.sound.name} is silent from beginning to end")
        except Exception as error:  # this video fails later, without affecting the others
            problems.append(f"{entry.name}: {error_line(error)}")
    return problems


def evaluate_units(
    units: Sequence[Unit],
    settings: Settings,
    output: pathlib.Path,
    say: Callable[[str], None],
    progress: Callable,
    pool: Sequence[Unit],
    jobs: Jobs,
) -> list[str]:
    """Scores every unit that has no part file of the same job yet; returns one line per failed unit.

    A failed unit does not affect the others. `pool` is the whole set, from which the DHF1K protocol draws
    negatives. Part files (`parts/<video>.json`) are written atomically, each with its job from `jobs`.
    """
    failed = []
    for unit in progress(units):
        stored_part = read_part(output, unit, jobs)
        if stored_part is not None and "failed" not in stored_part:
            continue
        try:
            part = _score(unit, pool=pool, settings=settings, output=output)
            for line in part["findings"]:
                say(f"note: {unit.entry.name}: {line}")
        except Exception as error:
            part = {"failed": error_line(error)}
            line = f"{unit.entry.name}: {part['failed']}"
            if unit.entry.may_be_missing:
                say(f"note: {line}")
            else:
                failed.append(line)
                say(f"failed: {line}")
        try:
            write_part(part_path(output, unit.key), {"job": jobs.of(unit), **part})
        except OSError as error:
            raise AvsalError(f"cannot write to {output / 'parts'}: {error.strerror}") from error
    return failed


def read_part(output: pathlib.Path, unit: Unit, jobs: Jobs) -> dict | None:
    """Returns the stored part of a unit, None if it is of another job; `failed` is why it has no rows."""
    part = read_part_file(part_path(output, unit.key))
    return part if part is not None and part.get("job") == jobs.of(unit) else None


class Jobs:
    """What the scores of units depend on; the files of a video are listed once, at the first request."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._by_key: dict[str, dict] = {}

    def of(self, unit: Unit) -> dict:
        """Returns everything that the scores of a unit depend on."""
        if unit.key not in self._by_key:
            self._by_key[unit.key] = self._job(unit)
        return self._by_key[unit.key]

    def _job(self, unit: Unit) -> dict:
        settings = self._settings
        return {
            "dataset": unit.entry.dataset,
            "video": unit.entry.identity(),
            "source": unit.source.identity(unit.entry),
            "protocol": settings.protocol.identity(),
            "metrics": list(settings.metrics),
            "seed": settings.seed,
            **settings.plugin_identity(),
            **settings.prior_identity(unit.entry),
        }


def _score(unit: Unit, pool: Sequence[Unit], settings: Settings, output: pathlib.Path) -> dict:
    entry, protocol = unit.entry, settings.protocol
    scored = scored_frames(entry, protocol)
    elsewhere, prior = OtherFixations(unit, pool=pool, settings=settings), settings.prior_map(entry)
    example_frames = {round(entry.frames * share) for share in (0.25, 0.5, 0.75)}
    rows, weights, extremes, indices = [], [], {}, set(scored)
    for index, stored in enumerate(unit.source.maps(entry, protocol)):
        if index not in indices:
            continue
        if stored is None:
            raise AvsalError(f"frame {index + 1} has no prediction")
        truth = elsewhere.take_truth(index)
        values, weight = frame_values(
            unit, index, truth=truth, stored=stored, elsewhere=elsewhere, settings=settings, prior=prior
        )
        rows.append([index + 1, *(_json_number(values[name]) for name in settings.metrics)])
        weights.append(weight)
        if index in example_frames:
            _save_example(output / "examples" / unit.key, entry, index=index, truth=truth, stored=stored)
        first = settings.metrics[0]
        goodness = find_metric(first).goodness(values[first])
        _keep_extremes(extremes, _Extreme(goodness, index=index, truth=truth, stored=stored))
    _save_sound(output / "examples" / unit.key, entry)
    for index, extreme in sorted({extreme.index: extreme for extreme in extremes.values()}.items()):
        _save_example(
            output / "extremes" / unit.key, entry, index=index, truth=extreme.truth, stored=extreme.stored
        )
    return {
        "dataset": entry.dataset,
        "video": entry.name,
        "key": unit.key,
        "label": unit.label,
        "fold": unit.fold,
        "fps": float(entry.fps),
        "category": entry.category,
        "notes": list(entry.notes),
        "findings": elsewhere.findings() + unit.source.remarks(entry, protocol),
        "without_truth": entry.without_truth,
        "extremes": {name: extreme.index + 1 for name, extreme in extremes.items()},
        "rows": rows,
        "weights": weights if protocol.grid is not None else None,
    }


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclasses.dataclass(frozen=True)
class _Extreme:
    """The frame with the best or the worst value of a video.

    Attributes:
      goodness: the value, larger is better.
      index: the frame, from 0.
      truth: its truth.
      stored: its stored map.
    """

    goodness: float
    index: int
    truth: Truth
    stored: np.ndarray


def _keep_extremes(extremes: dict[str, _Extreme], frame: _Extreme) -> None:
    """Updates `best` and `worst` of `extremes` with a frame."""
    if math.isnan(frame.goodness):
        return
    if "best" not in extremes or frame.goodness > extremes["best"].goodness:
        extremes["best"] = frame
    if "worst" not in extremes or frame.goodness < extremes["worst"].goodness:
        extremes["worst"] = frame


def _save_sound(folder: pathlib.Path, entry: VideoEntry) -> None:
    """Saves the largest amplitude over the frames, for the strips of `avsal compare`."""
    if entry.sound is None:
        return
    try:
        times, peaks = envelope(entry.sound)
    except AvsalError:  # reported by the notes of an audio-visual model
        return
    folder.mkdir(parents=True, exist_ok=True)
    frames = (times * entry.fps + 1).round(3).tolist()
    write_json(folder / "sound.json", {"frames": frames, "peaks": peaks.round(5).tolist()})


def _save_example(
    folder: pathlib.Path, entry: VideoEntry, index: int, truth: Truth, stored: np.ndarray
) -> None:
    """Saves a frame, its truth and its map as files, for the report pages."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{index + 1:06d}"
    if not entry.has_image(index):  # saved maps can be scored without images
        return
    density = truth.density
    height, width = density.shape
    Image.fromarray(entry.frame(index)).resize((width, height)).save(f"{stem}_frame.jpg", quality=85)
    Image.fromarray(to_8_bit(density)).save(f"{stem}_truth.png")
    Image.fromarray(to_8_bit(stored)).resize((width, height), Image.Resampling.BILINEAR).save(f"{stem}.png")
    points = {"size": [height, width], "fixations": truth.fixations.points.tolist()}
    write_json(pathlib.Path(f"{stem}_fixations.json"), points)
