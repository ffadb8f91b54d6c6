"""One self-contained HTML page out of text, tables, pictures and curves; works offline."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence

import jinja2
import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    rows: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with captions, side by side as the width allows: (caption, RGB or grey uint8 array)."""

    items: Sequence[tuple[str, np.ndarray]]


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
class Section:
    """A heading, a sentence, and what it is about."""

    title: str
    content: Table | Pictures | Curve
    text: str = ""


def render_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Returns an HTML page that needs nothing but itself. All text is escaped."""
    return _template().render(title=title, lead=lead, sections=[_shown(section) for section in sections])


def _shown(section: Section) -> dict:
    content, shown = section.content, {"title": section.title, "text": section.text}
    if isinstance(content, Table):
        shown["rows"] = content.rows
    elif isinstance(content, Pictures):
        shown["pictures"] = [
            (caption, _data_uri(image), *image.shape[1::-1]) for caption, image in content.items
        ]
    else:
        shown["curve"] = _curve(content)
    return shown


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _curve(curve: Curve, points: int = 600) -> dict:
    """Path and labels of a curve in a box of 600 x 120; long ones show each stretch's extremes."""
    times, values = np.asarray(curve.times, float), np.asarray(curve.values, float)
    if len(values) > points:
        edges = np.linspace(0, len(values), points // 2 + 1).astype(int)[:-1]
        low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
        times, values = np.repeat(times[edges], 2), np.stack([low, high], 1).ravel()
    bottom, top = float(values.min()), float(values.max())
    span = (top - bottom) or 1.0
    length = (times[-1] - times[0]) or 1.0
    x, y = 600 * (times - times[0]) / length, 115 - 110 * (values - bottom) / span
    if len(x) == 1:
        x, y = np.array([0.0, 600.0]), np.repeat(y, 2)
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return {"path": path, "label": curve.label, "low": f"{bottom:.3g}", "high": f"{top:.3g}",
            "start": f"{times[0]:.1f} s", "end": f"{times[-1]:.1f} s"}  # fmt: skip


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
img { width: 100%; height: auto; border-radius: 4px; display: block; }
figcaption, .axis { font-size: .85rem; opacity: .75; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
th { font-weight: 500; width: 30%; }
svg { width: 100%; height: 8rem; background: #8881; border-radius: 4px; }
path { fill: none; stroke: #c33; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.axis { display: flex; justify-content: space-between; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ lead }}</p>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.pictures is defined %}
<div class="pictures">
{% for caption, source, width, height in section.pictures %}
<figure><img src="{{ source }}" width="{{ width }}" height="{{ height }}" alt="{{ caption }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>
{% elif section.rows is defined %}
<table>{% for name, value in section.rows %}
<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% else %}
<svg viewBox="0 0 600 120" preserveAspectRatio="none" role="img" aria-label="{{ section.curve.label }}">
<path d="{{ section.curve.path }}"/></svg>
<div class="axis"><span>{{ section.curve.start }}</span>
<span>{{ section.curve.label }}: {{ section.curve.low }} to {{ section.curve.high }}</span>
<span>{{ section.curve.end }}</span></div>
{% endif %}
{% endfor %}
</body>
</html>
"""
