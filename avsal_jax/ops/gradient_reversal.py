"""Gradient reversal: the identity whose gradient is reversed, for domain-adversarial training.

Ganin and Lempitsky, "Unsupervised domain adaptation by backpropagation" (ICML 2015), section 3.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def reverse_gradient(x: jax.Array, strength: jax.Array | float = 1.0) -> jax.Array:
    """Returns `x`; the backward pass multiplies the gradient by `-strength`.

    Supports only reverse mode (`jax.grad`, `jax.vjp`). `strength` gets no gradient.

    Args:
      x: floating, of any shape.
      strength: a scalar, which may be traced: one compiled step serves a whole ramp.

    Raises:
      ValueError: `x` is not floating, or `strength` is not a scalar.
    """
    x, strength = jnp.asarray(x), jnp.asarray(strength, jnp.float32)
    if not jnp.issubdtype(x.dtype, jnp.floating) or strength.ndim:
        raise ValueError(
            f"reverse_gradient takes floats and a scalar; got {x.dtype} and shape {strength.shape}"
        )
    return _reverse(x, strength)


@jax.custom_vjp
def _reverse(x, strength):
    return x


def _reverse_fwd(x, strength):
    return x, strength


def _reverse_bwd(strength, gradient):
    return -strength.astype(gradient.dtype) * gradient, jnp.zeros_like(strength)


_reverse.defvjp(_reverse_fwd, _reverse_bwd)


def reversal_ramp(progress: jax.Array | float) -> jax.Array:
    """Returns the strength 2 / (1 + exp(-10 p)) - 1 at the share p of training done: 0 at first, then to 1.

    Ganin et al., "Domain-adversarial training of neural networks" (JMLR 2016), section 5.2.2.
    """
    return jnp.tanh(5.0 * jnp.asarray(progress, jnp.float32))
