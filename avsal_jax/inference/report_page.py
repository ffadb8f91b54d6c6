"""The report page of a prediction: what was collected while the maps went by, then one HTML file."""

from __future__ import annotations

import array
import pathlib
from collections.abc import Callable, Collection

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.pages import Pictures, Section, Table, render_page
from avsal_jax.pictures import overlay, resize_map, shrink, to_grey
from avsal_jax.plots import Curves

_MOST_FRAMES, _WIDTH = 12, 480
_RED = "Red is where the model expects people to look."  # a model may say otherwise of itself


class ReportCollector:
    """Keeps what the report shows, in memory that does not grow with the video but for a number a frame."""

    def __init__(self):
        self._times, self._strength = array.array("d"), array.array("d")
        self._mean, self._examples, self._every = None, {}, 1

    def add(self, time: float, image: np.ndarray, saliency: np.ndarray) -> None:
        """Takes note of a frame: seconds, RGB uint8 [h, w, 3], map float32 [H, W] at model size."""
        index = len(self._times)
        self._times.append(time)
        self._strength.append(float(saliency.mean()))
        self._mean = saliency.astype(np.float64) if self._mean is None else self._mean + saliency
        if index % self._every == 0:
            self._examples[index] = (time, shrink(image, _WIDTH), saliency)
            if len(self._examples) > _MOST_FRAMES:  # thin out evenly; the number of frames is not known
                self._every *= 2
                self._examples = {i: e for i, e in self._examples.items() if i % self._every == 0}

    def write(self, path: pathlib.Path, summary: dict, card: dict, envelope: Callable | None) -> None:
        """Writes the page: examples, the mean map, strength over time, the sound, the model, the timing."""
        times = np.array(self._times)
        pairs = []
        for index, (time, image, saliency) in self._examples.items():
            grey = to_grey(resize_map(saliency, *image.shape[:2]))
            where = f"frame {index * summary['settings']['frame_step'] + 1}, {time:.2f} s"
            pairs += [(where, image), (f"{where}: map", overlay(image, grey))]
        last = next(reversed(self._examples.values()))[1]
        mean = to_grey(resize_map((self._mean / len(times)).astype(np.float32), *last.shape[:2]))
        sections = [
            Section("Frames and their maps", Pictures(pairs), summary["note"] or _RED),
            Section(
                "Mean map", Pictures([("mean of all maps, over one of the frames", overlay(last, mean))])
            ),
            Section(
                "Strength of the map over time",
                Curves([("", times, np.array(self._strength))], "mean of the map"),
                "Low where the model finds little that stands out; jumps often mark cuts.",
            ),
            *_sound(envelope),
            Section("Model", Table(_card_rows(card))),
            Section("This run", Table(_run_rows(summary))),
            *_notes(summary),
        ]
        page = render_page(f"Saliency of {summary['source']}", _lead(summary), sections)
        path.write_text(page, encoding="utf-8")


def _sound(envelope: Callable | None) -> list[Section]:
    if envelope is None:
        return []
    try:
        times, peaks = envelope()
    except AvsalError:  # a stream that holds nothing: the overlay says no more than the page
        return []
    return [Section("Sound", Curves([("", times, peaks)], "largest amplitude"))] if len(peaks) else []


def write_stills_report(
    path: pathlib.Path, rows: list[tuple[str, np.ndarray, np.ndarray]], summary: dict, card: dict
) -> None:
    """Writes the page of photographs: picture, map and overlay side by side.

    Args:
      rows: (file name, picture RGB uint8 [h, w, 3], map uint8 [h, w]) of those that are shown.
      summary: of the run; `maps` is the number of photographs.
      card: of the model.
    """
    items = []
    for name, image, grey in rows:
        items += [(name, image), ("map", grey), ("overlay", overlay(image, grey))]
    count, text = summary["maps"], summary["note"] or _RED
    if len(rows) < count:
        text += f" The first {len(rows)} of {count:,} photographs are shown."
    title = "Photographs and their maps" if "width" not in summary else "The photograph and its map"
    sections = [Section(title, Pictures(items, 3), text)] if items else []
    if failed := list(summary["failed"].items()):
        sections.append(Section("Not predicted", Table(failed)))
    sections += [
        Section("Model", Table(_card_rows(card))),
        Section("This run", Table(_run_rows(summary, ("fps", "frame_step", "stream", "audio")))),
        *_notes(summary),
    ]
    lead = f"{count:,} photograph{'s' if count != 1 else ''}, each with a map."
    if "width" in summary:
        lead = f"A photograph of {summary['width']}x{summary['height']}, and its map."
    path.write_text(render_page(f"Saliency of {summary['source']}", lead, sections), encoding="utf-8")


def _lead(summary: dict) -> str:
    return (
        f"{summary['frames']} frames of {summary['width']}x{summary['height']} at {summary['rate']:.4g} "
        f"frames a second, {summary['maps']} maps."
    )


def _notes(summary: dict) -> list[Section]:
    rows = [(str(number), line) for number, line in enumerate(summary["notes"], 1)]
    return [Section("Notes", Table(rows), "What was unusual about the input.")] if rows else []


def _card_rows(card: dict) -> list[tuple[str, str]]:
    rows = _model_rows(card.get("model") or {})
    rows += [(k.replace("_", " "), str(v)) for k, v in (card.get("provenance") or {}).items()]
    return rows


def _model_rows(model: dict, path: str = "") -> list[tuple[str, str]]:
    """A row for each part and each value of the input; empty slots are left out."""
    rows = []
    for key, value in model.items():
        if isinstance(value, dict) and "name" in value:
            fields = ", ".join(f"{name}={field}" for name, field in value.items() if name != "name")
            rows.append((f"{path}{key}".replace("_", " "), f"{value['name']} {fields}".strip()))
        elif isinstance(value, dict):
            rows += _model_rows(value, f"{path}{key} ")
        elif value is not None:
            rows.append((f"{path}{key}".replace("_", " "), str(value)))
    return rows


def _run_rows(summary: dict, hidden: Collection[str] = ()) -> list[tuple[str, str]]:
    return [
        ("compiling", f"{summary['compile_seconds']:.1f} s"),
        ("maps", f"{summary['seconds']:.1f} s, {summary['maps_per_second']:.2f} a second"),
        ("device", summary["device"]),
        *([("damaged packets or frames", str(summary["damaged"]))] if "damaged" in summary else []),
        *(
            (key.replace("_", " "), str(value))
            for key, value in summary["settings"].items()
            if key not in ("features", *hidden)
        ),
        ("avsal_jax", summary["version"]),
    ]
