"""The mean over time of the maps of a video."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator

import numpy as np


def smoothed(
    maps: Iterable[tuple[int, np.ndarray]], radius: int, selection: Collection[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, mean of the maps of all frames at most `radius` away), float32 [H, W].

    Args:
      maps: by rising index; must include all maps of the means.
      radius: frames.
      selection: indices of the means to yield; None for all.
    """
    recent, waiting = collections.deque(), collections.deque()

    def mean():
        centre = waiting.popleft()
        while recent[0][0] < centre - radius:
            recent.popleft()
        near = [saliency for index, saliency in recent if index <= centre + radius]
        return centre, np.mean(near, axis=0, dtype=np.float64).astype(np.float32)

    for index, saliency in maps:
        recent.append((index, saliency))
        if selection is None or index in selection:
            waiting.append(index)
        while waiting and index >= waiting[0] + radius:
            yield mean()
    while waiting:
        yield mean()


def within(selection: Collection[int], radius: int) -> list[int]:
    """Returns the indices at most `radius` away from selected ones, rising."""
    return sorted({i for index in selection for i in range(max(0, index - radius), index + radius + 1)})
