r"""A fusion with a nested option: sound scales the channels of the coarsest level, perhaps through a gate.

    avsal train --plugin scaled_channels.py --config avinet_av --workdir runs/scaled \
        --config.model.fusion=scaled_channels
"""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax

from avsal_jax import register
from avsal_jax.models import Fusion
from avsal_jax.spec import Range

AVSAL_API = "1.0"
__version__ = "1.0"


@dataclasses.dataclass(frozen=True)
class Gate:
    """How strongly the sound acts: from 0 to `strength`, by a sigmoid of `steepness`."""

    strength: Annotated[float, Range(0, 1)] = 0.5
    steepness: float = 1.0


@register("fusion", "scaled_channels")
class ScaledChannels(Fusion):
    """Multiplies each channel of the coarsest level by one plus a linear function of the sound.

    The feature `fused` [B, N, C] has the tokens of the coarsest level.

    Fields:
      gate: how strongly the sound acts; None for the linear function itself.
    """

    gate: Gate | None = Gate()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        scale = nn.Dense(level.shape[-1])(tokens.mean(1))
        if self.gate is not None:
            scale = self.gate.strength * jax.nn.sigmoid(self.gate.steepness * scale)
        level = level * (1 + scale[:, None, None, None])
        self.sow("intermediates", "fused", level.reshape(*level.shape[:1], -1, level.shape[-1]))
        return (*finer, level)
