"""Grids of heat maps with captions, one block for each sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from avsal_jax.inference.feature_views import Maps
from avsal_jax.pictures import false_colour

_CELL, _GAP, _LINE, _LEFT, _WIDEST = 144, 6, 16, 118, 1400
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def draw(blocks: Sequence[tuple[str, Maps]], aspect: float) -> np.ndarray:
    """Returns RGB uint8 [h, w, 3]: the maps of each block under its heading, with captions and ranges.

    Rows that share a colour range share it across all blocks, so that blocks are comparable. Blocks are
    placed side by side, or stacked if that would be too wide.

    Args:
      blocks: (heading, maps); all with the same captions.
      aspect: height over width of the picture.
    """
    ranges = _ranges([maps for _, maps in blocks])
    blocks_drawn = [
        _block(heading, maps=maps, ranges=ranges, cell_height=max(8, round(_CELL * aspect)))
        for heading, maps in blocks
    ]
    fits_in_row = len(blocks_drawn) * blocks_drawn[0].shape[1] <= _WIDEST
    return np.concatenate(blocks_drawn, 1 if fits_in_row else 0)


def _ranges(blocks: Sequence[Maps]) -> list[tuple[float, float]]:
    """Returns (low, high) for each row, over all blocks."""
    rows = [
        np.concatenate([np.ravel(cell) for maps in blocks for cell in maps.rows[number][1]])
        for number in range(len(blocks[0].rows))
    ]
    if not blocks[0].by_row:
        rows = [np.concatenate(rows)] * len(rows)
    finite = [row[np.isfinite(row)] for row in rows]
    return [(float(row.min()), float(row.max())) if len(row) else (0.0, 0.0) for row in finite]


def _block(heading: str, maps: Maps, ranges, cell_height: int) -> np.ndarray:
    top = (2 if heading else 1) * _LINE + _GAP
    width = _LEFT + len(maps.columns) * (_CELL + _GAP) + _GAP
    image = Image.new("RGB", (width, top + len(maps.rows) * (max(cell_height, 3 * _LINE) + _GAP)), _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    if heading:
        pen.text((_GAP, 2), heading, _INK, ImageFont.load_default(14))
    for column, caption in enumerate(maps.columns):
        pen.text((_LEFT + column * (_CELL + _GAP), top - _LINE - 2), caption, _INK, font)
    for number, ((caption, cells), (low, high)) in enumerate(zip(maps.rows, ranges, strict=True)):
        y = top + number * (max(cell_height, 3 * _LINE) + _GAP)
        pen.text((_GAP, y), f"{caption}\n{low:.3g}\nto {high:.3g}", _INK, font)
        for column, values in enumerate(cells):
            cell = Image.fromarray(false_colour(values, low, high))
            grows = values.shape[1] < _CELL  # cells of a coarse map remain visible
            method = Image.Resampling.NEAREST if grows else Image.Resampling.BILINEAR
            image.paste(cell.resize((_CELL, cell_height), method), (_LEFT + column * (_CELL + _GAP), y))
    return np.asarray(image)
