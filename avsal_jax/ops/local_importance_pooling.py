"""Local importance pooling (LIP: Gao, Wang and Wu, ICCV 2019)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from avsal_jax.ops.pooling import avg_pool3d


def local_importance_pool(
    x: jax.Array,
    logit: jax.Array,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: tuple[int, int, int] = (0, 0, 0),
) -> jax.Array:
    """Returns sum(x * exp(logit)) / sum(exp(logit)) over windows; what is padded has no weight.

    As sebgao/LIP computes it: the mean of x * w over the mean of w. With equal logits it is the average
    pooling that does not count the padding.

    Args:
      x: [B, T, H, W, C], floating.
      logit: the same shape; its exponential must neither overflow nor vanish in float32 (LIP bounds it
        to 0..12).
      window, stride, padding: sizes in time, height, width; padding on both sides.

    Returns:
      [B, T', H', W', C] in the dtype of `x`; the sums are at least float32.
    """
    if x.shape != logit.shape:
        raise ValueError(f"x and logit must have one shape; got {x.shape} and {logit.shape}")
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    weight = jnp.exp(logit.astype(dtype))
    total = avg_pool3d(x.astype(dtype) * weight, window=window, stride=stride, padding=padding)
    return (total / avg_pool3d(weight, window=window, stride=stride, padding=padding)).astype(x.dtype)
