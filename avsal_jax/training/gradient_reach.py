"""Finds parameters without a gradient from a traced function, without evaluating or differentiating it."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from avsal_jax.training.records.overview import module_of

# Primitives whose inner jaxpr has the same inputs and outputs as the equation, in the same order.
_CALLS = ("jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call")


def without_gradient(function: Callable, params: dict, *arguments) -> list[str]:
    """Returns the paths of the parameters that get no gradient from any result.

    No result depends on them, or only through `stop_gradient` or integers. A product with zero counts as a
    dependence.

    Args:
      function: (params, *arguments) -> results; to be jitted.
      params: the tree of parameters, arrays or shapes.
      *arguments: arrays, or `jax.ShapeDtypeStruct`.
    """
    jaxpr = jax.jit(function).trace(params, *arguments).jaxpr.jaxpr
    live = _live_inputs(jaxpr, [True] * len(jaxpr.outvars))
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)  # the first inputs, in this order
    paths = ["/".join(str(key.key) for key in path) for path, _ in leaves]
    return [path for path, alive in zip(paths, live, strict=False) if not alive]


def words(paths: Sequence[str], total: int) -> str:
    """Returns a message with the arrays, of `total`, that get no gradient."""
    modules = collections.Counter(map(module_of, paths))
    listing = ", ".join(f"{module} ({count})" for module, count in modules.items())
    return f"no gradient reaches {len(paths)} of {total} arrays, which are not trained: {listing}"


def _live_inputs(jaxpr, outputs: Sequence[bool]) -> list[bool]:
    """Returns which inputs of a jaxpr a gradient reaches from the outputs that are live."""
    live = {var for var, alive in zip(jaxpr.outvars, outputs, strict=True) if alive and _is_variable(var)}
    for equation in reversed(jaxpr.eqns):
        outs = [var in live and jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in equation.outvars]
        if any(outs):
            inputs = zip(equation.invars, _live_of(equation, outs), strict=True)
            live |= {var for var, alive in inputs if alive and _is_variable(var)}
    return [var in live for var in jaxpr.invars]


def _live_of(equation, outs: list[bool]) -> list[bool]:
    name, params = equation.primitive.name, equation.params
    if name == "stop_gradient":
        return [False] * len(equation.invars)
    if name == "scan":
        return _live_of_scan(equation, outs)
    if name in _CALLS:
        inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
        return _live_inputs(getattr(inner, "jaxpr", inner), outs)
    return [True] * len(equation.invars)


def _live_of_scan(equation, outs: list[bool]) -> list[bool]:
    """Returns live inputs of a scan; dependences of the carry are iterated to a fixed point."""
    inner = equation.params["jaxpr"]
    inner = getattr(inner, "jaxpr", inner)
    # The range of the carry is inferred from ranks, since names of parameters differ between versions of jax:
    # sliced inputs and stacked outputs have one axis less inside.
    carries = _of_same_rank(equation.outvars, inner.outvars)
    consts = _of_same_rank(equation.invars, inner.invars) - carries
    if not equation.params["length"]:
        return [False] * consts + outs[:carries] + [False] * (len(equation.invars) - consts - carries)
    carry, rest = outs[:carries], outs[carries:]
    while True:
        inputs = _live_inputs(inner, [*carry, *rest])
        wider = [a or b for a, b in zip(carry, inputs[consts : consts + carries], strict=True)]
        if wider == carry:
            return inputs[:consts] + carry + inputs[consts + carries :]
        carry = wider


def _of_same_rank(atoms: Sequence, inner: Sequence) -> int:
    return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in zip(atoms, inner, strict=True))


def _is_variable(atom) -> bool:
    return not isinstance(atom, Literal)
