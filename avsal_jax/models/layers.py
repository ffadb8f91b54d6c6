"""Building blocks shared by encoders, necks, fusions and decoders: convolution, linear map, norm, ReLU.

Arrays are [B, T, H, W, C]. Every block takes the same run-time fields (`Runtime`), which change how
a function is computed and never which function it is.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.initial import BEFORE_RELU, ONES, ZEROS, Constant, Weights, bias_of
from avsal_jax.ops.convolution import conv2d, conv3d, conv_transpose3d
from avsal_jax.spec.fields import Range

# Types of fields that many parts have.
Width = Annotated[float, Range(0, 16, above=True)]  # multiplier of channel counts
Channels = Annotated[int, Range(1, 4096)]
Count = Annotated[int, Range(1, 64)]
Dropout = Annotated[float, Range(0, 0.99)]


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How a network is run; given by whoever builds it, the same for all slots.

    Attributes:
      dtype: of the computation; parameters, batch statistics and norms remain float32.
      remat: whether each encoder stage is recomputed in the backward pass to save memory.
      frozen_norm: whether batch norm uses its running statistics in training too.
      norm_momentum: share of the old running statistics kept per step: 0.999 as the PyTorch S3D
        (torch momentum 0.001) when fine-tuning, 0.99 from scratch.
      unbiased_variance: whether running variances take the unbiased variance of a batch, as torch's do;
        Flax's take the biased one, which is (n - 1) / n of it for n values of a channel.
      lowering: of convolutions, see `avsal_jax.ops.convolution.conv3d`.
    """

    dtype: Any = jnp.float32
    remat: bool = False
    frozen_norm: bool = False
    norm_momentum: float = 0.999
    unbiased_variance: bool = False
    lowering: str = "auto"


def scaled(channels: int, width: float) -> int:
    """Returns `channels` times the width multiplier, at least 1."""
    return max(1, round(channels * width))


