"""Attention between sets of tokens [B, N, C], and the sinusoid table of positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def attention_weights(query: jax.Array, key: jax.Array, heads: int) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(C / heads)) over the keys, in float32.

    Heads are contiguous chunks of the channels, as in torch.nn.MultiheadAttention.

    Args:
      query: [B, N, C]; key: [B, S, C]; C divides by `heads`.

    Returns:
      [B, heads, N, S]; rows sum to 1.
    """
    query, key = _split(query, heads), _split(key, heads)
    scores = jnp.einsum("bnhc,bshc->bhns", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores / np.float32(np.sqrt(query.shape[-1])), axis=-1)


def attended(weights: jax.Array, value: jax.Array) -> jax.Array:
    """Returns each head's mean of its values by `weights` [B, heads, N, S]; value [B, S, C] -> [B, N, C]."""
    mixed = jnp.einsum("bhns,bshc->bnhc", weights.astype(value.dtype), _split(value, weights.shape[1]))
    return mixed.reshape(*mixed.shape[:2], -1)


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Returns the table of positions float32 [length, channels] of "Attention is all you need", 3.5.

    Channel 2i is sin(position / 10000^(2i / channels)), channel 2i + 1 its cosine.
    """
    rates = np.exp(-np.log(10000.0) * np.arange(0, channels, 2) / channels)
    angles = np.arange(length)[:, None] * rates
    table = np.zeros((length, channels))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : channels // 2])
    return table.astype(np.float32)


def _split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1)
