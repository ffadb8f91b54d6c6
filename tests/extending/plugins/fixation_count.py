r"""A second head with its loss: how many fixations does the labelled frame have?

    avsal train --plugin fixation_count.py --config vinet_dhf1k --workdir runs/count \
        --config.model.heads.count=fixation_count --config.objective=with_count
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax import AvsalError, register
from avsal_jax.models import Channels, Part
from avsal_jax.spec import NotNegative
from avsal_jax.training import ObjectiveConfig, Supervised, masked_mean

AVSAL_API = "1.0"
HEAD = "count"


@register("head", "fixation_count")
class FixationCount(Part):
    """Pyramid -> the logarithm of one plus the number of fixations, [B].

    Fields:
      channels: of the layer before it.
    """

    channels: Channels = 16

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        x = nn.relu(nn.Dense(self.channels)(pyramid[-1].mean((1, 2, 3))))
        return nn.Dense(1)(x)[:, 0]


@register("objective", "with_count")
@dataclasses.dataclass(frozen=True)
class WithCountConfig(ObjectiveConfig):
    """The losses of maps, and the squared error of the head `count`.

    Attributes:
      weight: of that error.
    """

    weight: NotNegative = 0.1

    def build(self, network, terms, medium="video"):
        if HEAD not in network.heads:
            raise AvsalError(f"this objective needs the head {HEAD}: set model.heads.{HEAD}=fixation_count")
        return WithCount(network, terms, medium=medium, weight=self.weight)


class WithCount(Supervised):
    """Logged: `loss/count`."""

    def __init__(self, network, terms, medium, weight):
        super().__init__(network, terms, medium)
        self._weight = weight

    def head_losses(self, logits, batch):
        loss, values = super().head_losses(logits, batch)
        truth = jnp.log1p(batch["fixations"].sum((1, 2)).astype(jnp.float32))
        error = masked_mean((logits[HEAD] - truth) ** 2, batch["mask"])
        return loss + self._weight * error, values | {f"loss/{HEAD}": error}
