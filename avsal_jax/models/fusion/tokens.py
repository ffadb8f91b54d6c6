"""Between levels of a pyramid [B, T, H, W, C] and tokens [B, N, C]; sound in the shape of a picture."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from avsal_jax.ops.pooling import max_pool3d
from avsal_jax.ops.resize import resize_linear
from avsal_jax.spec.fields import value_of

AudioTime = Literal["resampled", "mean"]
Columns = Literal["every_second", "pairs"]


def as_tokens(level: jax.Array) -> jax.Array:
    """[B, T, H, W, C] -> [B, T * H * W, C]; time is the slowest, as where torch flattens (B, C, T, H, W)."""
    return level.reshape(level.shape[0], -1, level.shape[-1])


def as_level(tokens: jax.Array, like: jax.Array) -> jax.Array:
    """[B, N, C] -> [B, T, H, W, C], with T, H, W of the level `like`."""
    return tokens.reshape(*like.shape[:4], tokens.shape[-1])


def pooled(level: jax.Array, columns: Columns = "every_second") -> jax.Array:
    """Returns the coarsest level, max-pooled over time, with half the columns.

    For clips of 32 frames of 224x384: [B, 4, 7, 12, C] -> [B, 1, 7, 6, C], 42 places of 336.

    Args:
      level: [B, T, H, W, C].
      columns: `every_second`: MaxPool3d with kernel (min(4, T), 1, 1) and stride (2, 1, 2), as AViNet(B)
        has it (samyak0210/ViNet @2a52666): every second column is dropped, not pooled. `pairs`: kernel
        (min(4, T), 1, 2) and the same stride: the maximum of two columns; an odd last column stands alone.

    Raises:
      AvsalError: other `columns`.
    """
    value_of(Columns, columns, "fusion.columns")
    width = 1
    if columns == "pairs":
        width, odd = 2, level.shape[3] % 2
        level = jnp.pad(level, ((0, 0),) * 3 + ((0, odd), (0, 0)), constant_values=-jnp.inf)
    return max_pool3d(level, (min(4, level.shape[1]), 1, width), (2, 1, 2))


def audio_level(tokens: jax.Array, like: jax.Array, time: AudioTime = "resampled") -> jax.Array:
    """Returns sound [B, S, C] repeated over the places of a level: [B, T, H, W, C] with its T, H, W.

    Args:
      tokens: of the sound, in order of time.
      like: the level.
      time: `resampled` (linearly, from S to T) or `mean` over the tokens.

    Raises:
      AvsalError: another `time`.
    """
    value_of(AudioTime, time, "fusion.audio_time")
    sound = tokens.mean(1, keepdims=True) if time == "mean" else resize_linear(tokens, (like.shape[1],))
    return jnp.broadcast_to(sound[:, :, None, None], (*like.shape[:4], tokens.shape[-1]))
