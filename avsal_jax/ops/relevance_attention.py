"""Relevance-aware cross-attention of AVRSP (Yu et al. 2024, Eqs. 2 to 5), which has no softmax."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

RetentionActivation = Literal["none", "sigmoid"]


class Projected(NamedTuple):
    """Queries, keys and values of one modality, each [B, tokens, heads, d]."""

    query: jax.Array
    key: jax.Array
    value: jax.Array


class Relevance(NamedTuple):
    """What the attention gives: both directions [B, tokens, heads, d], and how much each retains.

    Attributes:
      visual: v2a_attn of Eq. 4, [B, N, heads, d].
      audio: a2v_attn of Eq. 5, [B, S, heads, d].
      retention_audio: Ret_A of Eq. 2, [B, heads, N, S].
      retention_visual: Ret_V of Eq. 3, [B, heads, S, N].
    """

    visual: jax.Array
    audio: jax.Array
    retention_audio: jax.Array
    retention_visual: jax.Array


def relevance_attention(
    visual: Projected, audio: Projected, activation: RetentionActivation = "none"
) -> Relevance:
    """Returns Ret_A A_V + V_V and Ret_V V_V + A_V, with Ret_A = V_Q A_K^T / sqrt(d) and its mirror.

    Retention is not normalised over tokens. Where it is 0, v2a_attn is V_V: sound leaves no trace.

    Args:
      visual, audio: projections of N and S tokens.
      activation: of the retention. `none` is the paper's formula, which is linear in queries and in
        keys and not bounded; `sigmoid` keeps it in (0, 1), the range that the paper's figure 6 shows.
    """
    scale = visual.query.shape[-1] ** -0.5
    retain = {"none": lambda r: r, "sigmoid": jax.nn.sigmoid}[activation]
    retention_audio = retain(scale * jnp.einsum("bnhd,bshd->bhns", visual.query, audio.key))
    retention_visual = retain(scale * jnp.einsum("bshd,bnhd->bhsn", audio.query, visual.key))
    return Relevance(
        jnp.einsum("bhns,bshd->bnhd", retention_audio, audio.value) + visual.value,
        audio=jnp.einsum("bhsn,bnhd->bshd", retention_visual, visual.value) + audio.value,
        retention_audio=retention_audio,
        retention_visual=retention_visual,
    )
