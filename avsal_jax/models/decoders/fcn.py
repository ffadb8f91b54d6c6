"""The FCN decoder that CASP-Net is compared with (Xiong et al. 2023, Table 1)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.layers import Conv3D, ConvTranspose3D, Norm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.registry import register


@register("head", "fcn")
class FCNDecoder(Part):
    """Coarsest level [B, T', H/32, W/32, C] of the pyramid -> logits [B, H, W] (before the sigmoid).

    "Multi-layers network with architecture: 3D Deconv + ReLU + BN": five transposed convolutions (1,4,4) with
    stride (1,2,2) and padding (0,1,1), each followed by ReLU, then batch norm; a (T',1,1) convolution ends
    time, a 1x1x1 one reads out. Kernels and widths are not stated in the paper: these give 1.75 M parameters
    on 256 channels, Table 1 prints 1.77 M. Finer levels are not used (the skips are the UNet's), so what a
    neck makes of them has no effect on the map.

    Fields:
      width: multiplier of the channel counts 256, 128, 64, 32, 16.
    """

    width: Width = 1.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        x = pyramid[-1]
        for number, channels in enumerate((256, 128, 64, 32, 16), start=1):
            shape = ((1, 4, 4), (1, 2, 2), (0, 1, 1))
            features = scaled(channels, self.width)
            x = nn.relu(ConvTranspose3D(features, *shape, runtime=self.runtime, name=f"upsample{number}")(x))
            x = Norm(1e-5, runtime=self.runtime, name=f"upsample{number}_norm")(x, train)
        x = Conv3D(x.shape[-1], (x.shape[1], 1, 1), runtime=self.runtime, name="collapse")(x)
        x = Conv3D(1, (1, 1, 1), use_bias=True, runtime=self.runtime, name="readout")(nn.relu(x))
        return x[:, 0, :, :, 0].astype(jnp.float32)
