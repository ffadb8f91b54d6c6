"""A map as a probability density over cells: information gain, and how well its mass is calibrated."""

from __future__ import annotations

import math

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.metrics.checked_arrays import as_maps

FLOOR = 0.01  # share of the mass that is spread evenly over all cells, so that every logarithm is finite


def as_density(saliency: np.ndarray, floor: float = FLOOR) -> np.ndarray:
    """Returns a map [H, W] as float64 probabilities that sum to 1.

    Negative values count as 0; a map without mass is uniform.

    Args:
      saliency: real numbers [H, W].
      floor: share of the probability that is spread evenly over all cells.
    """
    values = as_maps("prediction", saliency).astype(np.float64)
    values = np.where(values < 0, 0.0, values)
    total = values.sum()
    density = values / total if total != 0 else np.full(values.shape, 1 / values.size)
    return (1 - floor) * density + floor / values.size


def information_gain_at(prediction: np.ndarray, points: np.ndarray, prior: np.ndarray) -> float:
    """Returns the information gain of one map over a prior in bits per fixation (Kümmerer et al. 2015).

    Mean over the fixations of log2(prediction / prior), both as densities with `FLOOR`. Unlike
    `information_gain`, maps are not stretched, and a place that two people looked at counts twice. NaN
    without fixations.

    Args:
      prediction, prior: real numbers [H, W].
      points: int [N, 2], (row, column) of each fixation.

    Raises:
      AvsalError: the prior has a different size.
    """
    if np.shape(prediction) != np.shape(prior):
        raise AvsalError(f"prediction {np.shape(prediction)} and prior {np.shape(prior)} differ in size")
    if len(points) == 0:
        return math.nan
    rows, columns = points[:, 0], points[:, 1]
    gain = np.log2(as_density(prediction)[rows, columns]) - np.log2(as_density(prior)[rows, columns])
    return float(gain.mean())


def top_share(prediction: np.ndarray, points: np.ndarray, share: float) -> float:
    """Returns the share of fixations in the `share` of cells where a map [H, W] is largest.

    Cells that tie for the last places count in part, so that exactly `share` of the cells is taken. NaN
    without fixations.
    """
    if len(points) == 0:
        return math.nan
    return float(_top_cells(as_density(prediction, 0), share)[points[:, 0], points[:, 1]].mean())


def top_mass(prediction: np.ndarray, share: float) -> float:
    """Returns the share of its mass that a map [H, W] has in the cells of `top_share`.

    If the map is a density and right, the share of fixations there is the same.
    """
    density = as_density(prediction, 0)
    return float((_top_cells(density, share) * density).sum())


def _top_cells(values: np.ndarray, share: float) -> np.ndarray:
    """Returns float64 [H, W] in [0, 1]: how much of each cell is among the largest `share` of cells."""
    if not 0 < share <= 1:
        raise AvsalError(f"the share of cells must be above 0 and at most 1; got {share!r}")
    if np.isnan(values).any():
        return np.full(values.shape, np.nan)
    number = share * values.size
    last = np.sort(values, axis=None)[values.size - math.ceil(number)]
    above, ties = values > last, values == last
    return above + ties * ((number - above.sum()) / ties.sum())
