"""Which pixels of a fixation map are fixated: the points of a binary map, and of nearly binary maps.

| numbers of the map | points |
|---|---|
| 0, and one other in at most half of the pixels | not 0; with a note if they are adjacent |
| counts: whole, up to 10, or up to 100 and mostly 1, scattered, in at most a tenth of the pixels | not 0 |
| all up to 72 or from 200 on, of 255: a binary map after JPEG or WebP | 128 and more |
| anything else: a density, a resized or an inverted map, negative numbers, fractions | refused |
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from avsal_jax.errors import AvsalError

# Of 255 levels. A binary map as JPEG of quality 60 and better leaves the levels between the first two free.
_HIGHEST_NOISE_LEVEL = 72
_LOWEST_POINT_LEVEL = 200
_POINT_THRESHOLD_LEVEL = 128
_MAX_CERTAIN_COUNT = 10  # observers of a pixel, for any distribution of counts
_MAX_COUNT = 100  # observers of a pixel, if most counts are 1
_MAX_COUNTED_SHARE = 0.1  # fixated pixels of all pixels of a map of counts
_MAX_FIXATED_SHARE = 0.5  # of the pixels of any map
_MAX_NEIGHBOURS_OF_COUNTS = 2  # fixated pixels among the four next to a fixated pixel, on average
_MAX_NEIGHBOURS = 1  # likewise, in a binary map of single points
COUNTS, NOISE, PATCHES = "counts", "noise", "patches"


class Fixations(NamedTuple):
    """The fixations of a frame.

    Attributes:
      points: int32 [N, 2], (row, column), row by row; a pixel counts once.
      kind: `""` for a binary map of points, `PATCHES` for one of larger spots, `COUNTS` or `NOISE`.
      damaged: number of NaN in the map; they count as not fixated.
    """

    points: np.ndarray
    kind: str = ""
    damaged: int = 0


NO_FIXATIONS = Fixations(np.zeros((0, 2), np.int32))


def fixations_of(values: np.ndarray, name, lossy: bool = False) -> Fixations:
    """Returns the fixations of a map by the table above.

    Args:
      values: [h, w] of real numbers, or a scipy.sparse matrix.
      name: of the map in errors.
      lossy: whether the file format is lossy, so that small values may be noise and not counts.

    Raises:
      AvsalError: it is not a fixation map.
    """
    pixels, damaged = values.shape[0] * values.shape[1], 0
    places, numbers = _nonzero(values)
    if numbers.dtype.kind not in "bui":
        nan = np.isnan(numbers)
        damaged = int(np.count_nonzero(nan))
        if damaged == pixels and isinstance(values, np.ndarray):
            raise _refusal(name, "all its numbers are NaN")
        places, numbers = places[~nan], numbers[~nan]
    if not len(numbers):
        return NO_FIXATIONS._replace(damaged=damaged)
    kind, limit = _classify(numbers, pixels=pixels, name=name, lossy=lossy)
    points = places[numbers >= limit]
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    neighbours = _mean_neighbours(points, values.shape[1])
    if kind == COUNTS and neighbours > _MAX_NEIGHBOURS_OF_COUNTS:
        raise _refusal(name, "its numbers above zero are adjacent, as in a density or a resized map")
    if not kind and neighbours > _MAX_NEIGHBOURS:
        kind = PATCHES
    return Fixations(points.astype(np.int32), kind, damaged)


def rescale_points(points: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Returns (row, column) of a map of size `old`, rescaled to a map of size `new`."""
    if old == new:
        return points
    scaled = np.floor((points + 0.5) * (np.array(new) / np.array(old))).astype(np.int64)
    return np.clip(scaled, 0, np.array(new) - 1)


