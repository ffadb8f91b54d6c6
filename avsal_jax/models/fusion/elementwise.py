"""Elementwise addition and multiplication of picture and sound (paper 002, table V)."""

from __future__ import annotations

import flax.linen as nn
import jax

from avsal_jax.models.layers import Runtime


class _Elementwise(nn.Module):
    """Joins sound to the coarsest level [B, T, H, W, C]; records `fused` [B, T*H*W, C].

    The tokens are averaged, brought to C channels by a linear map, and the same everywhere in time and
    space (not stated in the paper).
    """

    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        b, *_, c = level.shape
        sound = nn.Dense(c, dtype=self.runtime.dtype, name="audio")(tokens.mean(1))
        joint = self._joined(level, sound.reshape(b, 1, 1, 1, c))
        self.sow("intermediates", "fused", joint.reshape(b, -1, c))
        return (*finer, joint)


class Addition(_Elementwise):
    """Adds the projected sound to the coarsest level."""

    def _joined(self, level: jax.Array, sound: jax.Array) -> jax.Array:
        return level + sound


class Multiplication(_Elementwise):
    """Multiplies the coarsest level by the projected sound."""

    def _joined(self, level: jax.Array, sound: jax.Array) -> jax.Array:
        return level * sound
