"""Cross-modal attention of the dual domain-adversarial model (Fan et al. 2022, 3.1, 3.2; no public code)."""

from __future__ import annotations

from typing import Annotated, Literal

import flax.linen as nn
import jax

from avsal_jax.models.fusion.attention import MultiHeadAttention
from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import Columns, as_level, as_tokens, pooled
from avsal_jax.models.layers import Count, Linear, Runtime, Width, scaled
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range


@register("fusion", "cross_modal")
class CrossModal(Fusion):
    """Attention from visual to audio tokens (Fan et al. 2022, Eq. 1); replaces the coarsest level O_V.

    X_V: the level after "a max pooling layer" (42 tokens as in the paper), brought to 512 channels by a
    convolution of kernel 1; X_A: the sound's tokens, likewise. Y = softmax(X_V W_Q (X_A W_K)^T / sqrt(d))
    X_A W_V, without biases; X1 = X_V + Y; X2 = X1 + MLP(X1); O_AV = X_V + FC(X2).

    Not stated in the paper, and fields here:
      columns: of the max pooling, see `tokens.pooled`: `every_second` as in AViNet's code, which drops the
        others, or `pairs`, which keeps all columns.
      width: multiplier of the 512 channels (which are stated).
      heads: Eq. 1 has one.
      expansion: hidden channels of the MLP over its channels; one hidden layer with ReLU.
      residual: `X_V` as printed: O_AV goes back to 4 x 7 x 12 x 1024 afterwards, or `O_V`: FC(X2) goes
        back first, and the whole level is added.
      restore: how it goes back ("O_AV are fed into a decoder"): `linear`, a linear map from 42 to 336
        places for each channel, which fits one size of clip, or `trilinear`, a resize; then one from 512
        channels to the level's.

    Records `fused`: O_AV, [B, 42, 512] or, with the residual `O_V`, [B, 336, 1024]; and `attention`
    [B, heads, 42, 3].
    """

    columns: Columns = "every_second"
    width: Width = 1.0
    heads: Count = 1
    expansion: Annotated[float, Range(0, 64, above=True)] = 4.0
    residual: Literal["X_V", "O_V"] = "X_V"
    restore: Literal["linear", "trilinear"] = "linear"
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(
        self, pyramid: tuple[jax.Array, ...], tokens: jax.Array | None, train: bool = False
    ) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        small, channels = pooled(level, self.columns), scaled(512, self.width)
        picture = self._linear("picture", as_tokens(small), channels)  # X_V
        sound = self._linear("sound", tokens, channels)  # X_A
        attention = MultiHeadAttention(
            channels, self.heads, use_bias=False, output=False, runtime=self.runtime, name="attention"
        )
        x = picture + attention(picture, sound, train)
        hidden = Linear(scaled(channels, self.expansion), relu=True, runtime=self.runtime, name="expand")(x)
        x = x + self._linear("reduce", hidden, channels)
        x = self._linear("out", x, channels)
        fused = picture + x if self.residual == "X_V" else as_tokens(level) + self._restored(x, small, level)
        self.sow("intermediates", "fused", fused)
        restored = self._restored(fused, small, level) if self.residual == "X_V" else fused
        return (*finer, as_level(restored, level))

    def _restored(self, x, small, level):
        """[B, 42, 512] -> [B, 336, 1024]."""
        places = level.shape[1] * level.shape[2] * level.shape[3]
        if self.restore == "linear":
            x = self._linear("places", x.swapaxes(1, 2), places).swapaxes(1, 2)
        else:
            x = as_tokens(resize_linear(as_level(x, small), level.shape[1:4]))
        return self._linear("channels", x, level.shape[-1])

    def _linear(self, name, x, features):
        return Linear(features, runtime=self.runtime, name=name)(x)
