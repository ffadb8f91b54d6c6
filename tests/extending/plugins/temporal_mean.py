r"""A neck: each level and its mean over time, mixed by a 1x1x1 convolution.

    avsal train --plugin temporal_mean.py --config vinet_dhf1k --workdir runs/mean \
        --config.model.neck=temporal_mean
"""

import jax
import jax.numpy as jnp

from avsal_jax import Runtime, register
from avsal_jax.models import Channels, ConvNorm, Part

AVSAL_API = "1.0"


@register("neck", "temporal_mean")
class TemporalMean(Part):
    """Levels [B, T, H, W, C] -> [B, T, H, W, channels], of the same number of frames and sizes.

    Fields:
      channels: of every level.
    """

    channels: Channels = 64
    runtime: Runtime = Runtime()

    def setup(self):
        self.mixed = [ConvNorm(self.channels, (1, 1, 1), runtime=self.runtime) for _ in range(4)]

    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> tuple[jax.Array, ...]:
        levels = []
        for mixed, level in zip(self.mixed, pyramid, strict=True):
            mean = jnp.broadcast_to(level.mean(1, keepdims=True), level.shape)
            levels.append(mixed(jnp.concatenate([level, mean], -1), train))
        return tuple(levels)
