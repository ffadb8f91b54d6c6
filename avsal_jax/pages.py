"""One self-contained HTML page out of text, tables, pictures and curves; works offline."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import itertools
from collections.abc import Collection, Sequence

import jinja2
import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    rows: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table with a heading for each column; the first column names the row.

    Attributes:
      columns: headings.
      rows: texts, one for each column.
      strong: (row, column) of cells to set off, from 0.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: Collection[tuple[int, int]] = ()


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals on one scale around zero: (label, low, middle, high, what stands beside it)."""

    items: Sequence[tuple[str, float, float, float, str]]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with captions: (caption, RGB or grey uint8 array).

    They stand side by side as the width allows, or in `columns` columns.
    """

    items: Sequence[tuple[str, np.ndarray]]
    columns: int | None = None


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve over time.

    Attributes:
      times: seconds, rising.
      values: one for each time.
      label: what they are, with the unit.
    """

    times: np.ndarray
    values: np.ndarray
    label: str


@dataclasses.dataclass(frozen=True)
class Curves:
    """Several curves in one box.

    Attributes:
      lines: (name, places along the box, rising; values, NaN where there is none).
      label: what the values are.
      unit: what the places are: `s`, or a word that stands before the number, such as `frame`.
    """

    lines: Sequence[tuple[str, np.ndarray, np.ndarray]]
    label: str
    unit: str = "s"


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, a sentence, and what it is about."""

    title: str
    content: Table | Grid | Intervals | Pictures | Curve | Curves
    text: str = ""


def render_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Returns an HTML page that needs nothing but itself. All text is escaped."""
    return _template().render(title=title, lead=lead, sections=[_shown(section) for section in sections])


def _shown(section: Section) -> dict:
    content, shown = section.content, {"title": section.title, "text": section.text}
    if isinstance(content, Table):
        shown["rows"] = content.rows
    elif isinstance(content, Grid):
        shown["grid"] = content
    elif isinstance(content, Intervals):
        shown["intervals"] = _intervals(content)
    elif isinstance(content, Pictures):
        shown["columns"] = content.columns
        shown["pictures"] = [
            (caption, _data_uri(image), *image.shape[1::-1]) for caption, image in content.items
        ]
    elif isinstance(content, Curve):
        shown["curve"] = _curves(Curves([("", content.times, content.values)], content.label))
    else:
        shown["curve"] = _curves(content)
    return shown


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _intervals(intervals: Intervals) -> list[tuple]:
    """Places of low, middle, high and zero in a box 600 wide, for every interval that has ends."""
    ends = np.array([item[1:4] for item in intervals.items], float)
    finite = np.append(ends[np.isfinite(ends)], 0.0)
    bottom, span = finite.min(), (finite.max() - finite.min()) or 1.0

    def place(value):
        return f"{10 + 580 * (value - bottom) / span:.1f}"

    return [
        (label, text, place(0.0), *((place(v) if np.isfinite(v) else "") for v in (low, middle, high)))
        for label, low, middle, high, text in intervals.items
    ]


def _curves(curves: Curves) -> dict:
    """Paths and labels of curves in a box of 600 x 120."""
    lines = [(name, *_thinned(np.asarray(x, float), np.asarray(y, float))) for name, x, y in curves.lines]
    values = np.concatenate([y[np.isfinite(y)] for _, _, y in lines])
    bottom, top = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    start, end = min(float(x[0]) for _, x, _ in curves.lines), max(float(x[-1]) for _, x, _ in curves.lines)
    span, length = (top - bottom) or 1.0, (end - start) or 1.0
    paths = []
    for (name, x, y), colour in zip(lines, itertools.cycle(_COLOURS)):
        across, down = 600 * (x - start) / length, 115 - 110 * (y - bottom) / span
        if len(across) == 1:
            across, down = np.array([0.0, 600.0]), np.repeat(down, 2)
        paths.append((name, _path(across, down), colour))
    shown = (lambda v: f"{v:.1f} s") if curves.unit == "s" else (lambda v: f"{curves.unit} {v:g}")
    return {"paths": paths, "label": curves.label, "low": f"{bottom:.3g}", "high": f"{top:.3g}",
            "start": shown(start), "end": shown(end)}  # fmt: skip


