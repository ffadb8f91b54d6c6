"""Reads and checks the results that `avsal evaluate` writes; returns published rows in the same form."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from avsal_jax import published
from avsal_jax.errors import AvsalError, damage_reason

FORMAT = "avsal_jax evaluation 1"
PUBLISHED = "published:"
# Fields of summary.json that are named after a flag and override the model or the protocol.
OVERRIDES = ("smoothing", "postprocess", "audio", "coding_iterations")
_MAX_SUMMARY_BYTES, _MAX_TABLE_BYTES = 1_000_000, 500_000_000
_GIVE = "give a folder that `avsal evaluate` wrote, or published:METHOD"


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of one method on one data set (and fold).

    Attributes:
      method: its label.
      dataset, split, fold: what was scored; fold is None for a set without folds.
      protocol: name of the protocol; empty for a published row.
      videos: number of videos; None if the paper does not report it.
      metrics: name -> mean over the set; NaN if no video had a value.
      per_video: metric -> video -> value (NaN: dropped); None for a published row.
      folder: the result folder; None for a published row.
      origin: a readable source: a path, or a table of a paper.
      note: conditions and caveats of the numbers.
      category: of the videos; "" for all videos of the folder.
      printed_values: metric -> value as the paper prints it; empty for a folder.
      overrides: flags of the evaluation, see `override_flags`.
    """

    method: str
    dataset: str
    split: str
    fold: int | None
    protocol: str
    videos: int | None
    metrics: dict[str, float]
    per_video: dict[str, dict[str, float]] | None
    folder: pathlib.Path | None
    origin: str
    note: str = ""
    category: str = ""
    printed_values: dict[str, str] = dataclasses.field(default_factory=dict)
    overrides: str = ""


def override_flags(summary: Mapping) -> str:
    """Returns the overrides of an evaluation as flags, such as `--postprocess vinet`; "" if it has none."""
    flags = {name: f"--{name.replace('_', '-')}" for name in OVERRIDES}
    return " ".join(f"{flag} {summary[name]}" for name, flag in flags.items() if name in summary)


def read_results(text: str) -> list[Result]:
    """Returns the results of a RESULT argument: `published:METHOD_OR_KEY`, a folder, or `LABEL=folder`.

    A folder contains one result per fold, and one per category that papers print.

    Raises:
      AvsalError: the folder or method does not exist, or the folder is damaged.
    """
    if text.startswith(PUBLISHED):
        return [_published(row) for row in published.method_rows(text.removeprefix(PUBLISHED))]
    label, equals, path = text.partition("=")
    if equals and label and not pathlib.Path(text).exists():
        if not label.isprintable():
            raise AvsalError(f"the label {label!r} contains characters that cannot be printed")
        return [dataclasses.replace(result, method=label) for result in _read_folder(path)]
    return _read_folder(text)


def _published(row: published.Row) -> Result:
    return Result(
        method=f"{row.label}, printed by {row.paper}",
        dataset=row.dataset,
        split=row.split,
        fold=None,
        protocol="",
        videos=None,
        metrics=row.metrics,
        per_video=None,
        folder=None,
        origin=row.source,
        note=row.note,
        printed_values=row.printed_values,
    )


def read_result(path) -> Result:
    """Reads a result folder, `summary.json` and `videos.csv`; folds and categories are pooled.

    Raises:
      AvsalError: the path is not a result folder, or the folder is damaged.
    """
    return _read(pathlib.Path(path))[0]


def _read_folder(path) -> list[Result]:
    pooled, summary = _read(pathlib.Path(path))
    names = published.categories(pooled.dataset)
    parts = [
        _part(pooled, summary["folds"][fold], fold=int(fold), origin=f"{pooled.origin}, fold {fold}")
        for fold in summary["folds"]
    ]
    return (parts or [pooled]) + [
        _part(pooled, part, dataset=names[name], category=name, origin=f"{pooled.origin}, {name}")
        for name, part in summary["categories"].items()
        if name in names
    ]


def _part(pooled: Result, part: dict, **changes) -> Result:
    """Returns the result of a subset of the videos of a folder."""
    names = frozenset(part["names"])
    per_video = {
        metric: {video: value for video, value in table.items() if video in names}
        for metric, table in pooled.per_video.items()
    }
    return dataclasses.replace(
        pooled, per_video=per_video, metrics=part["metrics"], videos=len(names), **changes
    )


def _read(folder: pathlib.Path) -> tuple[Result, dict]:
    file = folder / "summary.json"
    if not folder.is_dir() or not file.is_file():
        missing = "has no summary.json" if folder.is_dir() else "is not a folder"
        raise AvsalError(f"{folder} is not a result: it {missing}; {_GIVE}")
    summary = _summary(file)
    per_video = _per_video(folder / "videos.csv", summary["videos"])
    pooled = Result(
        method=summary["method"],
        dataset=summary["dataset"],
        split=summary["split"],
        fold=summary["fold"],
        protocol=summary["protocol"],
        videos=summary["videos"],
        metrics=summary["metrics"],
        per_video=per_video,
        folder=folder,
        origin=str(folder),
        note=f"evaluated with {summary['overrides']}" if summary["overrides"] else "",
        overrides=summary["overrides"],
    )
    return pooled, summary


