"""Tables of an evaluation from its part files: frames, videos, summary, Markdown, report page."""

from __future__ import annotations

import csv
import functools
import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from avsal_jax import published
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.evaluation.results import FORMAT, override_flags
from avsal_jax.files import write_json, write_text
from avsal_jax.metrics import MeanState, find_metric
from avsal_jax.pages import Pictures, Section, Table, render_page
from avsal_jax.plots import Curves

_LISTED_VIDEOS = 6  # best and worst videos in the report
_MAX_NAMES = 3  # videos with the same remark


def video_means(part: dict, metrics: Sequence[str]) -> dict[str, float]:
    """Returns the mean of each metric over the frames of a video; of NSS on a grid, over its fixations."""
    means = {}
    for index, name in enumerate(metrics):
        values, weights = np.array(column(part, index)), part.get("weights")
        scored = ~np.isnan(values)
        if weights is None or not find_metric(name).per_fixation or not scored.any():
            means[name] = MeanState().add(values).mean()
        else:
            means[name] = float(np.average(values[scored], weights=np.array(weights)[scored]))
    return means


def column(part: dict, metric: int) -> list[float]:
    """Returns the values of metric number `metric` over the scored frames; NaN if a frame has no value."""
    return [math.nan if row[metric + 1] is None else row[metric + 1] for row in part["rows"]]


def set_means(parts: Sequence[dict], metrics: Sequence[str], protocol: Protocol) -> dict[str, dict]:
    """Returns metric -> mean, number of videos, number of frames without a value.

    `videos`: frames -> video -> mean of videos. Videos of several folds are pooled: a video that is tested in
    two folds counts twice, and the three models of DIEM have equal weights. `frames`: the mean of all frames.
    """
    result = {}
    for index, name in enumerate(metrics):
        frames = MeanState()
        for part in parts:
            frames = frames.add(column(part, index))
        average = frames
        if protocol.average == "videos":
            average = MeanState().add([video_means(part, metrics)[name] for part in parts])
        mean = _number(average.mean())
        result[name] = {"mean": mean, "videos": len(parts), "dropped": frames.dropped}
    return result


def write_results(
    output: pathlib.Path,
    parts: Sequence[dict],
    folds: Sequence[int | None],
    metrics: Sequence[str],
    protocol: Protocol,
    about: dict,
) -> dict:
    """Writes frames.csv, videos.csv, summary.json, table.md and report.html; returns the summary.

    Args:
      parts: of all videos, in order.
      folds: of each part; None for a part without a fold.
      about: other fields of `summary.json`, which `evaluate` lists: method, dataset, split, fold, missing,
        not_scored, seed, config, overrides, prior, source.
    """
    summary = {
        "format": FORMAT,
        **about,
        "protocol": protocol.name,
        "videos": len(parts),
        "frames": sum(len(part["rows"]) for part in parts),
        "frames_without_truth": {p["label"]: p["without_truth"] for p in parts if p["without_truth"]},
        "notes": {p["label"]: p["findings"] for p in parts if p["findings"]},
        "metrics": set_means(parts, metrics, protocol),
    }
    kinds = {"folds": folds, "categories": [part["category"] for part in parts]}
    for kind, names in kinds.items():
        if any(names):
            summary[kind] = {
                str(name): _summary_of(
                    [part for part, of in zip(parts, names, strict=True) if of == name], metrics, protocol
                )
                for name in sorted({name for name in names if name})
            }
    _write_csv(
        output / "frames.csv",
        ["video", "frame", *metrics],
        ([part["label"], *row] for part in parts for row in part["rows"]),
    )
    _write_csv(
        output / "videos.csv",
        ["video", "frames", *metrics],
        (
            [part["label"], len(part["rows"]), *map(_number, video_means(part, metrics).values())]
            for part in parts
        ),
    )
    table = markdown(summary, metrics)
    write_text(output / "table.md", table)
    write_text(output / "report.html", _page(output, parts=parts, metrics=metrics, summary=summary))
    write_json(output / "summary.json", summary)
    return summary


def _summary_of(parts: Sequence[dict], metrics: Sequence[str], protocol: Protocol) -> dict:
    """Returns the entry of a summary for a subset of its videos."""
    return {"names": [p["label"] for p in parts], "metrics": set_means(parts, metrics, protocol)}


def markdown(summary: dict, metrics: Sequence[str]) -> str:
    """Returns the tables of a set and of its categories, with the numbers that papers print for them."""
    dataset, label = summary["dataset"], summary["method"].replace("|", "\\|")
    scored_on = f"{summary['split']}, protocol {summary['protocol']}"
    means = {name: value["mean"] for name, value in summary["metrics"].items()}
    measured = [(f"**{label}**", means)]
    if folds := summary.get("folds"):
        measured.append((f"**{label}**, mean of {len(folds)} folds", fold_means(folds, metrics)))
    table = functools.partial(_table, split=summary["split"], metrics=metrics)
    lines = table(f"{dataset}, {scored_on}", measured, printed=published.rows(dataset=dataset))
    names = published.categories(dataset)
    for category, part in summary.get("categories", {}).items():
        means = {name: value["mean"] for name, value in part["metrics"].items()}
        printed = published.rows(dataset=names[category]) if category in names else ()
        videos = f"{len(part['names'])} videos"
        measured = [(f"**{label}**", means)]
        lines += ["", *table(f"{category}, {videos}, {scored_on}", measured, printed=printed)]
    lines += [f"\n{line}" for line in remarks(summary)]
    return "\n".join(lines) + "\n"


