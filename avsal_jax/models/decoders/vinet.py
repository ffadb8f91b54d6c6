"""The ViNet decoder (Jain et al. 2021, figure 2; samyak0210/ViNet @2a52666)."""

from __future__ import annotations

from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.models.layers import Conv3D, ConvTranspose3D, Norm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

CLIP_LENGTHS = (8, 16, 32, 48)


@register("head", "vinet")
class ViNetDecoder(Part):
    """Pyramid [B, T', H', W', C'] x 4, finest first -> logits [B, H, W] (before the sigmoid).

    Fields:
      hierarchy: how many finer levels join the coarsest, 0 to 3, coarse ones first.
      upsample: `trilinear` (x2 in space), or `transposed`: convolution (1,4,4), stride (1,2,2),
        padding (0,1,1), batch norm, ReLU.
      join: `time` as in the public code: the decoder's frames, then the tap's, and a convolution whose
        temporal stride equals its temporal kernel; or `channels`, the paper's variant: the decoder
        feature is upsampled to the tap's length, concatenated on channels, convolved 3x3x3 with
        padding 1, and time collapses last. Where that leaves the kernels of the last two
        convolutions open ("not stated in the paper"), they are (1,3,3) and (T/2,1,1). Frames of one
        sequence have the same channels: taps whose neck or gates gave them others than the paper's are
        brought to the decoder's by a convolution of kernel 1.
      width: multiplier of the channel counts 832, 480, 192, 64, 32.

    Raises:
      AvsalError: with `join="time"`, for clips that do not have 8, 16, 32 or 48 frames.
    """

    hierarchy: Annotated[int, Range(0, 3)] = 3
    upsample: Literal["trilinear", "transposed"] = "trilinear"
    join: Literal["time", "channels"] = "time"
    width: Width = 1.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        self._check(pyramid)
        x = pyramid[3]
        for level, channels in enumerate((832, 480, 192, 64)):  # D1 to D4
            if 1 <= level <= self.hierarchy:
                x, time, stride, pad = self._joined(x, pyramid[3 - level], level + 1)
            else:
                time, stride, pad = 1, 1, 0
            x = self._conv(
                f"conv{level + 1}",
                x=x,
                channels=channels,
                kernel=(time, 3, 3),
                stride=stride,
                padding=(pad, 1, 1),
            )
            x = self._upsampled(x, level + 1, train)

        halve = self.join == "time" and x.shape[1] > 1
        time = 2 if halve else 1
        x = self._conv("conv5", x=x, channels=32, kernel=(time, 3, 3), stride=time, padding=(0, 1, 1))  # D5
        x = self._upsampled(x, 5, train)
        if x.shape[1] > 1:  # D6; the public class for 48 frames has a bias here, the others have none
            time = x.shape[1]
            bias = self.join == "time" and time == 3
            x = self._conv(
                "collapse",
                x=x,
                channels=32,
                kernel=(time, 1, 1),
                stride=time,
                padding=(0, 0, 0),
                use_bias=bias,
            )
        x = Conv3D(1, (1, 1, 1), use_bias=True, runtime=self.runtime, name="readout")(x)
        return x[:, 0, :, :, 0].astype(jnp.float32)

    def _check(self, pyramid):
        frames = 8 * pyramid[3].shape[1]
        if self.join == "time" and frames not in CLIP_LENGTHS:
            if pyramid[0].shape[1] == pyramid[3].shape[1]:  # an encoder of single frames
                raise AvsalError(
                    "the head vinet with join=time needs an encoder that shortens time, as s3d; this one "
                    f"keeps all {pyramid[3].shape[1]} frames: set heads.saliency.join=channels, or "
                    "heads.saliency=unet"
                )
            raise AvsalError(f"ViNet takes clips of 8, 16, 32 or 48 frames; got {frames}")

    def _joined(self, x, tap, number):
        """Joins a tap; returns the joint feature and the temporal kernel, stride and pad to use."""
        if self.join == "channels":
            x = resize_linear(x, (tap.shape[1], *x.shape[2:4]))
            return jnp.concatenate([x, tap], -1), 3, 1, 1
        if tap.shape[-1] != x.shape[-1]:
            runtime = self.runtime
            tap = Conv3D(x.shape[-1], (1, 1, 1), use_bias=True, runtime=runtime, name=f"tap{number}")(tap)
        time = (x.shape[1] + tap.shape[1]) // x.shape[1]  # windows do not overlap: 12 -> 4, 20 -> 4
        return jnp.concatenate([x, tap], 1), time, time, 0

    def _conv(self, name, x, channels, kernel, stride, padding, use_bias=False):
        channels = scaled(channels, self.width)
        stride = (stride, 1, 1)
        conv = Conv3D(
            channels,
            kernel=kernel,
            stride=stride,
            padding=padding,
            use_bias=use_bias,
            runtime=self.runtime,
            name=name,
        )
        return nn.relu(conv(x))

    def _upsampled(self, x, number, train):
        if self.upsample == "trilinear":
            return resize_linear(x, (2 * x.shape[2], 2 * x.shape[3]))
        conv = ConvTranspose3D(
            x.shape[-1],
            kernel=(1, 4, 4),
            stride=(1, 2, 2),
            padding=(0, 1, 1),
            runtime=self.runtime,
            name=f"upsample{number}",
        )
        return nn.relu(Norm(runtime=self.runtime, name=f"upsample{number}_norm")(conv(x), train))
