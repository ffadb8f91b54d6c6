"""Plots of pages, drawn by matplotlib: curves, and intervals around zero."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

COLOURS = ("#c33", "#36c", "#282", "#b70", "#83b", "#088", "#c4a", "#666")
_GREY = "#808080"  # of axes and grid: readable on white and on black
_CURVES_INCHES, _CURVES_DPI = (7.0, 1.6), 200
_BAR_PIXELS = (1200, 40)  # of an interval; a page shows it 20 pixels high
_MARKED_POINTS = 50  # curves with fewer points mark each of them


@dataclasses.dataclass(frozen=True)
class Curves:
    """Several curves in one plot. The page names them in `colours`, since fonts of plots lack many scripts.

    Attributes:
      lines: (name, places along the plot, rising; values, NaN for a gap).
      label: what the values are, with the unit.
      unit: what the places are: `s`, or a word that is written before the number, such as `frame`.
    """

    lines: Sequence[tuple[str, np.ndarray, np.ndarray]]
    label: str
    unit: str = "s"

    @property
    def colours(self) -> list[str]:
        """The colour of each line."""
        return [COLOURS[number % len(COLOURS)] for number in range(len(self.lines))]

    @property
    def caption(self) -> str:
        """The label, and the ranges of values and places."""
        values, places = (np.concatenate([line[axis] for line in self.lines]) for axis in (2, 1))
        values = values[np.isfinite(values)]
        low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
        start, end = (self._place(place) for place in (places.min(), places.max()))
        return f"{self.label}: {low:.3g} to {high:.3g}; {start} to {end}"

    def _place(self, place: float) -> str:
        return f"{place:.1f} s" if self.unit == "s" else f"{self.unit} {place:g}"

    def png(self) -> bytes:
        """Returns the plot as a PNG with a transparent background."""
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=_CURVES_INCHES, dpi=_CURVES_DPI)
        axes = figure.add_axes((0.075, 0.13, 0.915, 0.76))  # a layout engine takes three times as long
        for (_, places, values), colour in zip(self.lines, self.colours, strict=True):
            marker = "." if len(values) < _MARKED_POINTS else ""
            axes.plot(places, _finite(values), color=colour, linewidth=1.2, marker=marker, markersize=4)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=self.unit != "s"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.tick_params(colors=_GREY, labelsize=8)
        axes.yaxis.offsetText.set_fontsize(8)
        axes.spines[:].set_visible(False)
        axes.grid(color=_GREY, alpha=0.3)
        with matplotlib.rc_context({"agg.path.chunksize": 20_000}):  # else hours of noise overflow Agg
            return _png_of(figure)


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals on one scale around zero: (label, low, middle, high, text that is shown with it)."""

    items: Sequence[tuple[str, float, float, float, str]]

    def png(self) -> list[bytes]:
        """Returns a PNG for each interval, with a line at zero; an interval needs two finite ends."""
        from matplotlib.figure import Figure

        ends = _finite([item[1:4] for item in self.items])
        finite = np.append(ends[np.isfinite(ends)], 0.0)
        width, height = _BAR_PIXELS
        figure = Figure(figsize=(width / 100, height * len(ends) / 100), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1), ylim=(len(ends) - 0.5, -0.5))
        axes.set_axis_off()
        margin = ((finite.max() - finite.min()) or 1.0) / 58
        axes.set_xlim(finite.min() - margin, finite.max() + margin)
        axes.axvline(0, color=_GREY, linewidth=2)
        rows, (low, middle, high) = np.arange(len(ends)), ends.T
        axes.hlines(rows, low, high, color=COLOURS[0], linewidth=2)
        axes.vlines(middle, rows - 0.3, rows + 0.3, color=COLOURS[0], linewidth=4)
        picture = Image.open(io.BytesIO(_png_of(figure)))
        return [_encoded(picture.crop((0, row * height, width, (row + 1) * height))) for row in rows]


def _finite(values) -> np.ndarray:
    """Returns float64 values, with NaN for infinity."""
    values = np.asarray(values, float)
    return np.where(np.isfinite(values), values, np.nan)


def _png_of(figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True, metadata={"Software": None})
    return buffer.getvalue()


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
