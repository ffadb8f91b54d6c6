"""Consistency-aware predictive coding (paper 003, section 3.3, Eqs. 6 and 7).

A column of activities mu_0 .. mu_L stands above the sound. Each predicts what lies below it; the errors are

    e_0 = sound - top_down[0](mu_0),    e_i = mu_{i-1} - top_down[i](mu_i),    i = 1 .. L.

mu_0 begins as the picture, mu_i = bottom_up[i-1](mu_{i-1}) (Eq. 6). Inference lowers the errors by gradient
steps on the activities (Eq. 7); what comes out is mu_0. The paper leaves open which gradient moves which
activity (its formula says mu_i by its own error, its text the activity above), in which order, and whether
the feedforward pass is repeated ("alternately performed"); all are arguments here. On a linear toy the
formula alone never lets sound in, the text alone leaves every activity above mu_0 without effect, and both
with refreshed, simultaneous updates leave the second layer without effect: so the defaults are `both` and
`top_down`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from avsal_jax.spec.fields import Range, check_fields

Iterations = Annotated[int, Range(0, 100)]


@dataclasses.dataclass(frozen=True)
class Coding:
    """How predictive coding is done; the module says what the paper leaves open.

    Attributes:
      layers: L, the number of maps above mu_0.
      target: what the lowest prediction is held against: `tiled`, the sound at every place (of its time
        step, where it has as many tokens); or `pooled`: its mean over space (and over time, where there is
        one token) against the sound.
      iterations: N; 0 returns the picture.
      rate: alpha.
      update: the errors by whose gradient mu_i moves: `own` (e_{i+1}, in which mu_i is the target), `above`
        (e_i, in which mu_i predicts), `both`.
      order: `top_down` (from mu_L to mu_0, each step sees the ones before it) or `simultaneous`.
      refresh: whether each iteration begins with a feedforward pass from its mu_0.
      reduction: `sum` of squares over a clip, or their `mean` as MSE says. Over the 43,008 elements of a
        mu_0 of 2x7x12x256 a mean makes alpha = 0.1 inert, so `sum` is the default, against the paper's word.
      stop_gradient: what the outer gradient does not pass: `none`, `sound`, or `inference` (the steps are
        constants: only the picture's own way to mu_0 remains).

    Raises:
      AvsalError: an unknown choice, or a number out of its range.
    """

    layers: Annotated[int, Range(1, 8)] = 2
    target: Literal["tiled", "pooled"] = "tiled"
    iterations: Iterations = 3
    rate: Annotated[float, Range(0, 10)] = 0.1
    update: Literal["both", "own", "above"] = "both"
    order: Literal["top_down", "simultaneous"] = "top_down"
    refresh: bool = True
    reduction: Literal["sum", "mean"] = "sum"
    stop_gradient: Literal["none", "sound", "inference"] = "none"

    def __post_init__(self):
        check_fields(self, "coding.")


class CodingTrace(NamedTuple):
    """What inference did; index n of the first axis is the state after n iterations, 0 to N.

    Attributes:
      activity: [N+1, B, ...], mu_0.
      error: [N+1, B, L+1]: sums of squares of e_0 .. e_L over sum_i ||mu_i||^2. Relative, because smaller
        activities alone make smaller errors.
      norm: [N+1, B, L+1]: ||mu_0|| .. ||mu_L||.
    """

    activity: jax.Array
    error: jax.Array
    norm: jax.Array


def predictive_coding(
    vision: jax.Array,
    sound: jax.Array,
    bottom_up: Sequence[Callable],
    top_down: Sequence[Callable],
    coding: Coding = Coding(),
) -> tuple[jax.Array, CodingTrace]:
    """Returns mu_0 after inference, and how it went.

    Without refresh, with `both`, `sum` and affine top-down maps whose linear parts have norms of at most s,
    the sum of all squared errors falls at every iteration for a rate below 1 / (1 + s^2) (`top_down`: each
    step lowers a quadratic of curvature at most 2 (1 + s^2)) or half of that (`simultaneous`).

    Args:
      vision: [B, ...], the first mu_0.
      sound: [B, ...], of the shape that `top_down[0]` gives.
      bottom_up: L functions, mu_{i-1} -> mu_i.
      top_down: L + 1 functions; number i predicts mu_{i-1} from mu_i, number 0 the sound from mu_0.
      coding: how; its `layers` and `target` are the functions' concern.
    """
    dtype = jnp.promote_types(vision.dtype, jnp.float32)
    sound = sound.astype(dtype)
    if coding.stop_gradient == "sound":
        sound = lax.stop_gradient(sound)

    def step(i: int, activities) -> jax.Array:
        change = coding.rate * _gradient(
            i, activities=activities, sound=sound, top_down=top_down, coding=coding
        )
        if coding.stop_gradient == "inference":
            change = lax.stop_gradient(change)
        return activities[i] - change

    def iterate(activities, _):
        if coding.refresh:
            activities = feedforward(activities[0], bottom_up)
        old, new = activities, list(activities)
        for i in reversed(range(len(new))):
            new[i] = step(i, new if coding.order == "top_down" else old)
        return tuple(new), _measured(new, sound, top_down)

    start = feedforward(vision.astype(dtype), bottom_up)
    end, states = lax.scan(iterate, start, length=coding.iterations)
    first = _measured(start, sound, top_down)
    trace = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states)
    return end[0], trace


def feedforward(bottom: jax.Array, bottom_up: Sequence[Callable]) -> tuple[jax.Array, ...]:
    """Returns mu_0 = `bottom`, mu_1, ..., mu_L (Eq. 6), all of the dtype of `bottom`."""
    activities = [bottom]
    for function in bottom_up:
        activities.append(function(activities[-1]).astype(bottom.dtype))
    return tuple(activities)


def prediction_errors(activities, sound: jax.Array, top_down: Sequence[Callable]) -> list[jax.Array]:
    """Returns e_0 .. e_L, each of the shape of what is predicted."""
    targets = (sound, *activities[:-1])
    return [target - function(mu) for target, mu, function in zip(targets, activities, top_down, strict=True)]


def _gradient(i, activities, sound, top_down, coding):
    """The gradient with respect to mu_i of the squared errors that move it."""
    mu = activities[i]
    total = jnp.zeros_like(mu)
    if coding.update in ("own", "both") and i + 1 < len(activities):
        error = mu - top_down[i + 1](activities[i + 1])
        total = total + 2 * error * _scale(error, coding.reduction)
    if coding.update in ("above", "both"):
        prediction, pull = jax.vjp(top_down[i], mu)
        error = (sound if i == 0 else activities[i - 1]) - prediction
        total = total - pull((2 * error * _scale(error, coding.reduction)).astype(prediction.dtype))[0]
    return total


def _scale(error, reduction) -> float:
    return 1.0 if reduction == "sum" else error.shape[0] / error.size


def _measured(activities, sound, top_down) -> CodingTrace:
    squares = [_square_sum(error) for error in prediction_errors(activities, sound, top_down)]
    norms = [_square_sum(mu) for mu in activities]
    relative = jnp.stack(squares, -1) / (sum(norms) + jnp.finfo(norms[0].dtype).tiny)[:, None]
    return CodingTrace(activities[0], relative, jnp.sqrt(jnp.stack(norms, -1)))


def _square_sum(x):
    return (x**2).sum(tuple(range(1, x.ndim)))
