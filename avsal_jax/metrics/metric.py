"""What a metric is: how well a map agrees with where people looked, as a number, and what is known of it.

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
      density: float64 [h, w] in [0, 1]; None where the truth is too few fixations for one.
      prior: float64 [H, W], of any size; None without one.
      on_grid: whether the protocol has a grid, where each fixation counts, several in a cell too.
      elsewhere: returns bool [h, w], where people looked in other frames (see the protocol). It reads files.
      draw: purpose -> random numbers of this frame. No metric changes another's.
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
      title: in tables; `heading` adds an arrow where lower is better.
      about: what a value means, in one line.
      score: frame -> value; NaN where it has none. It is called only where `needs` is there.
      needs: truth, or a prior, without which there is no value.
      lower_is_better: by default, higher is.
      by_default: whether it is computed where no metrics are chosen.
      per_fixation: whether a mean on a grid is over fixations, not frames.
      grid_only: whether only protocols with a grid have it.
      bounds: the lowest and the highest value that there can be.
      digits: after the point, as papers print it.
      milliseconds: of a frame of 360x640 on one core, in about.
      remark: a sentence for tables that have it; `{prior}` is the prior's name.
      validation: (maps [..., H, W], batch) -> [...], for validation in training; None where that cannot use
        it. Maps are in [0, 1]; the batch has `density` [..., H, W] and `fixations`, bool [..., H, W]. It
        takes JAX arrays under `jit`, and NumPy arrays of one map. A clip whose value is NaN does not count.
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
        """The title, with an arrow where lower is better."""
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
    """Returns the names of the metrics that are computed where none are chosen."""
    return tuple(name for name, metric in registry.table("metric").items() if metric.by_default)


def metrics_over_priors() -> tuple[str, ...]:
    """Returns the names of the metrics that need a prior."""
    return tuple(name for name, metric in registry.table("metric").items() if "prior" in metric.needs)
