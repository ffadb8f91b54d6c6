"""SalDecoder, CASP-Net's decoder (Xiong et al. 2023, section 3.4)."""

from __future__ import annotations

from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.layers import Channels, Conv3D, ConvNorm, Norm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

_EPSILON = 1e-5


class PreActivation(nn.Module):
    """Batch norm, ReLU, convolution without bias."""

    features: int
    kernel: tuple[int, int, int]
    padding: tuple[int, int, int] = (0, 0, 0)
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(Norm(_EPSILON, runtime=self.runtime, name="norm")(x, train))
        conv = Conv3D(self.features, self.kernel, padding=self.padding, runtime=self.runtime, name="conv")
        return conv(x)


class DenseBlock(nn.Module):
    """[B, T, H, W, C] -> [B, frames, H, W, features]: dense layers (Huang et al. 2017), then time is aligned.

    A layer is BN, ReLU, 1x1x1 to 4 x growth, BN, ReLU, 3x3x3 to growth, concatenated with its input; the
    alignment BN, ReLU, (T / frames, 1, 1) with that stride.
    """

    features: int
    growth: int
    layers: int
    frames: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def unit(name, features, kernel, padding=(0, 0, 0)):
            return PreActivation(features, kernel, padding, runtime=self.runtime, name=name)

        for number in range(1, self.layers + 1):
            inner = unit(f"reduce{number}", 4 * self.growth, (1, 1, 1))(x, train)
            new = unit(f"grow{number}", features=self.growth, kernel=(3, 3, 3), padding=(1, 1, 1))(
                inner, train
            )
            x = jnp.concatenate([x, new], -1)
        time = x.shape[1] // self.frames
        x = nn.relu(Norm(_EPSILON, runtime=self.runtime, name="align_norm")(x, train))
        return Conv3D(self.features, (time, 1, 1), (time, 1, 1), runtime=self.runtime, name="align")(x)


@register("head", "sal")
class SalDecoder(Part):
    """Pyramid [B, T', H', W', C'] x 4, finest first -> logits [B, H, W] (before the sigmoid).

    Stage i = 4 .. 1: a dense block, which brings time to that of the coarsest level (2 for 16 frames); the
    sum with the outputs of coarser stages, upsampled to the same size; feature generation, two times BN,
    ReLU, 3x3x3 convolution. Then stage 1 alternates convolution and x2 upsampling twice, and a 1x1x1
    convolution reads out. Stated are these parts, their order and the size, 2.49 M parameters; counts and
    widths are not stated in the paper: the defaults give 2.43 M on levels of 256 channels.

    Fields:
      skips: which outputs join in the fusion: `all` coarser stages ("from all previous decoder's blocks",
        introduction and figure 2) or the `previous` one (section 3.4).
      dense_layers: of a dense block.
      growth: channels that a dense layer adds.
      width: multiplier of the channel counts, with the growth.
    """

    skips: Literal["all", "previous"] = "all"
    dense_layers: Annotated[int, Range(0, 16)] = 2
    growth: Channels = 32
    width: Width = 1.0
    runtime: Runtime = Runtime()

    def idle_fields(self) -> dict[str, str]:
        return {} if self.dense_layers else {"growth": "dense_layers=0"}

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        features, frames = scaled(64, self.width), pyramid[-1].shape[1]
        growth = scaled(self.growth, self.width)
        outputs = []
        for stage in range(len(pyramid), 0, -1):
            block = DenseBlock(
                features,
                growth=growth,
                layers=self.dense_layers,
                frames=frames,
                runtime=self.runtime,
                name=f"dense{stage}",
            )
            x = block(pyramid[stage - 1], train)
            joined = outputs if self.skips == "all" else outputs[-1:]
            x = sum((resize_linear(y, x.shape[2:4]) for y in joined), start=x)
            for number in (1, 2):
                unit = PreActivation(
                    features, (3, 3, 3), (1, 1, 1), runtime=self.runtime, name=f"generate{stage}_{number}"
                )
                x = unit(x, train)
            outputs.append(x)
        return self._map(outputs[-1], train)

    def _map(self, x, train):
        first, second = scaled(64, self.width), scaled(32, self.width)
        x = ConvNorm(first, (3, 3, 3), padding=(1, 1, 1), runtime=self.runtime, name="conv1")(x, train)
        x = resize_linear(x, (2 * x.shape[2], 2 * x.shape[3]))
        collapse = (x.shape[1], 3, 3)
        x = ConvNorm(second, collapse, padding=(0, 1, 1), runtime=self.runtime, name="conv2")(x, train)
        x = resize_linear(x, (2 * x.shape[2], 2 * x.shape[3]))
        x = Conv3D(1, (1, 1, 1), use_bias=True, runtime=self.runtime, name="readout")(x)
        return x[:, 0, :, :, 0].astype(jnp.float32)
