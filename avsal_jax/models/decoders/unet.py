"""The UNet decoder that CASP-Net is compared with (Xiong et al. 2023, Table 1)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.layers import Conv3D, ConvNorm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register


@register("head", "unet")
class UNetDecoder(Part):
    """Pyramid [B, T', H', W', C'] x 4, finest first -> logits [B, H, W] (before the sigmoid).

    "Alternates 3D Conv and Trilinear layers while adding UNet skip connections": 3x3x3 convolutions with
    batch norm and ReLU; after each of the first three the feature is resized to time, height and width of
    the next finer level and concatenated with it, then twice x2 in space; a (T',1,1) convolution ends time, a
    1x1x1 one reads out. Widths and norms are not stated in the paper: these give 3.89 M parameters on levels
    of 256 channels, Table 1 prints 3.94 M.

    Fields:
      width: multiplier of the channel counts 128, 128, 96, 64, 32, 16.
    """

    width: Width = 1.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        x = pyramid[-1]
        for number, channels in enumerate((128, 128, 96, 64, 32, 16), start=1):
            conv = ConvNorm(
                scaled(channels, self.width),
                (3, 3, 3),
                padding=(1, 1, 1),
                runtime=self.runtime,
                name=f"conv{number}",
            )
            x = conv(x, train)
            if number <= 3:
                skip = pyramid[3 - number]
                x = jnp.concatenate([resize_linear(x, skip.shape[1:4]), skip], -1)
            elif number <= 5:
                if number == 5:  # before the full size, where time would cost most
                    x = self._collapsed(x)
                x = resize_linear(x, (2 * x.shape[2], 2 * x.shape[3]))
        x = Conv3D(1, (1, 1, 1), use_bias=True, runtime=self.runtime, name="readout")(x)
        return x[:, 0, :, :, 0].astype(jnp.float32)

    def _collapsed(self, x):
        return nn.relu(Conv3D(x.shape[-1], (x.shape[1], 1, 1), runtime=self.runtime, name="collapse")(x))
