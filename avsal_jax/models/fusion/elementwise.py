"""Elementwise addition and multiplication of picture and sound (AVRSP, Yu et al. 2024, table V)."""

from __future__ import annotations

import flax.linen as nn
import jax

from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import AudioTime, as_tokens, audio_level
from avsal_jax.models.layers import Linear, Runtime
from avsal_jax.registry import register


class _Elementwise(Fusion):
    """Joins sound to the coarsest level [B, T, H, W, C]; records `fused` [B, T*H*W, C].

    A linear map brings the tokens to C channels; they are the same everywhere in space (neither is stated
    in the paper).

    Fields:
      audio_time: how the sound is aligned with the level's T time steps, see `tokens.audio_level`.
    """

    audio_time: AudioTime = "resampled"
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        sound = Linear(level.shape[-1], runtime=self.runtime, name="sound")(tokens)
        joint = self._joined(level, audio_level(sound, level, self.audio_time))
        self.sow("intermediates", "fused", as_tokens(joint))
        return (*finer, joint)


@register("fusion", "addition")
class Addition(_Elementwise):
    """Adds the projected sound to the coarsest level."""

    def _joined(self, level: jax.Array, sound: jax.Array) -> jax.Array:
        return level + sound


@register("fusion", "multiplication")
class Multiplication(_Elementwise):
    """Multiplies the coarsest level by the projected sound."""

    def _joined(self, level: jax.Array, sound: jax.Array) -> jax.Array:
        return level * sound
