"""The state of a run, and the random numbers of a step."""

from __future__ import annotations

import zlib

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
    """What a step takes and gives; everything that a checkpoint holds on the device.

    Attributes:
      step: int32; steps done.
      failed: int32; the first step whose loss or gradient was not finite, or -1. From then on the state
        stays as it was before that step.
      params: by slot of the network, and by name of the objective's own modules.
      batch_stats: likewise.
      extra: other state of the objective, as a memory of earlier clips; {} where it has none.
      opt_state: of the optimizer.
      ema: averaged parameters, or {} where that is off.
    """

    step: jax.Array
    failed: jax.Array
    params: dict
    batch_stats: dict
    opt_state: object
    ema: dict
    extra: dict


def new_state(variables: dict, optimizer, ema: bool) -> TrainState:
    """Returns the state of step 0."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        failed=jnp.full((), -1, jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if ema else {},
        extra=variables.get("extra", {}),
    )


def step_key(seed: int, step: jax.Array, purpose: str) -> jax.Array:
    """Returns the random key of a step for a purpose: a function of these three alone."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
    return jax.random.fold_in(key, step)
