"""The convolutions of consistency-aware predictive coding (CASP-Net, Xiong et al. 2023, 3.3)."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.fusion.tokens import audio_level
from avsal_jax.models.initial import Weights, bias_of
from avsal_jax.models.layers import Runtime
from avsal_jax.models.part import Limit
from avsal_jax.ops.convolution import conv3d, conv_transpose3d
from avsal_jax.ops.predictive_coding import Coding, map_norm, predictive_coding

_SIZE, _PAD = (3, 3, 3), (1, 1, 1)
_GRID = (2, 7, 12)


class _Kernel(nn.Module):
    """The weights [3, 3, 3, inputs, features] and bias of a convolution that is run elsewhere."""

    inputs: int
    features: int
    before_relu: bool

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        shape = (*_SIZE, self.inputs, self.features)
        gain = 2.0 if self.before_relu else 1.0
        kernel = self.param("kernel" if self.before_relu else "projection", Weights(gain), shape)
        return kernel, self.param("bias", bias_of(math.prod(shape[:-1])), (self.features,))


class PredictiveCoding(nn.Module):
    """Picture [B, T, H, W, C] and sound [B, S, A] -> picture, more consistent with the sound.

    Bottom-up: 3-D convolution 3x3x3, ReLU; top-down: 3-D transposed convolution 3x3x3, affine. Sizes, strides
    and the number of layers are not stated in the paper; here T, H, W and C are kept.

    Fields:
      coding: see `ops.predictive_coding.Coding`. The parameters are the same for every number of iterations.

    Features recorded: `coding_activity` [B, N+1, T, H, W, C], mu_0 before and after each iteration;
    `coding_error` [B, N+1, L+1], each squared error over the squared norm of all activities, from the sound
    upwards; `coding_square` [B, N+1, L+1], the squared errors themselves; `coding_norm` [B, N+1, L+1], the
    norms of mu_0 .. mu_L.
    """

    coding: Coding = Coding()
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, vision: jax.Array, sound: jax.Array) -> jax.Array:
        channels = vision.shape[-1]
        bottom_up = [self._bottom_up(f"up{i}", channels) for i in range(1, self.coding.layers + 1)]
        top_down = [self._top_down("down0", channels, sound.shape[-1])]
        top_down += [self._top_down(f"down{i}", channels, channels) for i in range(1, self.coding.layers + 1)]
        if self.coding.target == "pooled":
            top_down[0] = _pooled(top_down[0], sound.shape[1])
        else:
            sound = audio_level(sound, vision)
        result, trace = predictive_coding(
            vision, sound=sound, bottom_up=bottom_up, top_down=top_down, coding=self.coding
        )
        for name, value in trace._asdict().items():
            self.sow("intermediates", f"coding_{name}", jnp.moveaxis(value, 0, 1))
        return result.astype(vision.dtype)

    def _bottom_up(self, name, channels):
        kernel, bias = self._weights(name, inputs=channels, features=channels, before_relu=True)
        return lambda mu: nn.relu(self._run(conv3d, mu, kernel) + bias)

    def _top_down(self, name, inputs, features):
        kernel, bias = self._weights(name, inputs=inputs, features=features, before_relu=False)
        return lambda mu: self._run(conv_transpose3d, mu, kernel) + bias

    def _run(self, convolution, mu, kernel):
        return convolution(mu.astype(kernel.dtype), kernel, padding=_PAD, lowering=self.runtime.lowering)

    def _weights(self, name, inputs, features, before_relu):
        """The kernel and bias, read outside of the scan, where no parameter can be made."""
        kernel, bias = _Kernel(inputs, features, before_relu, name=name)()
        dtype = self.runtime.dtype
        return kernel.astype(dtype), bias.astype(dtype).reshape(1, 1, 1, 1, -1)


def rate_limit(params: dict, coding: Coding) -> Limit:
    """Returns alpha and the smallest of its bounds for the kernels of a `PredictiveCoding`.

    The norms of the kernels are those on a map of 2x7x12, that of stage 4 of a clip of 16 frames of 224x384.
    """
    norms, sizes = [], []
    for number in range(coding.layers + 1):
        kernel = params[f"down{number}"]["projection"]
        like = jnp.zeros((1, *_GRID, kernel.shape[-2]), jnp.float32)
        sizes.append(math.prod(_GRID) * kernel.shape[-1])
        norms.append(_kernel_norm(kernel.astype(jnp.float32), like))
    bound = min(float(bound) for bound in coding.rate_bounds(norms, sizes))
    advice = "activities can grow with each iteration; set fusion.coding.step=bounded, or a lower rate"
    return Limit(coding.rate, bound, "" if coding.step == "bounded" else advice)


@jax.jit
def _kernel_norm(kernel, like):
    return map_norm(lambda mu: conv_transpose3d(mu, kernel, padding=_PAD), like)


def _pooled(function, count: int):
    def mean(mu):
        y = function(mu)
        return y.reshape(y.shape[0], count, -1, y.shape[-1]).mean(2)

    return mean