def _thinned(x: np.ndarray, y: np.ndarray, points: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Long curves show each stretch's extremes."""
    if len(y) <= points:
        return x, y
    edges = np.linspace(0, len(y), points // 2 + 1).astype(int)[:-1]
    low, high = np.fmin.reduceat(y, edges), np.fmax.reduceat(y, edges)
    return np.repeat(x[edges], 2), np.stack([low, high], 1).ravel()


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """An SVG path that leaves out what is not a number."""
    pieces, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if np.isnan(b):
            pen = "M"
            continue
        pieces.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L"
    return "".join(pieces)


_COLOURS = ("#c33", "#36c", "#282", "#b70", "#83b", "#088", "#c4a", "#666")


@functools.cache
def _template() -> jinja2.Template:
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 .75rem; }
.pictures { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
figure { margin: 0; }
img { width: 100%; height: auto; max-height: 80vh; object-fit: contain; border-radius: 4px; display: block; }
figcaption, .axis { font-size: .85rem; opacity: .75; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
th { font-weight: 500; width: 30%; }
svg { width: 100%; height: 8rem; background: #8881; border-radius: 4px; }
path { fill: none; stroke: #c33; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.axis { display: flex; justify-content: space-between; }
.wide { overflow-x: auto; }
.grid th, .grid td { width: auto; white-space: nowrap; }
.grid thead th { opacity: .75; }
.intervals svg { height: 1.25rem; }
.intervals td:last-child { width: 30%; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ lead }}</p>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.pictures is defined %}
<div class="pictures"{% if section.columns %} style="grid-template-columns: repeat({{ section.columns }},
 minmax(0, 1fr))"{% endif %}>
{% for caption, source, width, height in section.pictures %}
<figure><img src="{{ source }}" width="{{ width }}" height="{{ height }}" alt="{{ caption }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>
{% elif section.rows is defined %}
<table>{% for name, value in section.rows %}
<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% elif section.grid is defined %}
<div class="wide"><table class="grid">
<thead><tr>{% for name in section.grid.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
{% for row in section.grid.rows %}{% set number = loop.index0 %}
<tr>{% for cell in row %}<td>{% if (number, loop.index0) in section.grid.strong %}<b>{{ cell }}</b>
{%- else %}{{ cell }}{% endif %}</td>{% endfor %}</tr>{% endfor %}
</table></div>
{% elif section.intervals is defined %}
<table class="intervals">{% for label, text, zero, low, middle, high in section.intervals %}
<tr><th>{{ label }}</th><td><svg viewBox="0 0 600 20" preserveAspectRatio="none" role="img"
 aria-label="{{ text }}"><path style="stroke: #888" d="M{{ zero }} 0V20"/>
{%- if low and high %}<path d="M{{ low }} 10H{{ high }}"/>{% endif %}
{%- if middle %}<path style="stroke-width: 3" d="M{{ middle }} 4V16"/>{% endif %}</svg></td>
<td>{{ text }}</td></tr>{% endfor %}
</table>
{% else %}
<svg viewBox="0 0 600 120" preserveAspectRatio="none" role="img" aria-label="{{ section.curve.label }}">
{% for name, path, colour in section.curve.paths %}<path style="stroke: {{ colour }}" d="{{ path }}"/>
{% endfor %}</svg>
<div class="axis"><span>{{ section.curve.start }}</span>
<span>{{ section.curve.label }}: {{ section.curve.low }} to {{ section.curve.high }}</span>
<span>{{ section.curve.end }}</span></div>
{% if section.curve.paths | length > 1 %}<div class="axis">
{% for name, path, colour in section.curve.paths %}<span style="color: {{ colour }}">{{ name }}</span>
{% endfor %}</div>{% endif %}
{% endif %}
{% endfor %}
</body>
</html>
"""