def _summary(file: pathlib.Path) -> dict:
    try:
        if file.stat().st_size > _MAX_SUMMARY_BYTES:
            raise ValueError(f"it has more than {_MAX_SUMMARY_BYTES} bytes")
        card = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(card, dict) or not str(card.get("format", "")).startswith("avsal_jax evaluation"):
            raise AvsalError(
                f"{file.parent} is not a result: its summary.json was written by another command; {_GIVE}"
            )
        if card["format"] != FORMAT:
            raise AvsalError(
                f"{file} has the format {card['format']!r}; this version reads {FORMAT!r}: evaluate again"
            )
        checked = {key: _name(key, card[key]) for key in ("method", "dataset", "split", "protocol")}
        checked["fold"] = None if card.get("fold") is None else _natural("fold", card["fold"])
        checked["videos"] = _natural("videos", card["videos"])
        checked["metrics"] = _means(card["metrics"])
        checked["overrides"] = override_flags({k: _override(k, card[k]) for k in OVERRIDES if k in card})
        for key in ("folds", "categories"):  # earlier results lack the names of the videos
            checked[key] = {
                _name(key, name): {"metrics": _means(part["metrics"]), "names": _names(part["names"])}
                for name, part in card.get(key, {}).items()
                if "names" in part
            }
        if not all(name.isascii() and name.isdecimal() for name in checked["folds"]):
            raise ValueError("a fold is not a number")
    except AvsalError:
        raise
    except KeyError as error:
        raise AvsalError(f"{file} is damaged: it has no {error.args[0]!r}; evaluate again") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AvsalError(f"{file} is damaged: {damage_reason(error)}; evaluate again") from error
    return checked


def _name(key: str, value) -> str:
    if not isinstance(value, str) or not value or len(value) > 300 or not value.isprintable():
        raise ValueError(f"{key} is {str(value)[:60]!r}")
    return value


def _override(key: str, value) -> str | float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else _name(key, value)


def _names(value) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("the names of videos are not a list")
    return [_name("video", name) for name in value]


def _means(card: dict) -> dict[str, float]:
    return {_name("metric", key): _mean(key, value) for key, value in card.items()}


def _natural(key: str, value) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {str(value)[:60]!r}")
    return value


def _mean(metric: str, value) -> float:
    if not isinstance(value, dict):
        raise ValueError(f"its metric {metric} is not an object with a mean")
    mean = value["mean"]
    if not isinstance(mean, int | float | None) or isinstance(mean, bool):
        raise ValueError(f"the mean of {metric} is {str(mean)[:60]!r}")
    return math.nan if mean is None else _number(mean)


def _number(value) -> float:
    try:
        number = float(value)
    except OverflowError:  # an integer beyond float64
        number = math.inf
    if math.isinf(number):
        raise ValueError("a value is infinite")
    return number


def _per_video(file: pathlib.Path, videos: int) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    videos_read: set[str] = set()
    for video, row in _rows(file, "frames"):
        if video in videos_read:
            raise AvsalError(f"{file} is damaged: {video} is listed twice; evaluate again")
        videos_read.add(video)
        for metric, value in row.items():
            table.setdefault(metric, {})[video] = value
    if len(videos_read) != videos:
        raise AvsalError(
            f"{file} is damaged: it has {len(videos_read)} videos, summary.json says {videos}; evaluate again"
        )
    return table


def read_frames(result: Result, metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns video -> (frame numbers from 1, increasing; values of `metric`, NaN where dropped).

    Empty if the folder has no `frames.csv`, or that has no column of the metric.

    Raises:
      AvsalError: the file is damaged.
    """
    file = result.folder / "frames.csv"
    if not file.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    for video, row in _rows(file, "frame", keep="frame"):
        if metric in row:
            curves.setdefault(video, {})[int(row["frame"])] = row[metric]
    numbers = {video: np.array(sorted(values)) for video, values in curves.items()}
    return {v: (n, np.array([curves[v][i] for i in n.tolist()])) for v, n in numbers.items()}


def _rows(file: pathlib.Path, second: str, keep: str = "") -> Iterator[tuple[str, dict[str, float]]]:
    """Yields (video, column -> number) of a table whose columns begin with `video` and `second`."""
    try:
        if file.stat().st_size > _MAX_TABLE_BYTES:
            raise ValueError(f"it has more than {_MAX_TABLE_BYTES} bytes")
        with file.open(encoding="utf-8", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            header = next(lines, [])
            if header[:2] != ["video", second] or len(header) < 3 or len(set(header)) != len(header):
                raise ValueError(f"its header is not video,{second}, and distinct metrics")
            for row in lines:
                if len(row) != len(header):
                    raise ValueError(f"line {lines.line_num} has {len(row)} cells, the header {len(header)}")
                numbers = {k: _cell(v, lines.line_num) for k, v in zip(header[1:], row[1:], strict=True)}
                if second != keep:
                    del numbers[second]
                elif not (1 <= numbers[second] < 1e9 and numbers[second].is_integer()):
                    raise ValueError(f"line {lines.line_num} has {row[1][:40]!r} for a {second}")
                yield _name("video", row[0]), numbers
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AvsalError(f"{file} is damaged: {reason}; evaluate again") from error


def _cell(text: str, line: int) -> float:
    try:
        return _number(text) if text else math.nan
    except ValueError:
        raise ValueError(f"line {line} has {text[:40]!r} in place of a number") from None