def _nonzero(values) -> tuple[np.ndarray, np.ndarray]:
    """Returns (row, column) [N, 2] of the numbers of a map that are not 0, and these numbers [N]."""
    if not isinstance(values, np.ndarray):
        stored = values.tocoo()
        places, numbers = np.stack([stored.row, stored.col], 1), stored.data
        return places[numbers != 0], numbers[numbers != 0]
    by_columns = values.flags.f_contiguous  # as MATLAB stores arrays; NumPy searches them in their own order
    flat = values.ravel("F" if by_columns else "C")
    indices = np.flatnonzero(flat != 0)  # of booleans it is several times as fast
    places = np.unravel_index(indices, values.shape, order="F" if by_columns else "C")
    return np.stack(places, 1), flat[indices]


def _classify(numbers: np.ndarray, pixels: int, name, lossy: bool) -> tuple[str, float]:
    """Returns (kind, smallest number that is a point) of the numbers that are not 0."""
    low, high = numbers.min(), numbers.max()
    if low < 0:
        raise _refusal(name, f"it has numbers down to {low:.3g}")
    if not np.isfinite(high):
        raise _refusal(name, "it has infinite numbers")
    if low == high:
        kind, limit = "", high
    else:
        if (numbers != np.floor(numbers)).any():
            raise _refusal(name, "it has fractions, as densities and resized maps have")
        if not lossy and high <= _MAX_COUNT and len(numbers) <= _MAX_COUNTED_SHARE * pixels:
            tally = np.bincount(numbers.astype(np.int64), minlength=3)
            if high <= _MAX_CERTAIN_COUNT or tally[1] > tally[2:].max():
                return COUNTS, 1
        between = np.count_nonzero((numbers > _HIGHEST_NOISE_LEVEL) & (numbers < _LOWEST_POINT_LEVEL))
        if between or not _LOWEST_POINT_LEVEL <= high <= 255:
            raise _refusal(
                name,
                f"{between} of its {len(numbers)} numbers above zero lie between {_HIGHEST_NOISE_LEVEL} and "
                f"{_LOWEST_POINT_LEVEL}, and the largest is {high:g}, as in a density, a resized "
                "map or a strongly compressed one",
            )
        kind, limit = NOISE, _POINT_THRESHOLD_LEVEL
    if (share := np.count_nonzero(numbers >= limit) / pixels) > _MAX_FIXATED_SHARE:
        raise _refusal(
            name, f"{100 * share:.0f} % of its pixels are fixated: it is inverted, or something else"
        )
    return kind, limit


def _mean_neighbours(points: np.ndarray, width: int) -> float:
    """Returns the average number of fixated pixels among the four next to a fixated pixel."""
    places = points[:, 0].astype(np.int64) * (width + 1) + points[:, 1]  # the last column touches no row
    pairs = sum(np.count_nonzero(np.isin(places + step, places)) for step in (1, width + 1))
    return 2 * pairs / len(points)


def _refusal(name, reason: str) -> AvsalError:
    return AvsalError(
        f"{name} is not a fixation map (binary: 0, and one other number at fixations): {reason}"
    )


def fixation_findings(frames: Iterable[Fixations]) -> dict[str, str]:
    """Returns what is unusual about the fixation maps of a video: kind of finding -> a line."""
    frames = list(frames)
    kinds = collections.Counter(fixations.kind for fixations in frames)
    lines = {}
    odd = []
    if count := kinds[COUNTS]:
        odd.append(f"{count} of {len(frames)} fixation maps hold counts: a pixel counts once")
    if count := kinds[PATCHES]:
        odd.append(
            f"in {count} of {len(frames)} fixation maps the fixated pixels are adjacent, as in discs, "
            "enlarged maps or densities cut at a level: every pixel counts"
        )
    if count := kinds[NOISE]:
        odd.append(
            f"{count} of {len(frames)} fixation maps are not binary (compressed with loss): pixels from "
            f"{_POINT_THRESHOLD_LEVEL} of 255 on are taken as fixated"
        )
    if odd:
        lines["fixation maps"] = "; ".join(odd)
    if damaged := sum(fixations.damaged for fixations in frames):
        lines["NaN"] = f"{damaged} values of fixation maps are NaN; they count as not fixated"
    return lines
