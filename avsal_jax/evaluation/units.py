"""The unit of an evaluation: a video with the source of its maps; and the settings of the evaluation."""

from __future__ import annotations

import dataclasses

import numpy as np

from avsal_jax import registry
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.evaluation.map_sources import MapSource
from avsal_jax.evaluation.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class Unit:
    """A video to evaluate, with the maps to evaluate it with.

    Attributes:
      entry: the video.
      source: of its maps.
      fold: the fold that it counts for; None without folds.
      mixed: whether videos of several sets are evaluated together, whose names may be the same.
    """

    entry: VideoEntry
    source: MapSource
    fold: int | None = None
    mixed: bool = False

    @property
    def key(self) -> str:
        """Name of its part file and of its folder of examples."""
        name = f"{self.entry.dataset}-{self.entry.name}" if self.mixed else self.entry.name
        return name if self.fold is None else f"{self.fold}-{name}"

    @property
    def label(self) -> str:
        """Name in the tables: `name`, `2:name` in fold 2, `coutrot1/name` among several sets."""
        name = f"{self.entry.dataset}/{self.entry.name}" if self.mixed else self.entry.name
        return name if self.fold is None else f"{self.fold}:{name}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a set is evaluated.

    Attributes:
      protocol: with or without a grid.
      metrics: names of registered metrics.
      seed: of all random draws.
      prior: reference of the information gain; None if that is not among the metrics.
    """

    protocol: Protocol
    metrics: tuple[str, ...]
    seed: int = 0
    prior: MapSource | None = None

    def prior_map(self, entry: VideoEntry) -> np.ndarray | None:
        """Returns the prior as maps of a video are scored; AvsalError for a video that it was fitted on."""
        if self.prior is None:
            return None
        return self.protocol.score_map(next(iter(self.prior.maps(entry, self.protocol))))

    def prior_problems(self, entry: VideoEntry) -> list[str]:
        """Returns why the prior cannot be used for a video."""
        return [] if self.prior is None else self.prior.problems(entry, self.protocol)

    def plugin_identity(self) -> dict[str, dict[str, str]]:
        """Returns the plugins, with their versions, that define the metrics; empty if no plugin does."""
        origins = {name: registry.origin_of("metric", name) for name in self.metrics}
        plugins = {name: str(origin) for name, origin in origins.items() if origin != registry.PACKAGE}
        return {"plugins": plugins} if plugins else {}

    def prior_identity(self, entry: VideoEntry) -> dict[str, str]:
        """Returns what results depend on through the prior; empty without one, as in earlier versions."""
        return {} if self.prior is None else {"prior": self.prior.identity(entry)}
