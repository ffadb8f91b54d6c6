"""AViNet(T): a transformer over picture and sound (Jain et al. 2021, 3.2; samyak0210/ViNet @2a52666)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.fusion.attention import MultiHeadAttention
from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import as_level, as_tokens, audio_level
from avsal_jax.models.layers import Count, Dropout, Linear, Runtime, Width, layer_norm, scaled
from avsal_jax.ops.attention import sinusoids
from avsal_jax.registry import register


@register("fusion", "transformer")
class Transformer(Fusion):
    """Self-attention over the tokens of the coarsest level and of the sound, one sequence.

    Both are projected to 512 channels; the 4 x 7 x 12 = 336 visual tokens come first, then the 3 audio
    tokens. The decoder's input at this level is the visual tokens concatenated with the mean of the audio
    tokens: 1024 channels.

    Fields:
      width: multiplier of the 512 channels, and of the 512 of the feed-forward layers.
      layers, heads: of the encoder.
      positions: whether the sinusoid table is added, as in the public code; the paper has none.
      dropout: in training, where torch.nn.TransformerEncoderLayer has it.

    Records `fused`: the encoder's output [B, 339, 512]; and `attention` [B, heads, 339, 339] of every
    layer.
    """

    width: Width = 1.0
    layers: Count = 3
    heads: Count = 4
    positions: bool = True
    dropout: Dropout = 0.1
    runtime: Runtime = Runtime()

    joins_tokens = True

    @nn.compact
    def __call__(
        self, pyramid: tuple[jax.Array, ...], tokens: jax.Array | None, train: bool = False
    ) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        channels, runtime = scaled(512, self.width), self.runtime
        picture = Linear(channels, runtime=runtime, name="picture")(as_tokens(level))
        sound = Linear(channels, runtime=runtime, name="sound")(tokens)
        x = jnp.concatenate([picture, sound], 1)
        if self.positions:
            x = x + sinusoids(x.shape[1], channels)[None].astype(x.dtype)
        for number in range(self.layers):
            layer = EncoderLayer(
                channels,
                hidden=channels,
                heads=self.heads,
                dropout=self.dropout,
                runtime=runtime,
                name=f"layer{number}",
            )
            x = layer(x, train)
        self.sow("intermediates", "fused", x)
        picture, sound = jnp.split(x, [picture.shape[1]], 1)
        picture = as_level(picture, level)
        return (*finer, jnp.concatenate([picture, audio_level(sound, level, "mean")], -1))


class EncoderLayer(nn.Module):
    """torch.nn.TransformerEncoderLayer with ReLU and norms after the sums; tokens [B, N, channels].

    Fields:
      channels: of the tokens; hidden: of the feed-forward layer.
      heads, dropout: as there.
    """

    channels: int
    hidden: int
    heads: int
    dropout: float = 0.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = MultiHeadAttention(
            self.channels, self.heads, dropout=self.dropout, runtime=self.runtime, name="attention"
        )
        x = self._norm("norm1", x + drop(attention(x, x, train)))
        hidden = drop(Linear(self.hidden, relu=True, runtime=self.runtime, name="expand")(x))
        reduced = Linear(self.channels, runtime=self.runtime, name="reduce")(hidden)
        return self._norm("norm2", x + drop(reduced))

    def _norm(self, name, x):
        return layer_norm(1e-5, self.runtime, name)(x)
