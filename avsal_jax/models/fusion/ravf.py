"""Relevance-guided audio-visual fusion (RAVF of AVRSP, Yu et al. 2024, III-B)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import as_level, as_tokens
from avsal_jax.models.layers import Count, Linear, Runtime, Width, layer_norm, scaled
from avsal_jax.ops.attention import sinusoids
from avsal_jax.ops.relevance_attention import Projected, Relevance, RetentionActivation, relevance_attention
from avsal_jax.registry import register


@register("fusion", "ravf")
class RAVF(Fusion):
    """Replaces the coarsest level X^0 [B, T, H, W, C] by what it and the sound make of each other.

    X^0 as N = T H W tokens goes through `blocks` blocks with the same sound. Features recorded:
    `fused` [B, N, C], `retention_audio` (Ret_A) [B, blocks, heads, T, H, W, S], `retention_visual` (Ret_V)
    [B, blocks, heads, S, T, H, W], `head_weights` (C_weights) [B, blocks, heads].

    Eqs. 2 to 5 have no softmax and no mean, so the values of a head grow with the number of tokens. With the
    336 of a clip of 224x384, scores of a random MLP are so far apart that Eq. 6 gives nearly all weight to
    one head, and the others get no gradient. The MLP's last layer therefore starts at zero, so that fresh
    heads have equal weights; after some steps one of them can still take over, unless `head_norm` is set. The
    paper does not describe the MLP. docs/papers.md has the figures.

    Fields (none is stated in the paper):
      blocks: how many RAVF blocks, 1 to 64.
      heads: of the attention; they divide its 512 channels times `width`.
      expansion: hidden channels of the feed-forward layer, as a multiple of C.
      retention_activation: `none`, the literal Eqs. 2 and 3, or `sigmoid` (see `ops.relevance_attention`).
      positions: whether the sinusoid table is added to the tokens of the picture before the first block.
      output: whether a linear map takes the joined heads back to C channels; without it both have as many.
      head_scale: whether the weights of the heads are multiplied by their number, so that their mean is 1.
      head_norm: whether a layer norm precedes the MLP of Eq. 6, so that scores do not grow with the tokens.
      width: multiplier of the 512 channels of queries, keys and values.
    """

    blocks: Count = 3
    heads: Count = 8
    expansion: Count = 4
    retention_activation: RetentionActivation = "none"
    positions: bool = False
    output: bool = True
    head_scale: bool = False
    head_norm: bool = False
    width: Width = 1.0
    runtime: Runtime = Runtime()

    def idle_fields(self) -> dict[str, str]:
        return dict.fromkeys(("head_scale", "head_norm"), "heads=1") if self.heads == 1 else {}

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        self._check()
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        visual = as_tokens(level)
        if self.positions:
            visual = visual + sinusoids(*visual.shape[1:])[None].astype(visual.dtype)
        retained = []
        for number in range(1, self.blocks + 1):
            block = RAVFBlock(
                scaled(512, self.width),
                heads=self.heads,
                expansion=self.expansion,
                retention_activation=self.retention_activation,
                output=self.output,
                head_scale=self.head_scale,
                head_norm=self.head_norm,
                runtime=self.runtime,
                name=f"block{number}",
            )
            visual, relevance, weights = block(visual, tokens)
            retained.append((relevance.retention_audio, relevance.retention_visual, weights))
        audio, visual_retention, weights = (jnp.stack(parts, 1) for parts in zip(*retained, strict=True))
        size, places = audio.shape[:3], level.shape[1:4]
        self.sow("intermediates", "fused", visual)
        self.sow("intermediates", "retention_audio", audio.reshape(*size, *places, -1))
        self.sow("intermediates", "retention_visual", visual_retention.reshape(*size, -1, *places))
        self.sow("intermediates", "head_weights", weights)
        return (*finer, as_level(visual, level))

    def _check(self):
        if scaled(512, self.width) % self.heads:
            raise AvsalError(
                f"fusion.heads must divide the {scaled(512, self.width)} channels of RAVF's attention; "
                f"got {self.heads}"
            )


class RAVFBlock(nn.Module):
    """Attention, residual and layer norm, feed-forward, residual and layer norm (figure 3).

    `__call__(visual [B, N, C], tokens [B, S, A])` returns the fused tokens [B, N, C], the `Relevance`, and
    the weights of the heads [B, heads], which sum to 1. Eq. 6 joins N tokens with S tokens; they are
    averaged over tokens first, and one MLP scores each head (not stated in the paper), and so is the
    linear map that takes the joined heads back to C channels.

    Fields: `channels` of queries, keys and values; the others as in `RAVF`.
    """

    channels: int
    heads: int
    expansion: int = 4
    retention_activation: RetentionActivation = "none"
    output: bool = True
    head_scale: bool = False
    head_norm: bool = False
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, visual: jax.Array, tokens: jax.Array) -> tuple[jax.Array, Relevance, jax.Array]:
        relevance = relevance_attention(
            self._projected("visual", visual), self._projected("audio", tokens), self.retention_activation
        )
        weights = self._head_weights(relevance)
        scale = self.heads if self.head_scale else 1
        fused = relevance.visual * (scale * weights[:, None, :, None])  # Eq. 7
        fused = fused.reshape(*fused.shape[:2], self.channels)
        if self.output:
            fused = self._linear("output", visual.shape[-1], fused)
        elif self.channels != visual.shape[-1]:
            raise AvsalError(
                f"fusion.output=false takes attention of as many channels as the picture; got "
                f"{self.channels} and {visual.shape[-1]}"
            )
        x = self._norm("norm1", visual + fused)
        hidden = self._linear("expand", self.expansion * x.shape[-1], x, relu=True)
        x = self._norm("norm2", x + self._linear("reduce", x.shape[-1], hidden))
        return x, relevance, weights

    def _projected(self, name, x):
        """The affine maps of Eq. 1, split into heads."""
        maps = (self._linear(f"{name}_{part}", self.channels, x) for part in Projected._fields)
        return Projected(*(y.reshape(*y.shape[:2], self.heads, -1) for y in maps))

    def _head_weights(self, relevance):
        pooled = jnp.concatenate([relevance.visual.mean(1), relevance.audio.mean(1)], -1)  # [B, heads, 2 d]
        if self.head_norm:
            pooled = self._norm("head_norm", pooled)
        hidden = self._linear("head_hidden", self.channels // self.heads, pooled, relu=True)
        score = self._linear("head_score", 1, hidden, zero_start=True)[..., 0]
        dtype = jnp.promote_types(score.dtype, jnp.float32)
        return jax.nn.softmax(score.astype(dtype)).astype(score.dtype)  # Eq. 6

    def _linear(self, name, channels, x, **options):
        return Linear(channels, runtime=self.runtime, name=name, **options)(x)

    def _norm(self, name, x):
        return layer_norm(1e-5, self.runtime, name)(x)
