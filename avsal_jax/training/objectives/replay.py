"""Replay for domain discriminators: a memory of clips of earlier steps, and extra updates on them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from avsal_jax.models.domain import DomainDiscriminator

UPDATE_CLIPS = 64  # clips per domain in an update
_ADAM = optax.scale_by_adam(b1=0.5)


def replay_state(params: dict, tokens: tuple[int, int], size: int, updates: int) -> dict:
    """Returns the state of a discriminator in `TrainState.extra`: an empty memory, and Adam moments.

    Args:
      params: parameters of the discriminator.
      tokens: (N, C) of a clip.
      size: number of clips per domain in the memory; 0: no memory.
      updates: number of extra updates per step; 0: no moments.
    """
    state = (
        {"memory": jnp.zeros((size, 2, *tokens))} if size else {}
    )  # axis 1: source, target; newest clips first
    if updates:
        state |= {name: jax.tree.map(jnp.zeros_like, params) for name in ("first", "second")}
    return state


def remembered(memory: jax.Array, tokens: jax.Array, step) -> tuple[jax.Array, jax.Array]:
    """Returns (interleaved clips [2M, N, C] of a memory [M, 2, N, C], the memory after this step).

    Until the memory is full, clips of this step, `tokens` [2B, N, C], fill the missing entries.
    """
    pairs = tokens.reshape(-1, 2, *tokens.shape[1:])
    size, new = memory.shape[0], pairs.shape[0]
    filled = (jnp.arange(size) < step * new)[:, None, None, None]
    memory = jnp.where(filled, memory, pairs[jnp.arange(size) % new])
    return memory.reshape(2 * size, *tokens.shape[1:]), jnp.concatenate([pairs, memory])[:size]


def updated(
    discriminator: DomainDiscriminator,
    loss: Callable[[jax.Array], jax.Array],
    params: dict,
    norms: dict,
    memories: dict,
    step,
    clips: int,
    updates: int,
    rate: float,
    key: jax.Array,
) -> tuple[dict, dict, dict]:
    """Returns (params, norms, memories) of a discriminator after extra updates on its memory.

    Each is an update of Adam (b1 .5) on UPDATE_CLIPS clips per domain, drawn uniformly with replacement.
    These are the k discriminator updates per generator update of Goodfellow et al. 2014, Algorithm 1. In the
    first step of a run the memory is empty, and no update is made.

    Args:
      discriminator: a module.
      loss: function of the logits [2 * UPDATE_CLIPS], which alternate between source and target.
      params, norms: its parameters, and the running statistics of its norms.
      memories: from `replay_state`.
      step: int32, from 0.
      clips: number of clips per domain in a step.
      updates: number of updates.
      rate: learning rate of each update.
      key: random key of the step.
    """
    memory = memories["memory"]
    filled = jnp.clip(step * clips, 1, memory.shape[0])

    def update(carry, number):
        params, norms, moments = carry
        rows = jax.random.randint(jax.random.fold_in(key, number), (2, UPDATE_CLIPS), 0, filled)
        batch = jnp.stack([memory[rows[0], 0], memory[rows[1], 1]], 1).reshape(-1, *memory.shape[2:])

        def value(params):
            variables = {"params": params, "batch_stats": norms}
            logits, new = discriminator.apply(variables, batch, train=True, mutable=["batch_stats"])
            return loss(logits), dict(new["batch_stats"])

        gradients, norms = jax.grad(value, has_aux=True)(params)
        steps, moments = _ADAM.update(gradients, moments)
        return (jax.tree.map(lambda p, s: p - rate * s, params, steps), norms, moments), None

    def run_updates(carry):
        return lax.scan(update, carry, jnp.arange(updates))[0]

    earlier_updates = jnp.asarray((step - 1) * updates, jnp.int32)
    moments = optax.ScaleByAdamState(earlier_updates, memories["first"], memories["second"])
    carry = (params, norms, moments)
    params, norms, moments = lax.cond(step > 0, run_updates, lambda carry: carry, carry)
    return params, norms, {**memories, "first": moments.mu, "second": moments.nu}
