"""Consistency-aware predictive coding (CASP-Net, Xiong et al. 2023, 3.3, Eqs. 6 and 7).

Activities mu_0 .. mu_L form layers above the sound. mu_0 predicts the sound, each other activity predicts the
one below it. The prediction errors are

    e_0 = sound - top_down[0](mu_0),    e_i = mu_{i-1} - top_down[i](mu_i),    i = 1 .. L.

mu_0 is initialised with the picture, and mu_i with bottom_up[i-1](mu_{i-1}) (Eq. 6). Inference reduces the
errors by gradient steps on the activities (Eq. 7). Its result is mu_0.

The paper leaves three points open, which are options here:

- the error whose gradient updates mu_i: in the formula its own error, in the text that of the activity above;
- the order of the updates;
- whether the feedforward pass is repeated ("alternately performed").

On a linear toy problem, the formula alone gives a result that does not depend on the sound. With the text
alone, the activities above mu_0 have no effect. With both errors and refreshed, simultaneous updates, the
second layer has no effect. The defaults are therefore `both` and `top_down`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from avsal_jax.spec.fields import Range, check_fields

Iterations = Annotated[int, Range(0, 100)]


@dataclasses.dataclass(frozen=True)
class Coding:
    """Options of predictive coding; the module documents what the paper leaves open.

    Attributes:
      layers: L, the number of layers above mu_0.
      target: of the lowest prediction. `tiled`: the sound, repeated over space (with a token per time step:
        the token of that step). `pooled`: the sound, which is compared with the mean of the prediction over
        space (with a single token: also over time).
      iterations: N; 0 returns the picture.
      rate: alpha, the step size.
      update: the errors whose gradient updates mu_i: `own` (e_{i+1}, in which mu_i is the target), `above`
        (e_i, in which mu_i predicts), or `both`.
      order: `top_down` (from mu_L to mu_0, each update uses the earlier ones) or `simultaneous`.
      refresh: whether each iteration begins with a feedforward pass from the current mu_0.
      step: `printed`: alpha, as in Eq. 7. `bounded`: for each activity, 0.8 of its bound (see
        `predictive_coding`) if alpha exceeds the bound. Estimating the bounds takes 12 steps of power
        iteration in each call (about 70 convolutions), so the default is `printed`; training logs the bounds.
      reduction: `sum` of squares over a clip, or their `mean`, as in the paper's "MSE". With a mean over the
        43,008 elements of a mu_0 of 2x7x12x256, alpha = 0.1 has no visible effect, so the default is `sum`.
      stop_gradient: where training stops the gradient. `none`: nowhere. `sound`: at the sound. `inference`:
        through the iterations. Only the direct path from picture to mu_0 is then trained. No gradient reaches
        the kernels of the coding or the sound, and training warns of that.

    Raises:
      AvsalError: an unknown choice, or a number out of range.
    """

    layers: Annotated[int, Range(1, 8)] = 2
    target: Literal["tiled", "pooled"] = "tiled"
    iterations: Iterations = 3
    rate: Annotated[float, Range(0, 10)] = 0.1
    update: Literal["both", "own", "above"] = "both"
    order: Literal["top_down", "simultaneous"] = "top_down"
    refresh: bool = True
    step: Literal["printed", "bounded"] = "printed"
    reduction: Literal["sum", "mean"] = "sum"
    stop_gradient: Literal["none", "sound", "inference"] = "none"

    def __post_init__(self):
        check_fields(self, "coding.")

    def rate_bounds(self, norms: Sequence, sizes: Sequence[int]) -> list:
        """Returns the bound of the rate of each activity, up to which a step does not increase its errors.

        The step of mu_i decreases a quadratic of curvature 2 (below + pull), where `below` is the weight of
        e_{i+1}, and `pull` is s_i^2 times the weight of e_i. Weights are 1 (`sum`) or 1 / elements of a clip
        (`mean`).

        Args:
          norms: s_0 .. s_L, the norms of the linear parts of the top-down maps.
          sizes: numbers of elements of e_0 .. e_L in a clip.
        """
        weights = [1.0 if self.reduction == "sum" else 1 / size for size in sizes]
        bounds = []
        for i, norm in enumerate(norms):
            below = weights[i + 1] if i + 1 < len(norms) and self.update != "above" else 0.0
            pull = weights[i] * norm**2 if self.update != "own" else 0.0
            bounds.append((1.0 if self.order == "top_down" else 0.5) / (below + pull + 1e-12))
        return bounds


class CodingTrace(NamedTuple):
    """The course of inference; index n of the first axis is the state after n iterations, 0 to N.

    Attributes:
      activity: [N+1, B, ...], mu_0.
      error: [N+1, B, L+1]: relative errors, the sums of squares of e_0 .. e_L divided by sum_i ||mu_i||^2,
        because smaller activities have smaller errors.
      square: [N+1, B, L+1]: the sums of squares, which inference reduces. Relative errors can increase
        meanwhile if the activities shrink faster.
      norm: [N+1, B, L+1]: ||mu_0|| .. ||mu_L||.
    """

    activity: jax.Array
    error: jax.Array
    square: jax.Array
    norm: jax.Array


def predictive_coding(
    vision: jax.Array,
    sound: jax.Array,
    bottom_up: Sequence[Callable],
    top_down: Sequence[Callable],
    coding: Coding = Coding(),
) -> tuple[jax.Array, CodingTrace]:
    """Returns mu_0 after inference, and a trace of the iterations.

    Suppose no refresh, `both`, `sum`, and affine top-down maps whose linear parts have norms of at most s.
    Then the sum of all squared errors decreases in every iteration if the rate is below 1 / (1 + s^2)
    (`top_down`: each step decreases a quadratic of curvature at most 2 (1 + s^2)) or half of that
    (`simultaneous`). Above the bound, activities can grow without limit, unless `coding.step` is `bounded`.

    Args:
      vision: [B, ...], the initial mu_0.
      sound: [B, ...], of the shape of the result of `top_down[0]`.
      bottom_up: L functions, mu_{i-1} -> mu_i.
      top_down: L + 1 functions; number i predicts mu_{i-1} from mu_i, number 0 the sound from mu_0.
      coding: the options; `layers` and `target` are ignored here, since the functions implement them.
    """
    dtype = jnp.promote_types(vision.dtype, jnp.float32)
    sound = sound.astype(dtype)
    if coding.stop_gradient == "sound":
        sound = lax.stop_gradient(sound)

    def step(i: int, activities) -> jax.Array:
        change = rates[i] * _gradient(i, activities=activities, sound=sound, top_down=top_down, coding=coding)
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
    rates = _rates(start, sound=sound, top_down=top_down, coding=coding)
    end, states = lax.scan(iterate, start, length=coding.iterations)
    first = _measured(start, sound, top_down)
    trace = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states)
    return end[0], trace


def feedforward(bottom: jax.Array, bottom_up: Sequence[Callable]) -> tuple[jax.Array, ...]:
    """Returns mu_0 = `bottom`, mu_1, ..., mu_L (Eq. 6), all in the dtype of `bottom`."""
    activities = [bottom]
    for function in bottom_up:
        activities.append(function(activities[-1]).astype(bottom.dtype))
    return tuple(activities)


def prediction_errors(activities, sound: jax.Array, top_down: Sequence[Callable]) -> list[jax.Array]:
    """Returns e_0 .. e_L, each of the shape of its target."""
    targets = (sound, *activities[:-1])
    return [target - function(mu) for target, mu, function in zip(targets, activities, top_down, strict=True)]


def map_norm(function: Callable, like: jax.Array, iterations: int = 12) -> jax.Array:
    """Returns a lower estimate of the largest singular value of the linear part of an affine map.

    Args:
      function: [1, ...] -> [1, ...].
      like: an array [1, ...] with the shape and dtype of the input; its values do not matter.
      iterations: of the power iteration, which starts from fixed values.
    """
    zero = jnp.zeros_like(like)
    _, pull = jax.vjp(function, zero)
    offset = function(zero)

    def iterate(x, _):
        norm = jnp.sqrt(_square_sum(x)[0])
        x = pull(function(x / norm) - offset)[0]
        return x, jnp.sqrt(jnp.sqrt(_square_sum(x)[0]))

    # Irrational steps make all elements different, so the start has no symmetry of a convolution.
    x = jnp.sin(jnp.arange(1, like.size + 1, dtype=like.dtype) * math.sqrt(2)).reshape(like.shape)
    _, norms = lax.scan(iterate, x, length=iterations)
    return lax.stop_gradient(norms[-1])


def _rates(activities, sound, top_down, coding) -> list:
    """Returns the rates of mu_0 .. mu_L."""
    if coding.step == "printed":
        return [coding.rate] * len(activities)
    targets = (sound, *activities[:-1])
    norms = [map_norm(function, mu[:1]) for function, mu in zip(top_down, activities, strict=True)]
    bounds = coding.rate_bounds(norms, [target[0].size for target in targets])
    return [jnp.where(coding.rate <= bound, coding.rate, 0.8 * bound) for bound in bounds]


def _gradient(i, activities, sound, top_down, coding):
    """Returns the gradient, with respect to mu_i, of the squared errors that update it."""
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
    errors = prediction_errors(activities, sound, top_down)
    squares = jnp.stack([_square_sum(error) for error in errors], -1)
    norms = [_square_sum(mu) for mu in activities]
    relative = squares / (sum(norms) + jnp.finfo(norms[0].dtype).tiny)[:, None]
    return CodingTrace(activities[0], relative, square=squares, norm=jnp.sqrt(jnp.stack(norms, -1)))


def _square_sum(x):
    return (x**2).sum(tuple(range(1, x.ndim)))
