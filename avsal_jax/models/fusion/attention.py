"""Multi-head attention from one set of tokens to another, as a module."""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from avsal_jax.errors import AvsalError
from avsal_jax.models.layers import Linear, Runtime
from avsal_jax.ops.attention import attended, attention_weights


class MultiHeadAttention(nn.Module):
    """Tokens [B, N, C] read from other tokens [B, S, C'] -> [B, N, channels].

    Fields:
      channels: of queries, keys and values together; divides by `heads`.
      heads: contiguous chunks of the channels.
      use_bias: of the projections.
      output: whether a last projection mixes the heads, as in torch.nn.MultiheadAttention.
      dropout: of the weights, in training.

    Records `attention`, the weights [B, heads, N, S] before dropout.

    Raises:
      AvsalError: channels that do not divide by heads.
    """

    channels: int
    heads: int = 1
    use_bias: bool = True
    output: bool = True
    dropout: float = 0.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, tokens: jax.Array, context: jax.Array, train: bool = False) -> jax.Array:
        if self.heads < 1 or self.channels % self.heads:
            raise AvsalError(
                f"attention over {self.channels} channels does not divide into {self.heads} heads: change "
                "fusion.heads or fusion.width"
            )
        # torch.nn.MultiheadAttention: Glorot's bound of the three maps as one, and no bias at first.
        bound = math.sqrt(6 / (4 * self.channels)) if self.output else 1 / math.sqrt(self.channels)
        query, key, value = (
            self._projected(name, x, bound)
            for name, x in (("query", tokens), ("key", context), ("value", context))
        )
        weights = attention_weights(query, key, self.heads)
        self.sow("intermediates", "attention", weights)
        weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
        mixed = attended(weights, value)
        return self._projected("output", mixed, 1 / math.sqrt(self.channels)) if self.output else mixed

    def _projected(self, name, x, bound):
        start, runtime = (bound, 0.0), self.runtime
        linear = Linear(self.channels, self.use_bias, public_start=start, runtime=runtime, name=name)
        return linear(x)
