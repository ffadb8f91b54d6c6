"""The files of a comparison, and its page: tables, intervals, pictures side by side, metrics over time."""

from __future__ import annotations

import glob
import json
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from avsal_jax.errors import AvsalError, damage_reason
from avsal_jax.evaluation.compare import SIX_SET_MEAN, Comparison
from avsal_jax.evaluation.compare_tables import (
    csv_text,
    differences_text,
    grids,
    interval_text,
    json_text,
    markdown,
    missing_lines,
    title,
)
from avsal_jax.evaluation.results import Result, read_frames
from avsal_jax.files import write_text
from avsal_jax.pages import Pictures, Section, Table, render_page
from avsal_jax.pictures import mark_fixations, shrink
from avsal_jax.plots import Curves, Intervals

_MOST_PICTURES, _MOST_CURVES = 8, 8  # rows of pictures, and videos over time, for each set
_WIDTH, _MOST_PIXELS, _MOST_BYTES = 320, 50_000_000, 10_000_000


def write_comparison(comparison: Comparison, results: Sequence[Result], output) -> pathlib.Path:
    """Writes comparison.csv, .md, .json and report.html into a folder, each atomically.

    Raises:
      AvsalError: the folder cannot be written, or a picture or table of a result is damaged.
    """
    output = pathlib.Path(output)
    files = {
        "comparison.csv": csv_text(comparison),
        "comparison.md": markdown(comparison),
        "comparison.json": json_text(comparison),
        "report.html": page(comparison, results),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(output / name, text)
    except OSError as error:
        raise AvsalError(f"cannot write to {output}: {error.strerror}; choose another --output") from error
    return output


def page(comparison: Comparison, results: Sequence[Result]) -> str:
    """Returns the report as one HTML page."""
    sections = [Section(name, grid) for name, grid in grids(comparison)]
    sections += _intervals(comparison)
    measured = [r for r in results if r.folder is not None and not r.category]  # with all of a folder
    for key in dict.fromkeys((r.dataset, r.split) for r in measured):
        of_set = [r for r in measured if (r.dataset, r.split) == key]
        sections += _pictures(of_set) + _curves(of_set, comparison)
    sections.append(Section("Where the numbers come from", Table(_origins(comparison))))
    return render_page(f"Comparison of {', '.join(comparison.methods)}", _lead(comparison), sections)


def _lead(comparison: Comparison) -> str:
    sets = dict.fromkeys(s.dataset for s in comparison.scores if s.dataset != SIX_SET_MEAN)
    return " ".join(
        [f"{len(comparison.methods)} methods on {', '.join(sets) or 'six sets'}.", *missing_lines(comparison)]
    )


def _origins(comparison: Comparison) -> list[tuple[str, str]]:
    rows = [(f"{s.method} on {s.dataset}, {s.split}", s.origin) for s in comparison.scores]
    return rows + [("note", note) for note in comparison.notes]


def _intervals(comparison: Comparison) -> list[Section]:
    sections, text = [], differences_text(comparison) if comparison.differences else ""
    for metric in comparison.metrics:
        items = [
            (f"{d.method}, {d.dataset}", d.low, d.mean, d.high, f"{interval_text(d)}, {d.videos} videos")
            for d in comparison.differences
            if d.metric == metric
        ]
        if items:
            heading = f"Difference in {title(metric)} from {comparison.base}"
            sections.append(Section(heading, Intervals(items), text))
            text = ""
    return sections


def _curves(results: list[Result], comparison: Comparison) -> list[Section]:
    """Returns a metric over time, in videos of all methods in which these differ most."""
    shared = [m for m in comparison.metrics if all(m in r.per_video for r in results)]
    if not shared:
        return []
    metric = shared[0]
    curves, means = {}, {}
    for result in results:  # of a video in several folds, the first counts
        curves[result.method] = read_frames(result, metric) | curves.get(result.method, {})
        means[result.method] = result.per_video[metric] | means.get(result.method, {})
    common = set.intersection(*(set(videos) for videos in curves.values()))
    spread = {v: np.nan_to_num(np.ptp([mean.get(v, np.nan) for mean in means.values()])) for v in common}
    videos_shown = sorted(common, key=lambda video: (-spread[video], video))[:_MOST_CURVES]
    text = f"{len(videos_shown)} of {len(common)} videos are shown, those where the methods differ most."
    sections = []
    for video in videos_shown:
        lines = [(method, *videos[video]) for method, videos in curves.items()]
        heading = f"{title(metric)} over time: {video}, {results[0].dataset}"
        sections.append(Section(heading, Curves(lines, title(metric), "frame"), text))
        text = ""
        sections += _sound(results, video)
    return sections


def _sound(results: list[Result], video: str) -> list[Section]:
    """Returns the sound of a video over its frames if an evaluation saved it; folds are named `2-video`."""
    name = glob.escape(video)
    patterns = (f"examples/{name}/sound.json", f"examples/[0-9]*-{name}/sound.json")
    for file in (f for r in results for pattern in patterns for f in sorted(r.folder.glob(pattern))):
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too long")
            content = json.loads(file.read_text(encoding="utf-8"))
            frames, peaks = (_numbers(content, field, (-1,)) for field in ("frames", "peaks"))
            if len(frames) != len(peaks) or not len(frames):
                raise ValueError("its lists do not match")
        except (OSError, ValueError, RecursionError) as error:
            raise AvsalError(f"{file} is damaged: {damage_reason(error)}; evaluate again") from error
        curves = Curves([("sound", frames, peaks)], "largest amplitude", "frame")
        return [Section(f"Sound: {video}", curves)]
    return []


def _pictures(results: list[Result]) -> list[Section]:
    """Frames of a set: fixations, truth, and the map of each method; only those that all methods have."""
    by_method: dict[str, dict[tuple[str, str], pathlib.Path]] = {}
    for result in results:
        paths = by_method.setdefault(result.method, {})
        for key, path in _examples(result.folder).items():
            paths.setdefault(key, path)
    common = set.intersection(*map(set, by_method.values()))
    if not common:
        return []
    turn = {}  # the first frame of every video, then the second...
    for video, frame in sorted(common):
        turn[video, frame] = sum(v == video for v, _ in turn)
    keys = sorted(sorted(common, key=lambda key: (turn[key], key))[:_MOST_PICTURES])
    items = []
    for key in keys:
        caption = f"{key[0]}, frame {int(key[1])}"
        first = next(iter(by_method.values()))[key]
        items += [(caption, _frame(first)), ("truth", _load(_companion(first, "_truth.png"), "L"))]
        items += [(method, _load(paths[key], "L")) for method, paths in by_method.items()]
    text = f"Frames with fixations, truth and maps: {len(keys)} of the {len(common)} that all methods saved."
    return [Section(f"Maps on {results[0].dataset}", Pictures(items, 2 + len(by_method)), text)]


def _examples(folder: pathlib.Path) -> dict[tuple[str, str], pathlib.Path]:
    """Returns (video, number) -> map, for the frames that also have a picture and truth."""
    return {
        (path.parent.name, path.stem): path
        for path in sorted(folder.glob("examples/*/*.png"))
        if path.stem.isdecimal()
        and _companion(path, "_frame.jpg").is_file()
        and _companion(path, "_truth.png").is_file()
    }


def _companion(path: pathlib.Path, ending: str) -> pathlib.Path:
    return path.with_name(path.stem + ending)


def _frame(example: pathlib.Path) -> np.ndarray:
    frame = _load(_companion(example, "_frame.jpg"), "RGB")
    file = _companion(example, "_fixations.json")
    if not file.is_file():
        return frame
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too long")
        content = json.loads(file.read_text(encoding="utf-8"))
        size = _numbers(content, "size", (2,))
        if not (size > 0).all():
            raise ValueError(f"its size is {size.tolist()}")
        points = (_numbers(content, "fixations", (-1, 2)) + 0.5) / size
    except (OSError, ValueError, RecursionError) as error:
        raise AvsalError(f"{file} is damaged: {damage_reason(error)}; evaluate again") from error
    return mark_fixations(frame, points[((points >= 0) & (points <= 1)).all(1)])


def _numbers(content, field: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a field of JSON as finite float64 of a shape; raises ValueError if it is not."""
    try:
        numbers = np.array(content[field], float).reshape(shape)
    except (TypeError, LookupError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{field} is not an array of finite numbers of the expected shape")
    return numbers


def _load(path: pathlib.Path, mode: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise ValueError(f"it has {image.width}x{image.height} pixels")
                return shrink(np.asarray(image.convert(mode)), _WIDTH)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise AvsalError(f"{path} is damaged: {error}; evaluate again") from error
