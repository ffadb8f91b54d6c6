"""Audio-visual interaction of CASP-Net (Xiong et al. 2023, 3.2): quadratic, linear and bilinear forms.

Letters: B batch, L visual tokens (T * H * W of a level, time slowest), S sound tokens, C and D channels.
S divides L, and each sound token stands for L / S consecutive visual tokens: S = 1 is one token tiled over
the clip, S = T one token per time step, S = L keys that are all different. Keys that are tied this way make
equal columns in the L x L similarity of the paper, so the sums over them close:

- quadratic: the softmax is over S instead of L, and the values of a span count by their mean. With S = 1
  every weight is 1: the result is the mean of the values, whatever the sound.
- linear: a matrix of S columns. With S = 1 it has rank one: a scalar per visual token times the values' sum.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import value_of

Normalizer = Literal["elements", "tokens", "none"]
MAX_SIMILARITIES = 2**28  # entries of L x S for one clip: 1 GiB in float32, 16,384 tokens with S = L


def kernel_features(x: jax.Array) -> jax.Array:
    """Returns phi(x) = gelu(x) + 0.2 (Eq. 5), exact GELU: at least 0.03, so all similarities are positive."""
    return jax.nn.gelu(x, approximate=False) + 0.2


def linear_interaction(
    query: jax.Array, keys: jax.Array, values: jax.Array, *, normalizer: Normalizer = "none"
) -> jax.Array:
    """Returns phi(Q) (phi(K)^T V) (Eqs. 3 to 5), never through an L x L matrix.

    Args:
      query: [B, L, C].
      keys: [B, S, C]; S divides L.
      values: [B, S, D]: the mean of the values over the span of each key (with S = L the values themselves).
      normalizer: what the sum is divided by: `none` (Eq. 4 as printed), `tokens` (L, the N of Eq. 1), or
        `elements` (L * C).

    Returns:
      [B, L, D], of the query's dtype; sums are formed in float32 at least.
    """
    value_of(Normalizer, normalizer, "normalizer")
    length, count = _lengths(query, keys, values)
    total = _accumulator(query)
    q, k = kernel_features(query), kernel_features(keys)
    if count < k.shape[-1]:  # the cheaper order; either way time and memory grow linearly with L
        similarity = jnp.einsum("blc,bsc->bls", q, k, preferred_element_type=total)
        result = jnp.einsum("bls,bsd->bld", similarity, values, preferred_element_type=total)
    else:
        memory = jnp.einsum("bsc,bsd->bcd", k, values, preferred_element_type=total)
        result = jnp.einsum("blc,bcd->bld", q, memory, preferred_element_type=total)
    divisor = {"none": 1, "tokens": length, "elements": length * query.shape[-1]}[normalizer]
    return (result * (length / count / divisor)).astype(query.dtype)


def quadratic_interaction(query: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Returns softmax(Q K^T / L) V (Eq. 1; its N is the number of visual tokens).

    Args:
      query: [B, L, C].
      keys: [B, S, C]; S divides L.
      values: [B, S, D]: the mean of the values over the span of each key.

    Returns:
      [B, L, D], of the query's dtype.

    Raises:
      AvsalError: L * S exceeds `MAX_SIMILARITIES`.
    """
    length, count = _lengths(query, keys, values)
    if length * count > MAX_SIMILARITIES:
        raise AvsalError(
            f"the quadratic interaction of {length} visual with {count} sound tokens takes "
            f"{length * count:,} similarities a clip, more than {MAX_SIMILARITIES:,}; use the linear one, "
            "coarser stages or fewer sound tokens"
        )
    total = _accumulator(query)
    if count == 1:  # the softmax of one logit is 1: no gradient to query and key, which tracing can see
        return jnp.broadcast_to(values, (*query.shape[:2], values.shape[-1])).astype(query.dtype)
    logits = jnp.einsum("blc,bsc->bls", query, keys, preferred_element_type=total) / length
    weights = jax.nn.softmax(logits, axis=-1)
    result = jnp.einsum("bls,bsd->bld", weights, values.astype(total))
    return result.astype(query.dtype)


def bilinear_interaction(vision: jax.Array, sound: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns for each token and output d the form sum_ca vision_c kernel_cad sound_a.

    Args:
      vision: [B, L, C].
      sound: [B, S, A]; S divides L.
      kernel: [C, A, D].

    Returns:
      [B, L, D], of the dtype of `vision`.
    """
    length, count = _lengths(vision, sound, sound)
    total = _accumulator(vision)
    matrices = jnp.einsum("bsa,cad->bscd", sound, kernel, preferred_element_type=total)
    spans = vision.reshape(vision.shape[0], count, length // count, vision.shape[-1])
    result = jnp.einsum("bsnc,bscd->bsnd", spans, matrices.astype(vision.dtype), preferred_element_type=total)
    return result.reshape(*vision.shape[:2], -1).astype(vision.dtype)


def _lengths(query, keys, values) -> tuple[int, int]:
    length, count = query.shape[1], keys.shape[1]
    if length % count or values.shape[1] != count:
        raise ValueError(
            f"the number of sound tokens divides that of visual ones; got query {query.shape}, keys "
            f"{keys.shape}, values {values.shape}"
        )
    return length, count


def _accumulator(x):
    return jnp.promote_types(x.dtype, jnp.float32)
