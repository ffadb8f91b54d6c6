"""The state of a run, and the random numbers of a step."""

from __future__ import annotations

import dataclasses
import zlib

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
    """Input and output of a step; the part of a checkpoint that is on the device.

    Attributes:
      step: int32; number of completed steps.
      failed: int32; the first step whose loss or gradient was not finite, or -1. The state then remains that
        before this step.
      params: by slot of the network, and by module of the objective.
      batch_stats: likewise.
      extra: other state of the objective, such as a memory of earlier clips; {} by default.
      opt_state: of the optimizer.
      ema: averaged parameters; {} without averaging.
    """

    step: jax.Array
    failed: jax.Array
    params: dict
    batch_stats: dict
    opt_state: object
    ema: dict
    extra: dict

    @property
    def evaluated_params(self) -> dict:
        """The parameters to validate and export: the averaged ones if averaging is on."""
        return self.ema or self.params


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


def without_extra(state: TrainState) -> dict:
    """Returns the fields of a state as in earlier versions, where `extra` was part of `batch_stats`."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    for name, tree in fields.pop("extra").items():
        fields["batch_stats"] = {
            **fields["batch_stats"],
            name: {**fields["batch_stats"].get(name, {}), **tree},
        }
    return fields


def with_extra(fields: dict, like: TrainState) -> TrainState:
    """Returns the state from fields of `without_extra`; the keys of `extra` are those of `like`."""
    stats = dict(fields["batch_stats"])
    extra = {name: {key: stats[name][key] for key in tree} for name, tree in like.extra.items()}
    for name, tree in extra.items():
        stats[name] = {key: value for key, value in stats[name].items() if key not in tree}
    return TrainState(**{**fields, "batch_stats": stats}, extra=extra)


def step_key(seed: int, step: jax.Array, purpose: str) -> jax.Array:
    """Returns the random key of a step for a purpose; it depends only on the arguments."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
    return jax.random.fold_in(key, step)
