"""Saliency maps from labelled clips: the weighted sum of losses."""

from __future__ import annotations

import dataclasses

import jax

from avsal_jax import losses
from avsal_jax.losses import Term
from avsal_jax.models.network import SALIENCY, Network
from avsal_jax.registry import register
from avsal_jax.training.objectives.objective import (
    LABELLED,
    Batch,
    Objective,
    ObjectiveConfig,
    StepOutputs,
    clip_of,
    masked_mean,
)


@register("objective", "supervised")
@dataclasses.dataclass(frozen=True)
class SupervisedConfig(ObjectiveConfig):
    """The losses of `config.loss` between maps and truth of labelled clips."""

    def build(self, network, terms, medium="video"):
        return Supervised(network, terms, medium)


class Supervised(Objective):
    """The weighted sum of losses between maps and targets, averaged over the clips whose `mask` is True.

    Args:
      network: with the head `saliency`.
      terms: losses and their weights.
      medium: of all clips; as `Clip.medium`.
    """

    def __init__(self, network: Network, terms: tuple[Term, ...], medium: str = "video"):
        self._network, self._terms, self._medium = network, terms, medium

    def loss(self, params, inputs):
        batch = inputs.batches[LABELLED]
        variables = {"params": params, "batch_stats": inputs.batch_stats}
        clip = clip_of(batch, self._medium)
        outputs = self._network.run(variables, clip, train=True, rngs={"dropout": inputs.rng})
        value, values = self.head_losses(outputs.logits, batch)
        return value, StepOutputs(outputs.batch_stats, inputs.extra, values)

    def head_losses(self, logits: dict[str, jax.Array], batch: Batch) -> tuple[jax.Array, dict]:
        """Returns (loss, values to log by name) of the logits of all heads; override it for other heads."""
        saliency, mask = logits[SALIENCY], batch["mask"]
        per_clip, scores = losses.weighted(
            saliency, density=batch["density"], fixations=batch["fixations"], terms=self._terms
        )
        values = {f"loss/{name}": masked_mean(score, mask) for name, score in scores.items()}
        return masked_mean(per_clip, mask), values
