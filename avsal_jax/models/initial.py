"""Initial values: what modules state for each of their parameters, and how these are drawn.

A module gives `self.param` a `Weights` or a `Constant`. These are initializers of flax, and say what the
parameter starts with under each of two starts:

- `he`, ours: weights before a ReLU are normal with variance 2 / fan-in (He et al. 2015), others with
  1 / fan-in; biases are zero.
- `torch`, the default of torch's layers, with which the public code starts: weights and biases are uniform
  in +-1 / sqrt(fan-in). A network of many layers says the same of all clips then, at first.

NumPy draws them, because XLA takes half a minute on CPU to compile the random numbers of a hundred leaves. A
leaf depends on the seed and its path alone, so it is the same on every device.
"""

from __future__ import annotations

import contextvars
import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.models.renamings import earlier_path

Start = Literal["he", "torch"]
_BATCH_STATS = {"mean": 0.0, "var": 1.0}  # of flax's BatchNorm, which takes no initializer for them
_STATING: contextvars.ContextVar[bool] = contextvars.ContextVar("stating", default=False)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights [..., inputs, outputs], in which all axes but the last are the fan-in.

    Attributes:
      gain: variance times fan-in under `he`: 2 before a ReLU, else 1.
      bound: of the uniform distribution under `torch`; None for 1 / sqrt(fan-in).
    """

    gain: float = 1.0
    bound: float | None = None

    def __call__(self, key, shape, dtype=jnp.float32):
        deviation = math.sqrt(self.gain / math.prod(shape[:-1]))
        return _started(
            self, value=lambda: deviation * jax.random.normal(key, shape, dtype), shape=shape, dtype=dtype
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], start: Start) -> np.ndarray:
        """Returns float32 values of `shape`."""
        fan_in = math.prod(shape[:-1])
        if start == "torch":
            return _uniform(rng, shape, self.bound or 1 / math.sqrt(fan_in))
        return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(self.gain / fan_in))


@dataclasses.dataclass(frozen=True)
class Constant:
    """A parameter of one value; under `torch` it is uniform in +-`bound`, where there is one."""

    value: float
    bound: float | None = None

    def __call__(self, key, shape, dtype=jnp.float32):
        return _started(self, value=lambda: jnp.full(shape, self.value, dtype), shape=shape, dtype=dtype)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], start: Start) -> np.ndarray:
        """Returns float32 values of `shape`."""
        if start == "torch" and self.bound is not None:
            return _uniform(rng, shape, self.bound)
        return np.full(shape, self.value, np.float32)


BEFORE_RELU = Weights(2.0)
ZEROS, ONES = Constant(0.0), Constant(1.0)


def bias_of(fan_in: int) -> Constant:
    """Returns what the bias of a layer with `fan_in` inputs starts with."""
    return Constant(0.0, bound=1 / math.sqrt(fan_in))


def _uniform(rng, shape, bound) -> np.ndarray:
    return ((2 * rng.random(shape, np.float32) - 1) * np.float32(bound)).astype(np.float32)


class BoxedStart(flax.struct.PyTreeNode, nn.meta.AxisMetadata):
    """A parameter with what it starts with; only in what `traced_init` returns."""

    value: Any
    initial: Weights | Constant = flax.struct.field(pytree_node=False)

    def unbox(self):
        return self.value

    def replace_boxed(self, val):
        return self.replace(value=val)

    def add_axis(self, index, params):
        return self

    def remove_axis(self, index, params):
        return self


def _started(initial, value: Callable, shape, dtype):
    if _STATING.get():
        return BoxedStart(jnp.zeros(shape, dtype), initial)
    return value()


def traced_init(init: Callable[[jax.Array], dict]) -> dict:
    """Returns the variables of `init(key)` as shapes, boxed where a module states how they start."""
    token = _STATING.set(True)
    try:
        return jax.eval_shape(init, jax.random.key(0))
    finally:
        _STATING.reset(token)


def fresh_variables(
    init: Callable[[jax.Array], dict], seed: int, start: Start = "he", traced: dict | None = None
) -> dict:
    """Returns fresh float32 NumPy arrays for the variables of a module.

    Args:
      init: key -> variables by collection, as `module.init`. Parameters with an initializer of flax's own are
        drawn by it, on the CPU.
      seed: of all draws.
      start: which of the two starts.
      traced: what `traced_init` gave for `init`, if it is there.
    """
    traced, values, unstated = traced if traced is not None else traced_init(init), {}, []
    leaves, tree = jax.tree_util.tree_flatten_with_path(traced, is_leaf=_is_boxed)
    for path, leaf in leaves:
        names = tuple(str(part.key) for part in path if hasattr(part, "key"))
        if isinstance(leaf, BoxedStart):
            rng = np.random.default_rng([seed, zlib.crc32(_address("/".join(names)).encode())])
            values[path] = leaf.initial.draw(rng, leaf.value.shape, start)
        elif "batch_stats" in names and names[-1] in _BATCH_STATS:
            values[path] = np.full(leaf.shape, _BATCH_STATS[names[-1]], np.float32)
        else:
            unstated.append(path)
    if unstated:
        values |= dict(zip(unstated, _values_of_flax(init, seed, unstated), strict=True))
    return jax.tree_util.tree_unflatten(tree, [values[path] for path, _ in leaves])


def unboxed(traced: dict) -> dict:
    """Returns what `traced_init` gave without what modules state."""
    return jax.tree.map(lambda leaf: leaf.value if _is_boxed(leaf) else leaf, traced, is_leaf=_is_boxed)


def _values_of_flax(init, seed: int, paths) -> list[np.ndarray]:
    """Returns the values at `paths` alone; XLA leaves out what they do not need."""

    def selected_values(key):
        leaves, _ = jax.tree_util.tree_flatten_with_path(init(key))
        by_path = dict(leaves)
        return [by_path[path] for path in paths]

    with jax.default_device(jax.devices("cpu")[0]):
        return [np.asarray(value, np.float32) for value in jax.jit(selected_values)(jax.random.key(seed))]


def _is_boxed(leaf) -> bool:
    return isinstance(leaf, BoxedStart)


def _address(path: str) -> str:
    """The address of a leaf's random numbers: its first path, so that a seed keeps its start."""
    return "".join(f"['{key}']" for key in earlier_path(path).split("/"))
