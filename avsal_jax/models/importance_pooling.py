"""Local importance pooling as a module: the weights come out of the feature itself."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.initial import ONES, ZEROS
from avsal_jax.models.layers import Runtime
from avsal_jax.ops.convolution import conv3d
from avsal_jax.ops.local_importance_pooling import local_importance_pool

_HIGHEST = 12.0  # of a logit
_EPSILON = 1e-5


class LocalImportancePool(nn.Module):
    """[B, T, H, W, C] -> [B, T, H', W', C]: every frame alone, weighted by what the frame shows.

    The logits are those of SimplifiedLIP (sebgao/LIP): a convolution 3x3 without bias, instance norm over
    the frame, sigmoid, times 12. The kernel starts at zero, so that training starts from average pooling.
    For clips it is applied frame by frame, as its author advises (sebgao/LIP issue 11).

    Fields:
      size, stride, padding: of the window in height and width; 3, 1, 1 keeps the resolution.
    """

    size: int = 3
    stride: int = 1
    padding: int = 1
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, dtype = x.shape[-1], self.runtime.dtype
        kernel = self.param("zero_kernel", ZEROS, (1, 3, 3, channels, channels))
        logit = conv3d(
            x.astype(dtype), kernel.astype(dtype), padding=(0, 1, 1), lowering=self.runtime.lowering
        )
        logit = _HIGHEST * jax.nn.sigmoid(self._frame_norm(logit))
        window, stride, padding = (
            (time, n, n) for time, n in ((1, self.size), (1, self.stride), (0, self.padding))
        )
        return local_importance_pool(
            x.astype(dtype), logit=logit, window=window, stride=stride, padding=padding
        )

    def _frame_norm(self, x):
        """Instance norm over height and width, with a scale and a bias per channel."""
        shape = (1, 1, 1, 1, x.shape[-1])
        scale = self.param("scale", ONES, shape[-1:]).reshape(shape)
        bias = self.param("bias", ZEROS, shape[-1:]).reshape(shape)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = x.mean((2, 3), keepdims=True)
        variance = ((x - mean) ** 2).mean((2, 3), keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + _EPSILON) * scale + bias
