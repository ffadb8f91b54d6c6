"""What is minimised: an objective names its batches, its own variables, and gives the loss of a step."""

from __future__ import annotations

import abc
import dataclasses

import jax
import jax.numpy as jnp

from avsal_jax import losses
from avsal_jax.data.feature_cache import SHARED
from avsal_jax.losses import Term
from avsal_jax.models.network import SALIENCY, Network
from avsal_jax.types import Clip

Batch = dict  # as `data.pipeline.clip_batches` gives, on the device


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """A stream of batches that an objective takes.

    Attributes:
      labelled: whether its clips have targets.
      domain: `source` (the training videos) or `target` (those of `adapt`).
    """

    labelled: bool = True
    domain: str = "source"


class Objective(abc.ABC):
    """The interface between the loop and what is learnt."""

    @abc.abstractmethod
    def batch_specs(self) -> dict[str, BatchSpec]:
        """Returns the streams by name; `source` is the labelled training data."""

    def extra_variables(self, seed: int) -> dict:
        """Returns `params` and `batch_stats` of modules of its own, by module name."""
        return {"params": {}, "batch_stats": {}}

    def inner_updates(
        self, params: dict, batch_stats: dict, batches: dict[str, Batch], step, rng
    ) -> tuple[dict, dict]:
        """Returns (params, batch_stats) at which the step's gradient is taken: those that are given.

        Here modules of the objective's own may learn before the network does; the arguments are those of
        `loss`.
        """
        return params, batch_stats

    @abc.abstractmethod
    def loss(
        self, params: dict, batch_stats: dict, batches: dict[str, Batch], step, total: int, rng
    ) -> tuple[jax.Array, tuple[dict, dict]]:
        """Returns (scalar, (new batch_stats, values to log by name)).

        Args:
          params, batch_stats: of the network and of `extra_variables`, together.
          batches: by the names of `batch_specs`; clips without `mask` have no truth that counts.
          step: int32, from 0; total: of the run.
          rng: random key of the step.
        """


def joined_variables(variables: dict, extra: dict) -> dict:
    """Returns the variables of a network together with an objective's `extra_variables`."""
    return {name: {**variables.get(name, {}), **extra[name]} for name in ("params", "batch_stats")}


class Supervised(Objective):
    """The weighted sum of losses between maps and targets, meaned over the clips that count.

    Args:
      network: with the head `saliency`.
      terms: losses with their weights.
      source: of all clips; as `Clip.source`.
    """

    def __init__(self, network: Network, terms: tuple[Term, ...], source: str = "video"):
        self._network, self._terms, self._source = network, terms, source

    def batch_specs(self):
        return {"source": BatchSpec()}

    def loss(self, params, batch_stats, batches, step, total, rng):
        batch = batches["source"]
        variables = {"params": params, "batch_stats": batch_stats}
        clip = clip_of(batch, self._source)
        outputs = self._network.run(variables, clip, train=True, rngs={"dropout": rng})
        value, values = self.head_losses(outputs.logits, batch)
        return value, (outputs.batch_stats, values)

    def head_losses(self, logits: dict[str, jax.Array], batch: Batch) -> tuple[jax.Array, dict]:
        """Returns (scalar, values to log by name) of the logits of all heads; other heads' losses go here."""
        saliency, mask = logits[SALIENCY], batch["mask"]
        per_clip, scores = losses.weighted(
            saliency, density=batch["density"], fixations=batch["fixations"], terms=self._terms
        )
        values = {f"loss/{name}": masked_mean(score, mask) for name, score in scores.items()}
        return masked_mean(per_clip, mask), values


def clip_of(batch: Batch, source: str = "video") -> Clip:
    """Returns the clips of a batch as the network takes them: frames, or cached features of these."""
    shared = tuple(batch[name] for name in sorted(batch) if name.startswith(SHARED))
    if shared:
        return Clip(None, batch.get("audio"), shared=shared, source=source)
    return Clip(batch["frames"], batch.get("audio"), source=source)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean of values [B] where mask [B]; 0 where no clip counts."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
