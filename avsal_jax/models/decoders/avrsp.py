"""The AVRSP decoder (Yu et al. 2024, III-D): four blocks of a convolution and an upsampling."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.layers import Conv3D, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register

_CHANNELS = (256, 192, 128, 64)


@register("head", "avrsp")
class AVRSPDecoder(Part):
    """Pyramid [B, T', H', W', C'] x 4, finest first -> logits [B, H, W] (before the sigmoid).

    Each block convolves 3x3x3 and upsamples in space: to the size of the next finer level, the last one
    fourfold, to the size of the frame. Blocks 2 to 4 also take their level of the pyramid, brought to the
    decoder's T/8 time steps and channels by a convolution whose temporal stride equals its temporal kernel,
    as in ViNet; time collapses before the last upsampling. Channels, and how time is reduced, are not
    stated in the paper.

    Fields:
      skips: `plain` (finer levels are read as the fusion returned them) or `none` (the coarsest one alone:
        the paper's network without synergy and gates; what the neck makes of the other levels then has no
        effect on the map).
      width: multiplier of the channel counts 256, 192, 128, 64.
    """

    skips: Literal["plain", "none"] = "plain"
    width: Width = 1.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        levels = pyramid[::-1]
        stage = AVRSPDecoder._block
        if self.runtime.remat:
            stage = nn.remat(stage, static_argnums=(1, 4))
        x, steps = levels[0], levels[0].shape[1]
        for number in range(4):
            x = stage(self, number, x, levels[number], steps)
        x = resize_linear(x, (4 * x.shape[2], 4 * x.shape[3]))
        x = self._conv("readout", channels=1, kernel=(1, 1, 1), stride=1, padding=(0, 0, 0), x=x)
        return x[:, 0, :, :, 0].astype(jnp.float32)

    def _block(self, number, x, level, steps):
        """Block `number` + 1; the last one collapses time."""
        channels = scaled(_CHANNELS[number], self.width)
        if number > 0:
            x = resize_linear(x, level.shape[2:4])
            if self.skips == "plain":
                tapped = self._tapped(number, level=level, channels=channels, steps=steps)
                x = jnp.concatenate([x, tapped], -1)
        name, pad = f"conv{number + 1}", (1, 1, 1)
        x = nn.relu(self._conv(name, channels=channels, kernel=(3, 3, 3), stride=1, padding=pad, x=x))
        if number < 3 or steps == 1:
            return x
        kernel = (steps, 1, 1)
        x = self._conv("collapse", channels=channels, kernel=kernel, stride=steps, padding=(0, 0, 0), x=x)
        return nn.relu(x)

    def _tapped(self, number, level, channels, steps):
        time = level.shape[1] // steps
        return nn.relu(
            self._conv(
                f"tap{number + 1}",
                channels=channels,
                kernel=(time, 1, 1),
                stride=time,
                padding=(0, 0, 0),
                x=level,
            )
        )

    def _conv(self, name, channels, kernel, stride, padding, x):
        conv = Conv3D(
            channels,
            kernel=kernel,
            stride=(stride, 1, 1),
            padding=padding,
            use_bias=True,
            runtime=self.runtime,
            name=name,
        )
        return conv(x)
