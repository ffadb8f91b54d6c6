"""AViNet(C): sound concatenated to the visual channels (Jain et al. 2021, 3.2; not in public code)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import AudioTime, as_level, as_tokens, audio_level
from avsal_jax.models.layers import Linear, Runtime
from avsal_jax.registry import register


@register("fusion", "concatenation")
class Concatenation(Fusion):
    """Replaces the coarsest level by a 1x1 convolution of it and the repeated sound, joined on channels.

    The result has the channels of the level: "we apply 1x1 convolution to reduce the number of channels".
    Its bias, and that no activation follows, are not stated in the paper.

    Fields:
      audio_time: how the tokens of the sound meet the frames of the level, not stated in the paper:
        `resampled` (linearly) or `mean` (see `tokens.audio_level`).

    Records `fused`: the result as tokens [B, N, C].
    """

    audio_time: AudioTime = "resampled"
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(
        self, pyramid: tuple[jax.Array, ...], tokens: jax.Array | None, train: bool = False
    ) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        sound = audio_level(tokens, level, self.audio_time)
        joined = as_tokens(jnp.concatenate([level, sound.astype(level.dtype)], -1))
        fused = Linear(level.shape[-1], runtime=self.runtime, name="reduce")(joined)
        self.sow("intermediates", "fused", fused)
        return (*finer, as_level(fused, level))
