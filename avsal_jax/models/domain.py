"""Domain discriminators of domain-adversarial training (Fan et al. 2022, 3.3; no public code)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.layers import Linear, Norm, Runtime

# Widths for the features `audio` and `fused`: not stated in the paper. Those of `audio` are HD2S_DA's
# (perceivelab/hd2s @3289dc1), whose classifier of the deepest feature has the same layers; those of `fused`
# are ours, for its tokens are many more.
CHANNELS = {"audio": (512, 64, 16), "fused": (128, 64, 16)}


class DomainDiscriminator(nn.Module):
    """Tokens [B, N, C] -> logits [B]; their sigmoid is the probability of the source domain.

    Three 1x1 convolutions, each with batch norm and ReLU, compress the channels; then all tokens go
    through three fully connected layers, of which the hidden ones have batch norm and ReLU too: not stated
    in the paper, so in HD2S_DA. Without it the few hidden units die while the features move, and a
    discriminator that says one half to all clips has no gradient left, for itself and for the features.
    Gradient reversal (`ops.gradient_reversal`) is the caller's. The weights fit one number of tokens.

    In training its norms use the statistics of the clips that they are given: source and target clips
    belong into one call. Each domain alone would be normalised by its own mean, which hides the
    difference that is to be seen.

    Fields:
      channels: of the convolutions.
      hidden: of the fully connected layers before the last.
      runtime: see `layers.Runtime`; without `frozen_norm`, since nothing has trained its statistics. They
        keep 0.9 of the old ones per step.
    """

    channels: tuple[int, ...] = CHANNELS["audio"]
    hidden: tuple[int, ...] = (64, 16)
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        x = tokens
        for number, channels in enumerate(self.channels, start=1):
            x = self._layer(f"conv{number}", channels=channels, x=x, train=train)
        x = x.reshape(x.shape[0], -1)
        for number, channels in enumerate(self.hidden, start=1):
            x = self._layer(f"full{number}", channels=channels, x=x, train=train)
        x = Linear(1, runtime=self.runtime, name=f"full{len(self.hidden) + 1}")(x)
        return x[:, 0].astype(jnp.float32)

    def _layer(self, name, channels, x, train):
        x = Linear(channels, runtime=self.runtime, name=name)(x)
        norm = Norm(epsilon=1e-5, momentum=0.9, runtime=self.runtime, name=f"{name}_norm")
        return nn.relu(norm(x, train))
