"""The report of a run: curves, pictures of predictions next to the truth, and the page that shows both."""

from __future__ import annotations

import contextlib
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from avsal_jax.errors import AvsalError
from avsal_jax.files import write_bytes, write_text
from avsal_jax.pages import Grid, Pictures, Section, Table, render_page
from avsal_jax.pictures import resize_map, shrink, to_grey
from avsal_jax.training.records.overview import Overview
from avsal_jax.training.records.progress import short

_CELL_PIXELS, _GAP_PIXELS = 320, 4  # largest width of a picture, and the gap between pictures


def prediction_picture(frames: np.ndarray, truths: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Returns rows of frame | truth | map on white.

    Args:
      frames: RGB uint8 [N, H, W, 3].
      truths: [N, h, w], any range; stretched to black..white, as the maps are.
      maps: [N, h', w'].

    Returns:
      RGB uint8 [N (H' + 4) - 4, 3 W' + 8, 3]; H', W' are the frames' size, at most 320 wide.
    """
    rows = []
    for frame, truth, saliency in zip(frames, truths, maps, strict=True):
        cell = shrink(frame, _CELL_PIXELS)
        greys = [to_grey(resize_map(image, *cell.shape[:2])) for image in (truth, saliency)]
        rows.append([cell, *(np.repeat(grey[..., None], 3, -1) for grey in greys)])
    height, width = rows[0][0].shape[:2]
    shape = (len(rows) * (height + _GAP_PIXELS) - _GAP_PIXELS, 3 * (width + _GAP_PIXELS) - _GAP_PIXELS, 3)
    picture = np.full(shape, 255, np.uint8)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            top, left = i * (height + _GAP_PIXELS), j * (width + _GAP_PIXELS)
            picture[top : top + height, left : left + width] = cell
    return picture


def write_picture(path, picture: np.ndarray) -> None:
    """Writes RGB uint8 [H, W, 3] as a PNG; creates its folder if it is missing.

    Raises:
      AvsalError: the file cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")

    def write(path):
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, buffer.getvalue())

    _write(path, write)


def read_pictures(folder, limit: int) -> list[tuple[int, np.ndarray]]:
    """Returns (step, RGB uint8 [H, W, 3]) of at most `limit` pictures that are named by their steps.

    They are evenly spaced and include the last one. Files that cannot be read are skipped.
    """
    paths = sorted(path for path in pathlib.Path(folder).glob("*.png") if path.stem.isdecimal())
    if len(paths) > limit:
        paths = [paths[round(i * (len(paths) - 1) / (limit - 1))] for i in range(limit)]
    pictures = []
    for path in paths:
        with contextlib.suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            pictures.append((int(path.stem), np.asarray(Image.open(path).convert("RGB"))))
    return pictures


def write_curves(path, records: Sequence[dict]) -> bytes:
    """Writes a PNG of the training loss, validation metrics, learning rate and waiting over steps.

    Args:
      path: the file.
      records: of `metrics_log.read_metrics`.

    Returns:
      The content of the file.

    Raises:
      AvsalError: the file cannot be written.
    """
    png = _curves_png(records)
    _write(path, lambda file: write_bytes(file, png))
    return png


def _curves_png(records: Sequence[dict]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import; no pyplot, no global state
    from matplotlib.figure import Figure

    panels = {
        "loss": [name for name in _names(records) if name == "loss" or name.startswith("loss/")],
        "validation": [name for name in _names(records) if name.startswith("val/")],
        "learning rate": ["lr"],
        "share of time waiting for data": ["waiting"],
    }
    figure = Figure(figsize=(10, 6))
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.08, top=0.95, wspace=0.18, hspace=0.32)
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        lines = {name: line for name in names if (line := _line(records, name))[0]}
        for name, (steps, values) in lines.items():
            axes.plot(steps, values, marker="." if len(steps) < 50 else "", label=name.removeprefix("val/"))
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _names(records: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _line(records: Sequence[dict], name: str) -> tuple[list[int], list[float]]:
    points = [(r["step"], r[name]) for r in records if isinstance(r.get(name), int | float)]
    return [step for step, _ in points], [float(value) for _, value in points]


def write_report(
    path,
    title: str,
    settings: dict,
    records: Sequence[dict],
    parameters: Overview,
    curves: bytes,
    pictures: Sequence[tuple[int, np.ndarray]] = (),
    best: tuple[str, float, int] | None = None,
    restarts: Sequence[int] = (),
    notes: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes the report page of a run: one self-contained HTML file.

    Args:
      path: the file.
      title: its heading.
      settings: the configuration, nested dictionaries of values.
      records: of `metrics_log.read_metrics`.
      parameters: of the network.
      curves: the PNG that `write_curves` returns.
      pictures: (step, RGB uint8) of `prediction_picture`, in order.
      best: metric, value and step of the best checkpoint.
      restarts: steps from which the run was resumed.
      notes: further rows (name, text) about the run, such as the device or the data.

    Raises:
      AvsalError: the file cannot be written.
    """
    picture = np.asarray(Image.open(io.BytesIO(curves)).convert("RGB"))
    sections = [Section("Curves", Pictures([("by step", picture)], 1))]
    if pictures:
        items = [(f"step {step}", picture) for step, picture in pictures]
        sections.append(Section("Predictions", Pictures(items), "Each row: frame, truth, map."))
    flops = f"A forward pass takes {parameters.work}." if parameters.work else ""
    columns = ("module", "arrays", "parameters", "share")
    sections += [
        Section("This run", Table(_run_rows(records, best=best, restarts=restarts, notes=notes))),
        Section("Parameters", Grid(columns, parameters.table()), flops),
        Section("Settings", Table([(name, str(value)) for name, value in _flat(settings)])),
    ]
    last = max((record["step"] for record in records), default=0)
    text = (
        f"{last} steps." if best is None else f"{last} steps; best {best[0]} {best[1]:.4g} at step {best[2]}."
    )
    _write(path, lambda file: write_text(file, render_page(title, text, sections)))


def _run_rows(records, best, restarts, notes) -> list[tuple[str, str]]:
    rows = [("best checkpoint", "none" if best is None else f"step {best[2]}: {best[0]} {best[1]:.4g}")]
    rows.append(("restarts", ", ".join(f"from step {step}" for step in restarts) or "none"))
    for name in _names(records):
        steps, values = _line(records, name) if name != "step" else ((), ())
        if steps:
            rows.append((f"last {name}", f"{short(values[-1])} at step {steps[-1]}"))
    return rows + list(notes)


def _flat(settings: dict, prefix: str = "") -> list[tuple[str, object]]:
    rows = []
    for name, value in settings.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


def _write(path, writer) -> None:
    path = pathlib.Path(path)
    try:
        writer(path)
    except OSError as error:
        raise AvsalError(f"cannot write {path}: {error.strerror}; choose another workdir") from error
