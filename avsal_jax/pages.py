"""Renders text, tables, pictures and curves as one self-contained HTML page that works offline."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
from collections.abc import Collection, Sequence

import jinja2
import numpy as np
from PIL import Image

from avsal_jax.plots import Curves, Intervals


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
      strong: (row, column) of the cells in bold, from 0.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: Collection[tuple[int, int]] = ()


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with captions: (caption, RGB or grey uint8 array).

    The number of columns depends on the width of the page unless `columns` is set.
    """

    items: Sequence[tuple[str, np.ndarray]]
    columns: int | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, an optional sentence, and the content below it."""

    title: str
    content: Table | Grid | Intervals | Pictures | Curves
    text: str = ""


def render_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Returns a self-contained HTML page. All text is escaped."""
    return _template().render(title=title, lead=lead, sections=[_variables(section) for section in sections])


def _variables(section: Section) -> dict:
    """Returns the variables of the template for a section."""
    content, variables = section.content, {"title": section.title, "text": section.text}
    if isinstance(content, Table):
        variables["rows"] = content.rows
    elif isinstance(content, Grid):
        variables["grid"] = content
    elif isinstance(content, Intervals):
        rows = zip(content.items, content.png(), strict=True)
        variables["intervals"] = [(item[0], item[-1], _data_uri(png, "png")) for item, png in rows]
    elif isinstance(content, Pictures):
        variables["columns"] = content.columns
        variables["pictures"] = [
            (caption, _data_uri(_jpeg(image), "jpeg"), *image.shape[1::-1])
            for caption, image in content.items
        ]
    else:
        legend = [(name, colour) for (name, *_), colour in zip(content.lines, content.colours, strict=True)]
        variables["plot"] = _data_uri(content.png(), "png")
        variables["caption"] = content.caption
        variables["legend"] = legend if len(legend) > 1 else []
    return variables


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


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
figcaption, .legend { font-size: .85rem; opacity: .75; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
th { font-weight: 500; width: 30%; }
.plot, .interval { background: #8881; }
.interval { height: 1.25rem; object-fit: fill; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; }
.wide { overflow-x: auto; }
.grid th, .grid td { width: auto; white-space: nowrap; }
.grid thead th { opacity: .75; }
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
<table class="intervals">{% for label, text, source in section.intervals %}
<tr><th>{{ label }}</th><td><img class="interval" src="{{ source }}" alt="{{ text }}"></td>
<td>{{ text }}</td></tr>{% endfor %}
</table>
{% else %}
<figure><img class="plot" src="{{ section.plot }}" alt="{{ section.caption }}">
<figcaption>{{ section.caption }}</figcaption></figure>
{% if section.legend %}<div class="legend">
{% for name, colour in section.legend %}<span style="color: {{ colour }}">{{ name }}</span>
{% endfor %}</div>{% endif %}
{% endif %}
{% endfor %}
</body>
</html>
"""
