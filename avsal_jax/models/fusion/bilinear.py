"""AViNet(B): the bilinear form of picture and sound (Jain et al. 2021, 3.2; samyak0210/ViNet @2a52666)."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.tokens import Columns, as_level, as_tokens, pooled
from avsal_jax.models.initial import Constant, Weights
from avsal_jax.models.layers import Linear, Runtime
from avsal_jax.registry import register


@register("fusion", "bilinear")
class Bilinear(Fusion):
    """Replaces the coarsest level by z_o = sum_ij v_i W_ijo a_j + b_o, weights shared over the channels.

    v are the tokens of the pooled level (`tokens.pooled`), a those of the sound, o the places of the
    level: for clips of 32 frames of 224x384 with 70,560 samples 42, 3 and 336. The visual level reaches
    the decoder through this form alone, as in the public code. The weights fit one size of clip and sound.

    Where sound and picture have unlike numbers of channels, which the public code does not know, a linear
    map brings the sound to the picture's.

    Fields:
      columns: of the max pooling ("Max Pool" in the paper), see `tokens.pooled`: `every_second` as in the
        public code, or `pairs`, which keeps all columns.

    Records `fused`: z as tokens [B, 336, C].
    """

    columns: Columns = "every_second"
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(
        self, pyramid: tuple[jax.Array, ...], tokens: jax.Array | None, train: bool = False
    ) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        dtype = self.runtime.dtype
        picture = as_tokens(pooled(level, self.columns)).astype(dtype)
        if tokens.shape[-1] != level.shape[-1]:
            tokens = Linear(level.shape[-1], runtime=self.runtime, name="sound")(tokens)
        outputs = level.shape[1] * level.shape[2] * level.shape[3]
        shape = (picture.shape[1], tokens.shape[1], outputs)
        bound = 1 / math.sqrt(shape[0])  # torch.nn.Bilinear's
        weights = self.param("projection", Weights(bound=bound), shape)
        bias = self.param("bias", Constant(0.0, bound), (outputs,))
        fused = jnp.einsum("bic,bjc,ijo->boc", picture, tokens.astype(dtype), weights.astype(dtype))
        fused = fused + bias.astype(dtype).reshape(1, -1, 1)
        self.sow("intermediates", "fused", fused)
        return (*finer, as_level(fused, level))
