"""Batches of one size, so that one compiled program serves all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def chunks(frames: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yields arrays [n, ...] of consecutive frames; n is `size`, or less in the last one."""
    chunk = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)


def filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row up to `size` rows."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) if missing else rows