def fold_means(folds: dict[str, dict], metrics: Sequence[str]) -> dict[str, float | None]:
    """Returns the mean of the means of folds, as papers report them; None if a fold has no mean."""
    means = {name: [part["metrics"][name]["mean"] for part in folds.values()] for name in metrics}
    return {name: None if None in values else float(np.mean(values)) for name, values in means.items()}


def _table(title: str, measured, split: str, printed: Sequence[published.Row], metrics) -> list[str]:
    """Returns the lines of a table: measured rows, then rows of papers as printed, if they have a value."""
    lines = [
        f"## {title}",
        "",
        "| method | " + " | ".join(metrics) + " | split | source | pre-training |",
        "|---" * (len(metrics) + 4) + "|",
    ]
    for label, means in measured:
        values = [_cell(means[name]) for name in metrics]
        lines.append("| " + " | ".join([label, *values, split, "this evaluation", ""]) + " |")
    for row in printed:
        values = [row.printed_values.get(name, "") for name in metrics]
        if any(values):
            cells = [row.label, *values, row.split, row.source, row.pretraining]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def remarks(summary: dict) -> list[str]:
    """Returns sentences on settings, on frames and videos without a score, and on unusual truth."""
    lines = [f"Fixations are blurred with sigma {summary['sigma']}."] if "sigma" in summary else []
    if "config" in summary:
        lines.append(f"Trained by the config {summary['config']}.")
    if flags := override_flags(summary):
        lines.append(f"Evaluated with {flags}.")
    if "prior" in summary:
        sentences = [find_metric(name).remark for name in summary["metrics"]]
        lines += [text.format(prior=summary["prior"]) for text in sentences if text]
    if bare := summary["frames_without_truth"]:
        listing = ", ".join(f"{video} {count}" for video, count in bare.items())
        lines.append(f"{sum(bare.values())} frames have no truth and are not scored: {listing}.")
    if not_scored := summary.get("not_scored"):
        of = summary["videos"] + len(not_scored)
        listing = "; ".join(f"{video} ({reason})" for video, reason in not_scored.items())
        lines.append(f"{len(not_scored)} of {of} videos are not scored: {listing}.")
    videos: dict[str, list[str]] = {}
    for video, notes in summary["notes"].items():
        for note in notes:
            videos.setdefault(note, []).append(video)
    return lines + [f"{_names(names)}: {note}." for note, names in videos.items()]


def _names(videos: Sequence[str]) -> str:
    """Returns the names of a few videos, the number of many."""
    return ", ".join(videos) if len(videos) <= _MAX_NAMES else f"{len(videos)} videos"


def _page(output, parts, metrics, summary) -> str:
    rows = [
        (name, f"{_cell(value['mean'])} ({value['dropped']} frames without a value)")
        for name, value in summary["metrics"].items()
    ]
    ranked = sorted(parts, key=lambda part: _rank(video_means(part, metrics)[metrics[0]], metrics[0]))
    sections = [Section("Means", Table(rows), f"Protocol {summary['protocol']}; see the documentation.")]
    if lines := remarks(summary):
        table = Table([(str(number), line) for number, line in enumerate(lines, 1)])
        sections.append(Section("Not in the numbers, or unusual", table))
    for title, extreme, ranking in (
        (f"Best frames by {metrics[0]}", "best", ranked[:_LISTED_VIDEOS]),
        (f"Worst frames by {metrics[0]}", "worst", ranked[::-1][:_LISTED_VIDEOS]),
    ):
        pictures = [picture for part in ranking for picture in _triple(output, part, extreme)]
        if pictures:
            sections.append(Section(title, Pictures(pictures), "Frame, truth, prediction."))
    for part in ranked:
        values = np.array(column(part, 0))
        good = ~np.isnan(values)
        if good.any():
            times = np.array([row[0] for row in part["rows"]])[good] / part["fps"]
            sections.append(Section(part["label"], Curves([("", times, values[good])], metrics[0])))
    lead = f"{summary['videos']} videos, {summary['frames']} frames of {summary['dataset']}."
    return render_page(f"{summary['method']} on {summary['dataset']}", lead, sections)


def _triple(output: pathlib.Path, part: dict, extreme: str):
    """Yields (caption, picture) of a frame, its truth and its prediction, if they were saved."""
    frame = part["extremes"].get(extreme)
    stem = output / "extremes" / part["key"] / f"{frame or 0:06d}"
    for ending, content in (("_frame.jpg", "frame"), ("_truth.png", "truth"), (".png", "prediction")):
        path = pathlib.Path(f"{stem}{ending}")
        if path.is_file():
            with Image.open(path) as image:
                small = image.convert("RGB")
                small.thumbnail((360, 360))
                yield f"{part['label']}, frame {frame}: {content}", np.asarray(small)


def _write_csv(path: pathlib.Path, header, rows) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if value is None else value for value in row])
    write_text(path, text.getvalue())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rank(value: float, metric: str) -> float:
    """Returns a sort key: the best value first, NaN last."""
    if math.isnan(value):
        return math.inf
    return -find_metric(metric).goodness(value)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
