"""The interface of metrics: a number for how well a map agrees with fixations, and its properties.

  register("metric", "hits")(Metric("hits", "share of fixations where the map is above its mean", score=hits))

Evaluation, comparison, training and the command line read the table of metrics.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from avsal_jax import registry

Need = Literal["density", "fixations", "prior"]


@dataclasses.dataclass(frozen=True)
class Frame:
    """A map and the truth that it is scored against.

    Attributes:
      saliency: the map, float64 [h, w], at the size of the truth.
      points: int [N, 2], (row, column) of each fixation.
      density: float64 [h, w] in [0, 1]; None if the truth has too few fixations for a density.
      prior: float64 [H, W], of any size; None without one.
      on_grid: whether the protocol has a grid, in which every fixation counts, also several in a cell.
      elsewhere: returns bool [h, w], the fixated pixels of other frames (see the protocol); reads files.
      draw: purpose -> random numbers of this frame, independent for each purpose.
    """

    saliency: np.ndarray
    points: np.ndarray
    density: np.ndarray | None
    prior: np.ndarray | None
    on_grid: bool
    elsewhere: Callable[[], np.ndarray]
    draw: Callable[[str], np.random.Generator]

    @functools.cached_property
    def fixated(self) -> np.ndarray:
        """Returns bool [h, w]: where there is a fixation."""
        return fixation_map(self.points, self.saliency.shape)

    def has(self, need: Need) -> bool:
        """Whether there is a density, a fixation, or a prior."""
        return len(self.points) > 0 if need == "fixations" else getattr(self, need) is not None


def fixation_map(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns bool [h, w] with the points int [N, 2] (row, column) set."""
    fixated = np.zeros(size, bool)
    fixated[points[:, 0], points[:, 1]] = True
    return fixated


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric, registered as `register("metric", NAME)(Metric(...))`.

    Attributes:
      title: in tables; `heading` adds an arrow if lower is better.
      about: the meaning of a value, in one line.
      score: frame -> value; NaN if it is undefined. Called only if the frame has all of `needs`.
      needs: the truth, or the prior, that the metric requires.
      lower_is_better: whether lower values are better.
      by_default: whether it is computed if no metrics are selected.
      per_fixation: whether a mean on a grid is over fixations, not frames.
      grid_only: whether it requires a protocol with a grid.
      bounds: the lowest and the highest possible value.
      digits: after the decimal point, as in papers.
      milliseconds: approximate time for a frame of 360x640 on one core.
      remark: a sentence for tables with this metric; `{prior}` is replaced by the prior's name.
      validation: (maps [..., H, W], batch) -> [...], for validation in training; None if not supported. Maps
        are in [0, 1]; the batch has `density` [..., H, W] and `fixations`, bool [..., H, W]. It takes JAX
        arrays under `jit`, and NumPy arrays of one map. A clip whose value is NaN is ignored.
    """

    title: str
    about: str
    score: Callable[[Frame], float]
    needs: tuple[Need, ...] = ("fixations",)
    lower_is_better: bool = False
    by_default: bool = False
    per_fixation: bool = False
    grid_only: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    digits: int = 3
    milliseconds: float = 0.0
    remark: str = ""
    validation: Callable | None = None

    @property
    def heading(self) -> str:
        """The title, with an arrow if lower is better."""
        return f"{self.title} ↓" if self.lower_is_better else self.title

    def value(self, frame: Frame) -> float:
        """Returns the value of a frame, or NaN."""
        return float(self.score(frame)) if all(map(frame.has, self.needs)) else math.nan

    def goodness(self, value: float) -> float:
        """Returns a number that is higher where the metric is better."""
        return -value if self.lower_is_better else value


def find_metric(name: str) -> Metric:
    """Returns a metric by name; AvsalError with the names that exist."""
    return registry.find("metric", name)


def default_metrics() -> tuple[str, ...]:
    """Returns the names of the metrics that are computed by default."""
    return tuple(name for name, metric in registry.table("metric").items() if metric.by_default)


def metrics_over_priors() -> tuple[str, ...]:
    """Returns the names of the metrics that need a prior."""
    return tuple(name for name, metric in registry.table("metric").items() if "prior" in metric.needs)
