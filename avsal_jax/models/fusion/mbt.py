"""Attention bottlenecks (MBT: Nagrani et al., NeurIPS 2021), a fusion of AVRSP's table V (Yu et al. 2024)."""

from __future__ import annotations

from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.fusion.attention import MultiHeadAttention
from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import as_level, as_tokens
from avsal_jax.models.initial import Weights
from avsal_jax.models.layers import Count, Linear, Runtime, Width, layer_norm, scaled
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range


@register("fusion", "mbt")
class MBT(Fusion):
    """Lets picture and sound talk through a few tokens; replaces the coarsest level [B, T, H, W, C].

    In every block each modality attends to its own tokens and the bottleneck; the bottleneck of the next
    block is the mean of what the two made of it ("bottleneck fusion" in its paper). Records
    `fused` [B, T*H*W, channels].

    Fields (not stated by Yu et al.; MBT itself has 4 bottleneck tokens and hidden layers of four times the
    channels):
      blocks, heads, bottlenecks: numbers of each; heads divide 512 times `width`. It takes two blocks for
        sound to reach the picture.
      width: multiplier of the 512 channels.
    """

    blocks: Annotated[int, Range(2, 64)] = 3
    heads: Count = 8
    bottlenecks: Count = 4
    width: Width = 1.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        channels = scaled(512, self.width)
        visual = Linear(channels, runtime=self.runtime, name="visual")(as_tokens(level))
        audio = Linear(channels, runtime=self.runtime, name="audio")(tokens)
        # A weight and no bias, since it has to start from noise: equal tokens would remain equal.
        bottleneck = self.param("projection", Weights(), (self.bottlenecks, channels))
        bottleneck = jnp.broadcast_to(bottleneck.astype(visual.dtype)[None], (len(visual), *bottleneck.shape))
        for number in range(1, self.blocks + 1):
            visual, visual_bottleneck = self._block(
                f"visual{number}", tokens=visual, bottleneck=bottleneck, train=train
            )
            if number < self.blocks:  # the audio output of the last block would be unused
                audio, audio_bottleneck = self._block(
                    f"audio{number}", tokens=audio, bottleneck=bottleneck, train=train
                )
                bottleneck = (visual_bottleneck + audio_bottleneck) / 2
        self.sow("intermediates", "fused", visual)
        output = Linear(level.shape[-1], runtime=self.runtime, name="output")(visual)
        return (*finer, as_level(output, level))

    def _block(self, name, tokens, bottleneck, train):
        """Applies a transformer layer to a modality's tokens and the bottleneck; returns both separately."""
        block = PreNormBlock(self.heads, self.runtime, name=name)
        joined = block(jnp.concatenate([tokens, bottleneck], 1), train)
        return jnp.split(joined, [tokens.shape[1]], 1)


class PreNormBlock(nn.Module):
    """The layer of ViT: x + attention(norm(x)), then x + MLP(norm(x)); tokens [B, N, C] -> [B, N, C]."""

    heads: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        channels, runtime = x.shape[-1], self.runtime
        y = layer_norm(1e-6, runtime, "norm1")(x)
        attention = MultiHeadAttention(channels, self.heads, runtime=runtime, name="attention")
        x = x + attention(y, y, train)
        y = layer_norm(1e-6, runtime, "norm2")(x)
        y = nn.gelu(Linear(4 * channels, runtime=runtime, name="expand")(y), approximate=False)
        return x + Linear(channels, runtime=runtime, name="reduce")(y)