class Conv3D(nn.Module):
    """Convolution [B, T, H, W, I] -> [B, T', H', W', features] with explicit pads (`ops.conv3d`).

    With `pads_time=False` the call leaves out the zeros before the first and after the last frame.
    """

    features: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[int, int, int] = (0, 0, 0)
    dilation: tuple[int, int, int] = (1, 1, 1)
    use_bias: bool = False
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, pads_time: bool = True) -> jax.Array:
        shape = (*self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", BEFORE_RELU, shape)
        dtype = self.runtime.dtype
        y = conv3d(
            x.astype(dtype),
            kernel.astype(dtype),
            stride=self.stride,
            padding=self.padding if pads_time else (0, *self.padding[1:]),
            dilation=self.dilation,
            lowering=self.runtime.lowering,
        )
        if self.use_bias:
            bias = self.param("bias", bias_of(math.prod(shape[:-1])), (self.features,))
            y = y + bias.astype(dtype).reshape(1, 1, 1, 1, -1)
        return y


class Conv2D(nn.Module):
    """Convolution of single frames [..., H, W, I] -> [..., H, W, features], zeros around them, with a bias.

    Fields:
      size: of the kernel; odd.
    """

    features: int
    size: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape, dtype = (self.size, self.size, x.shape[-1], self.features), self.runtime.dtype
        kernel = self.param("kernel", BEFORE_RELU, shape)
        pads = ((self.size // 2,) * 2,) * 2
        y = conv2d(x.astype(dtype), kernel.astype(dtype), padding=pads)
        bias = self.param("bias", bias_of(math.prod(shape[:-1])), (self.features,)).astype(dtype)
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class ConvTranspose3D(nn.Module):
    """Transposed convolution [B, T, H, W, I] -> [..., features] (`ops.conv_transpose3d`), no bias."""

    features: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel, x.shape[-1], self.features)
        bound = 1 / math.sqrt(math.prod(self.kernel) * self.features)  # torch's fan-in is that of the output
        kernel = self.param("kernel", Weights(2.0, bound), shape)
        dtype = self.runtime.dtype
        return conv_transpose3d(
            x.astype(dtype),
            kernel.astype(dtype),
            stride=self.stride,
            padding=self.padding,
            lowering=self.runtime.lowering,
        )


class Linear(nn.Module):
    """Linear map of the channels [..., I] -> [..., features], with ReLU after it where `relu`.

    The weights are a leaf `kernel` where a ReLU follows, else `projection`: they start with variance
    2 / I and 1 / I.

    Fields:
      zero_start: whether weights and bias start at zero under both starts.
      public_start: bounds of the weights and of the bias under the start `torch`, where torch's layer is
        not its Linear; None for that.
    """

    features: int
    use_bias: bool = True
    relu: bool = False
    zero_start: bool = False
    public_start: tuple[float, float] | None = None
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtype, shape = self.runtime.dtype, (x.shape[-1], self.features)
        bounds = self.public_start or (1 / math.sqrt(shape[0]),) * 2
        name, initial = ("kernel", 2.0) if self.relu else ("projection", 1.0)
        weights = self.param(name, ZEROS if self.zero_start else Weights(initial, bounds[0]), shape)
        y = jnp.einsum("...i,io->...o", x.astype(dtype), weights.astype(dtype))
        if self.use_bias:
            start = ZEROS if self.zero_start else Constant(0.0, bounds[1])
            bias = self.param("bias", start, (self.features,)).astype(dtype)
            y = y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
        return nn.relu(y) if self.relu else y


class Norm(nn.Module):
    """Batch normalisation over all axes but the last; statistics span the global batch under a mesh."""

    epsilon: float = 1e-3  # S3D's; torch's default is 1e-5
    momentum: float | None = None  # None: the runtime's, which is S3D's; torch's default is 0.9
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        running = self.runtime.frozen_norm or not train
        momentum = self.runtime.norm_momentum if self.momentum is None else self.momentum
        batch = nn.BatchNorm(
            use_running_average=running,
            momentum=momentum,
            epsilon=self.epsilon,
            dtype=self.runtime.dtype,
            scale_init=ONES,
            bias_init=ZEROS,
            name="batch",
        )
        if running or not self.runtime.unbiased_variance or self.is_initializing():
            return batch(x)
        before = momentum * batch.get_variable("batch_stats", "var")
        y = batch(x)
        biased, count = batch.get_variable("batch_stats", "var"), x.size // x.shape[-1]
        batch.put_variable("batch_stats", "var", biased + (biased - before) / max(1, count - 1))
        return y


def layer_norm(epsilon: float, runtime: Runtime, name: str) -> nn.LayerNorm:
    """Returns layer normalisation of the channels, with a scale and a bias."""
    return nn.LayerNorm(epsilon=epsilon, dtype=runtime.dtype, scale_init=ONES, bias_init=ZEROS, name=name)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU: the unit of S3D."""

    features: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[int, int, int] = (0, 0, 0)
    dilation: tuple[int, int, int] = (1, 1, 1)
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, pads_time: bool = True) -> jax.Array:
        x = Conv3D(
            self.features,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            runtime=self.runtime,
            name="conv",
        )(x, pads_time)
        return nn.relu(Norm(runtime=self.runtime, name="norm")(x, train))


class SeparableConv(nn.Module):
    """A spatial `ConvNorm` (1, k, k), then a temporal one (k, 1, 1)."""

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    runtime: Runtime = Runtime()

    def setup(self):
        k, s, p = self.size, self.stride, self.padding
        self.spatial = ConvNorm(
            self.features, kernel=(1, k, k), stride=(1, s, s), padding=(0, p, p), runtime=self.runtime
        )
        self.temporal = ConvNorm(
            self.features, kernel=(k, 1, 1), stride=(s, 1, 1), padding=(p, 0, 0), runtime=self.runtime
        )

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.temporal(self.spatial(x, train), train)
