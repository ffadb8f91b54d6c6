"""Domain discriminators see clips of earlier steps again: a memory of them, and updates on what it holds."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from avsal_jax.models.domain import DomainDiscriminator

DRAWN = 64  # clips of either domain in an update
_ADAM = optax.scale_by_adam(b1=0.5)


def replay_state(params: dict, tokens: tuple[int, int], size: int, updates: int) -> dict:
    """Returns what a discriminator has in `TrainState.extra`: an empty memory, and moments for updates.

    Args:
      params: of the discriminator.
      tokens: (N, C) of a clip.
      size: clips of either domain that are remembered; 0: no memory.
      updates: on it in a step; 0: no moments.
    """
    state = {"memory": jnp.zeros((size, 2, *tokens))} if size else {}  # source and target, the last first
    if updates:
        state |= {name: jax.tree.map(jnp.zeros_like, params) for name in ("first", "second")}
    return state


def remembered(memory: jax.Array, tokens: jax.Array, step) -> tuple[jax.Array, jax.Array]:
    """Returns (interleaved clips [2M, N, C] of a memory [M, 2, N, C], the memory after this step).

    While it is not full, clips of this step, `tokens` [2B, N, C], stand in for what it lacks.
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
    """Returns (params, norms, memories) of a discriminator after updates of its own on what it remembers.

    Each is one of Adam (b1 .5) on DRAWN clips of either domain, drawn evenly with replacement. They are the
    k updates of the discriminator for one of what it judges of Goodfellow et al. 2014, Algorithm 1. In the
    first step of a run nothing is remembered, and nothing is done.

    Args:
      discriminator: a module.
      loss: of the logits [2 * DRAWN] of clips in turn, source and target.
      params, norms: its variables; of the norms the running statistics.
      memories: of `replay_state`.
      step: int32, from 0; clips: of either domain that a step brings.
      updates: their number; rate: of each.
      key: random key of the step.
    """
    memory = memories["memory"]
    filled = jnp.clip(step * clips, 1, memory.shape[0])

    def update(carry, number):
        params, norms, moments = carry
        rows = jax.random.randint(jax.random.fold_in(key, number), (2, DRAWN), 0, filled)
        drawn = jnp.stack([memory[rows[0], 0], memory[rows[1], 1]], 1).reshape(-1, *memory.shape[2:])

        def value(params):
            variables = {"params": params, "batch_stats": norms}
            logits, new = discriminator.apply(variables, drawn, train=True, mutable=["batch_stats"])
            return loss(logits), dict(new["batch_stats"])

        gradients, norms = jax.grad(value, has_aux=True)(params)
        steps, moments = _ADAM.update(gradients, moments)
        return (jax.tree.map(lambda p, s: p - rate * s, params, steps), norms, moments), None

    def several(carry):
        return lax.scan(update, carry, jnp.arange(updates))[0]

    done = jnp.asarray((step - 1) * updates, jnp.int32)
    moments = optax.ScaleByAdamState(done, memories["first"], memories["second"])
    carry = (params, norms, moments)
    params, norms, moments = lax.cond(step > 0, several, lambda same: same, carry)
    return params, norms, {**memories, "first": moments.mu, "second": moments.nu}
