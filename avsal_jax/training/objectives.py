"""What is minimised: an objective names its batches, its own variables, and gives the loss of a step."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from avsal_jax import losses
from avsal_jax.losses import Term
from avsal_jax.models.network import SaliencyNetwork, recorded_features
from avsal_jax.ops.pixels import normalize_pixels
from avsal_jax.specs import InputSpec

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

    def extra_variables(self, network: SaliencyNetwork, spec: InputSpec, seed: int) -> dict:
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
      network: with a decoder.
      spec: the clip that it takes.
      terms: losses with their weights.
    """

    def __init__(self, network: SaliencyNetwork, spec: InputSpec, terms: tuple[Term, ...]):
        self._network, self._spec, self._terms = network, spec, terms

    def batch_specs(self):
        return {"source": BatchSpec()}

    def loss(self, params, batch_stats, batches, step, total, rng):
        batch = batches["source"]
        logits, batch_stats = apply_network(self._network, self._spec, params, batch_stats, batch, True, rng)
        per_clip, scores = losses.weighted(logits, batch["density"], batch["fixations"], self._terms)
        mask = batch["mask"]
        values = {f"loss/{name}": masked_mean(score, mask) for name, score in scores.items()}
        return masked_mean(per_clip, mask), (batch_stats, values)


def apply_network(
    network: SaliencyNetwork, spec: InputSpec, params, batch_stats, batch: Batch, train: bool, rng=None
) -> tuple[jax.Array, dict]:
    """Returns (logits [B, H, W], new batch_stats; the old ones where `train` is False)."""
    return run_network(network, spec, params, batch_stats, batch, train, rng)[:2]


def run_network(
    network: SaliencyNetwork,
    spec: InputSpec,
    params,
    batch_stats,
    batch: Batch,
    train: bool,
    rng=None,
    features: Sequence[str] = (),
) -> tuple[jax.Array, dict, dict]:
    """Returns (logits, new batch_stats) as `apply_network`, and the named features that were recorded."""
    frames = normalize_pixels(batch["frames"], spec.pixel_norm)
    variables = {"params": params, "batch_stats": batch_stats}
    mutable = ["batch_stats", "intermediates"] if train else ["intermediates"]
    rngs = {"dropout": rng} if train else None
    logits, state = network.apply(
        variables, frames, batch.get("audio"), train=train, mutable=mutable, rngs=rngs
    )
    chosen = recorded_features(state.get("intermediates", {}), features)
    return logits, {**batch_stats, **state.get("batch_stats", {})}, chosen


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean of values [B] where mask [B]; 0 where no clip counts."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
