"""Between levels of a pyramid [B, T, H, W, C] and tokens [B, N, C]; sound in the shape of a picture."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from avsal_jax.ops.pooling import max_pool3d
from avsal_jax.ops.resize import resize_linear
from avsal_jax.spec.fields import value_of

AudioTime = Literal["resampled", "mean"]


def as_tokens(level: jax.Array) -> jax.Array:
    """[B, T, H, W, C] -> [B, T * H * W, C]; time is the slowest, as where torch flattens (B, C, T, H, W)."""
    return level.reshape(level.shape[0], -1, level.shape[-1])


def as_level(tokens: jax.Array, like: jax.Array) -> jax.Array:
    """[B, N, C] -> [B, T, H, W, C], with T, H, W of the level `like`."""
    return tokens.reshape(*like.shape[:4], tokens.shape[-1])


def pooled(level: jax.Array) -> jax.Array:
    """Returns the coarsest level with less time and every second column, as AViNet(B)'s pooling gives it.

    MaxPool3d with kernel (min(4, T), 1, 1) and stride (2, 1, 2), samyak0210/ViNet @2a52666: columns are
    dropped, not pooled. For clips of 32 frames of 224x384: [B, 4, 7, 12, C] -> [B, 1, 7, 6, C].
    """
    return max_pool3d(level, (min(4, level.shape[1]), 1, 1), (2, 1, 2))


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
