"""VGGish (Hershey et al. 2017; harritaylor/torchvggish @f3f9096) as an audio encoder."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax

from avsal_jax.errors import AvsalError
from avsal_jax.models.initial import BEFORE_RELU, bias_of
from avsal_jax.models.layers import Linear, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.registry import register
from avsal_jax.spec.front_ends import LogMel

_STAGES = ((64,), (128,), (256, 256), (512, 512))  # convolutions before each pooling


@register("audio_encoder", "vggish")
class VGGish(Part):
    """Log-mel patches [B, P, 96, 64] -> tokens [B, P, 128], one for each patch of 0.96 s.

    Fields:
      activation: of the embedding: `relu` as in the PyTorch port, or `none` as in the TensorFlow graph; the
        weights are the same. Which one CASP-Net took is not stated in the paper.
      width: multiplier of the channel counts, without that of the embedding.

    The map before the fully connected layers is recorded as the feature `vggish_maps` [B, P, 6, 4, 512]; it
    is flattened in the order height, width, channels. The post-processing (PCA, quantisation) is left out:
    CASP-Net (Xiong et al. 2023) takes the layers before it.

    Raises:
      AvsalError: sound of another shape, or no patch.
    """

    activation: Literal["relu", "none"] = "relu"
    width: Width = 1.0
    runtime: Runtime = Runtime()

    default_sound = LogMel()

    def setup(self):
        channels = [scaled(c, self.width) for stage in _STAGES for c in stage]
        shape = {"kernel_size": (3, 3), "padding": ((1, 1), (1, 1)), "dtype": self.runtime.dtype}
        self.convs = [
            nn.Conv(c, **shape, kernel_init=BEFORE_RELU, bias_init=bias_of(9 * inputs))
            for inputs, c in zip((1, *channels), channels, strict=False)
        ]
        hidden = scaled(4096, self.width)
        self.fully = [Linear(hidden, relu=True, runtime=self.runtime) for _ in range(2)]
        self.embedding = Linear(128, runtime=self.runtime)

    def __call__(self, patches: jax.Array, train: bool = False) -> jax.Array:
        shape = patches.shape
        if len(shape) != 4 or shape[1] < 1 or shape[2:] != (96, 64):
            raise AvsalError(
                f"VGGish takes log-mel patches [B, P, 96, 64] with P at least 1; got {tuple(shape)}. "
                "Silence is a patch of log(0.01)"
            )
        x = patches.reshape(-1, 96, 64, 1).astype(self.runtime.dtype)
        convs = iter(self.convs)
        for stage in _STAGES:
            for _ in stage:
                x = nn.relu(next(convs)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        self.sow("intermediates", "vggish_maps", x.reshape(*shape[:2], *x.shape[1:]))
        x = self.embedding(self.fully[1](self.fully[0](x.reshape(x.shape[0], -1))))
        if self.activation == "relu":
            x = nn.relu(x)
        return x.reshape(*shape[:2], -1)
