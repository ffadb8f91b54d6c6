"""A comparison as text: comparison.csv, comparison.md, comparison.json."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

from avsal_jax import registry
from avsal_jax.evaluation.compare import (
    LEVEL,
    RESAMPLES,
    SEED,
    SIX_SET_MEAN,
    Comparison,
    Difference,
    Score,
)
from avsal_jax.metrics import Metric
from avsal_jax.pages import Grid

FORMAT = "avsal_jax comparison 1"
_FIELDS = ("method", "dataset", "split", "folds", "protocol", "videos", "origin", "note")


def title(metric: str) -> str:
    """The field's name of a metric, with an arrow where lower is better; the name of an unknown one."""
    row = _metric(metric)
    return metric if row is None else row.heading


def _metric(name: str) -> Metric | None:
    """Returns a metric, or None where the plugin that a result was made with is not loaded."""
    return registry.table("metric").get(name)


def csv_text(comparison: Comparison) -> str:
    """Returns one line for each method and set, and for each six-set mean."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIELDS[:6], *comparison.metrics, *_FIELDS[6:]])
    for score in comparison.scores:
        values = [
            score.printed_values.get(metric) or _exact(score.metrics.get(metric))
            for metric in comparison.metrics
        ]
        folds = " ".join(map(str, score.folds))
        about = [score.method, score.dataset, score.split, folds, score.protocol, _or_empty(score.videos)]
        writer.writerow([*about, *values, score.origin, score.note])
    return text.getvalue()


def json_text(comparison: Comparison) -> str:
    """Returns the whole comparison as JSON; NaN is null."""
    content = {
        "format": FORMAT,
        **dataclasses.asdict(comparison),
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
    }
    return json.dumps(_strict(content), indent=1, allow_nan=False) + "\n"


def grids(comparison: Comparison) -> list[tuple[str, Grid]]:
    """Returns (title, table) for each set, and for the six-set means; the best value of each metric is bold.

    Splits of a set share a table: papers call validation what a packaging calls its test list.
    """
    tables = []
    for dataset in dict.fromkeys(score.dataset for score in comparison.scores):
        scores = [s for s in comparison.scores if s.dataset == dataset]
        name = "Mean of the six sets" if dataset == SIX_SET_MEAN else dataset
        tables.append((name, _grid(scores, comparison.metrics)))
    return tables


def _grid(scores: list[Score], metrics: tuple[str, ...]) -> Grid:
    metrics = tuple(m for m in metrics if any(m in score.metrics for score in scores))
    columns = ["method", *map(title, metrics), "split", "videos", "protocol"]
    rows = [
        [s.method, *(_value(s, m) for m in metrics), s.split, _or_empty(s.videos), s.protocol or "as printed"]
        for s in scores
    ]
    if any(score.folds for score in scores):
        columns.append("folds")
        for row, score in zip(rows, scores, strict=True):
            row.append(", ".join(map(str, score.folds)))
    strong = set()
    for column, metric in enumerate(metrics, 1):
        values = {i: s.metrics[metric] for i, s in enumerate(scores) if _is_number(s.metrics.get(metric))}
        if len(values) > 1 and (row := _metric(metric)) is not None:
            best = max(values.values(), key=row.goodness)
            strong |= {(i, column) for i, value in values.items() if value == best}
    return Grid(columns, rows, strong)


def markdown(comparison: Comparison) -> str:
    """The tables, the differences and the notes."""
    parts = ["# Comparison\n"]
    for name, grid in grids(comparison):
        parts.append(f"## {name}\n\n{_markdown_table(grid)}")
    parts += [f"{line}\n" for line in missing_lines(comparison)]
    if comparison.differences:
        parts.append(
            f"## Differences\n\n{differences_text(comparison)}\n\n{_markdown_table(_differences(comparison))}"
        )
    if comparison.notes:
        parts.append("## Notes\n\n" + "".join(f"- {note}\n" for note in comparison.notes))
    return "\n".join(parts)


def missing_lines(comparison: Comparison) -> list[str]:
    """Returns a line for each method that lacks some of the six sets."""
    return [
        f"No six-set mean for {method}: no result on {', '.join(sets)}."
        for method, sets in comparison.missing.items()
    ]


def differences_text(comparison: Comparison) -> str:
    """Explains the differences and intervals."""
    lower = ", ".join(m.title for m in registry.table("metric").values() if m.lower_is_better)
    return (
        f"Per-video values minus those of {comparison.base}, mean over the videos that both have, with a "
        f"{LEVEL:.0%} percentile bootstrap interval ({RESAMPLES:,} resamples of videos, seed {SEED}). Above "
        f"zero is better, except for {lower}. If the interval excludes zero, the choice of videos is an "
        "unlikely reason for the difference."
    )


def interval_text(difference: Difference) -> str:
    """Such as `+0.0123 [+0.0010, +0.0236]`."""
    if not _is_number(difference.mean):
        return "no common value"
    if not _is_number(difference.low):
        return f"{difference.mean:+.4f} (one video: no interval)"
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _differences(comparison: Comparison) -> Grid:
    rows = [
        [f"{d.dataset}, {d.split}", d.method, title(d.metric), interval_text(d), str(d.videos)]
        for d in comparison.differences
    ]
    return Grid(["set", "method", "metric", f"difference [{LEVEL:.0%} interval]", "common videos"], rows)


def _markdown_table(grid: Grid) -> str:
    lines = ["| " + " | ".join(grid.columns) + " |", "|---" * len(grid.columns) + "|"]
    for number, row in enumerate(grid.rows):
        cells = [cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row]
        cells = [f"**{c}**" if (number, i) in grid.strong else c for i, c in enumerate(cells)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _value(score: Score, metric: str) -> str:
    """Returns the text of a cell: as the paper prints it, or with four digits."""
    if metric in score.printed_values:
        return score.printed_values[metric]
    value = score.metrics.get(metric)
    return f"{value:.4f}" if _is_number(value) else ""


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _exact(value: float | None) -> str:
    return repr(round(value, 12)) if _is_number(value) else ""


def _or_empty(value: int | None) -> str:
    return "" if value is None else str(value)


def _strict(value):
    if isinstance(value, dict):
        return {key: _strict(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
