"""CC, SIM, KL, NSS and information gain: metrics that look at whole maps."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.metrics.checked_arrays import (
    as_fixations,
    as_maps,
    check_jax_maps,
    is_jax,
    same_batch,
    tolerance,
)
from avsal_jax.metrics.resizing import imresize

if TYPE_CHECKING:
    import jax

    Array = np.ndarray | jax.Array

EPSILON = 2.0**-52  # MATLAB's eps


class Maps(NamedTuple):
    """Real maps [..., H, W], and how far a map of the type that they came in may spread and be constant."""

    values: Array
    tolerance: float = 0.0


def cc(prediction: Array, density: Array) -> Array:
    """Returns Pearson's correlation of `prediction` and `density`, [..., H, W] -> [...].

    MIT `CC.m`. Its choice of N or N-1 cancels. NaN where either map is constant (pysaliency says 0).

    Args:
      prediction: [..., H, W]; NumPy maps of another size are resized to the density's by `imresize`.
      density: [..., H', W'], the truth with the same leading axes. Any scale; 8-bit values are used as given.

    Raises:
      AvsalError: shapes or types do not fit; JAX arrays of different H, W.
    """
    return _score(_cc, prediction, density)


def sim(prediction: Array, density: Array, *, min_max: bool = True) -> Array:
    """Returns the similarity (histogram intersection), [..., H, W] -> [...].

    MIT `similarity.m`: each map is stretched from 0 to 1 and divided by its sum; the sum of the minima.
    A map of zeros stays as it is, which gives 0; any other constant map gives NaN.

    Args:
      prediction, density: as in `cc`.
      min_max: False leaves the stretching out, and moves only maps with negative values up to 0, as
        pysaliency, UNISAL and MSU do. `smooth`: .506000 with it, .503610 without.

    Raises:
      AvsalError: as `cc`.
    """
    return _score(functools.partial(_sim, min_max=min_max), prediction, density)


def kl(prediction: Array, density: Array, *, shift: bool = False, eps: float = EPSILON) -> Array:
    """Returns the divergence of `prediction` P from `density` G in nats, [..., H, W] -> [...].

    MIT `KLdiv.m`: both divided by their sums unless all zero, then the sum of G ln(eps + G / (P + eps)).
    An empty density gives 0; a prediction of zeros about 31. `smooth`: .699428, by every program.

    Args:
      prediction, density: as in `cc`.
      shift: moves a map with negative values (log scores) up to 0 first, as pysaliency does. Without it,
        as in MATLAB, the logarithm of a negative number counts with its real part. Same value on `smooth`;
        the case `signed` has 3.896717 without and 1.302243 with it. The Python ports give NaN there.
      eps: 2**-52 in MATLAB; pysaliency and the Python ports have 2.2204e-16 (the same on `smooth`,
        28.759496 and 28.759515 on `sparse`).

    Raises:
      AvsalError: as `cc`, or `eps` is not positive.
    """
    if not 0 < eps < math.inf:
        raise AvsalError(f"eps of kl must be a positive number, such as 2**-52; got {eps!r}")
    return _score(functools.partial(_kl, shift=shift, eps=eps), prediction, density)


def nss(prediction: Array, fixations: Array, *, ddof: int = 1) -> Array:
    """Returns the normalized scanpath saliency, [..., H, W] -> [...].

    MIT `NSS.m`: mean over the fixated pixels of (P - mean) / std. NaN without fixations and for a constant
    map (pysaliency and ViNet's loss.py say 0).

    Args:
      prediction: as in `cc`.
      fixations: [..., H', W'], above 0 where somebody looked; a pixel counts once.
      ddof: the standard deviation divides by N - ddof. `smooth`: 2.330254 with 1 (MATLAB, UNISAL, ViNet),
        2.331772 with 0 (pysaliency, herrlich10, DiffSal).

    Raises:
      AvsalError: as `cc`; NumPy fixations with fractions, which are a density; `ddof` not 0 or 1.
    """
    if ddof not in (0, 1):
        raise AvsalError(f"ddof of nss must be 0 or 1; got {ddof!r}")
    return _score(functools.partial(_nss, ddof=ddof), prediction, fixations, fixated=True)


def nss_at(prediction: np.ndarray, points: np.ndarray) -> float:
    """Returns the NSS of one map [H, W] per fixation: a place that two people looked at counts twice.

    The map's standard deviation divides by the number of cells. A constant map has 0, as chance; NaN without
    fixations.

    Args:
      prediction: real numbers [H, W].
      points: int [N, 2], (row, column) of each fixation.
    """
    values = as_maps("prediction", prediction).astype(np.float64)
    if len(points) == 0:
        return math.nan
    low, high = values.min(), values.max()
    if is_constant(np, maps=Maps(values, tolerance(np.asarray(prediction).dtype)), low=low, high=high):
        return 0.0
    scores = (values - values.mean()) / values.std()
    return float(scores[points[:, 0], points[:, 1]].mean())


def information_gain(prediction: np.ndarray, fixations: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Returns the information gain over `baseline` in bits per fixation, float64 [..., H, W] -> [...].

    MIT `InfoGain.m`: prediction and baseline are stretched from 0 to 1 and divided by their sums; mean at the
    fixated pixels of log2(eps + P) - log2(eps + B). NaN without fixations and where either map is constant.

    Args:
      prediction, fixations: as in `nss`, NumPy only.
      baseline: [..., H, W] of any size, such as a centre prior, with the leading axes of `fixations`.

    Raises:
      AvsalError: as `nss`.
    """
    baseline, given = as_maps("baseline", baseline), as_maps("fixations", fixations)
    same_batch("baseline", maps=baseline, other_name="fixations", other=given)
    return _score_numpy(_information_gain, prediction, fixations, baseline, fixated=True)


def _score(core, prediction, truth, *, fixated: bool = False):
    """Applies `core(xp, prediction, truth)` to JAX arrays at once, to others frame by frame in float64."""
    if is_jax(prediction, truth):
        return _score_jax(
            core, prediction=prediction, name="fixations" if fixated else "density", truth=truth
        )
    return _score_numpy(core, prediction, truth, fixated=fixated)


def _score_numpy(core, prediction, truth, *others, fixated: bool):
    name = "fixations" if fixated else "density"
    prediction, truth = as_maps("prediction", prediction), as_maps(name, truth)
    same_batch("prediction", maps=prediction, other_name=name, other=truth)
    if fixated:
        truth = as_fixations(truth)
    result, size = np.empty(truth.shape[:-2]), truth.shape[-2:]
    _keep_freed_memory()
    with np.errstate(all="ignore"):  # NaN is how these metrics say that there is no value
        for index in np.ndindex(result.shape):
            frame = (one_frame(maps, index, size) for maps in (prediction, truth, *others))
            result[index] = core(np, *frame)[0, 0]
    return result[()]


@functools.cache
def _keep_freed_memory() -> None:
    """Lets glibc keep freed maps for the next ones, which makes CC, SIM and KL four times as fast.

    By default it hands a few MB back to the system after each call, and getting them again costs more than
    the arithmetic. Freeing one large block raises that limit (mallopt(3), M_MMAP_THRESHOLD, "dynamic").
    """
    np.empty(31 << 20, np.uint8)  # never touched, so it takes no memory


def one_frame(maps: np.ndarray, index: tuple, size: tuple[int, int]) -> Maps:
    """Returns one map of a batch as a float64 copy at `size`."""
    return Maps(imresize(maps[index], *size), tolerance(maps.dtype))


def _score_jax(core, prediction, name, truth):
    import jax.numpy as jnp

    prediction, truth = jnp.asarray(prediction), jnp.asarray(truth)
    for label, maps in (("prediction", prediction), (name, truth)):
        check_jax_maps(label, maps)
    same_batch("prediction", maps=prediction, other_name=name, other=truth, sizes=True)
    p, g = (
        Maps(maps.astype(jnp.promote_types(maps.dtype, jnp.float32)), tolerance(maps.dtype))
        for maps in (prediction, truth)
    )
    return core(jnp, p, g)[..., 0, 0]


def _low_high(maps: Maps):
    return maps.values.min((-2, -1), keepdims=True), maps.values.max((-2, -1), keepdims=True)


def _sum(values):
    return values.sum((-2, -1), keepdims=True)


def is_constant(xp, maps: Maps, low, high):
    """Whether each map, with its smallest and largest value, is constant up to rounding."""
    return high - low <= maps.tolerance * xp.maximum(abs(low), abs(high))


def stretch(xp, maps: Maps):
    """Returns maps from 0 to 1, and whether each is constant (those are not stretched), [..., 1, 1]."""
    low, high = _low_high(maps)
    constant = is_constant(xp, maps=maps, low=low, high=high)
    values = maps.values - low
    values /= xp.where(constant, 1, high - low)  # in place for NumPy, here and below
    return values, constant


def _normalise(xp, values):
    """Divides maps, in place for NumPy, by their sums; zeros stay."""
    values /= xp.where((values == 0).all((-2, -1), keepdims=True), 1, _sum(values))
    return values


def _raise_negative(xp, maps: Maps):
    return maps.values - xp.minimum(_low_high(maps)[0], 0)


def _centre(values):
    values -= values.mean((-2, -1), keepdims=True)
    return values


def _cc(xp, p: Maps, g: Maps):
    (p, p_constant), (g, g_constant) = stretch(xp, p), stretch(xp, g)  # well scaled also in float32
    p, g = _centre(p), _centre(g)
    score = _sum(p * g) / xp.sqrt(_sum(p * p) * _sum(g * g))
    return xp.where(p_constant | g_constant, xp.nan, score)


def _sim(xp, p: Maps, g: Maps, *, min_max: bool):
    undefined = False
    ready = []
    for maps in (p, g):
        if min_max:
            values, constant = stretch(xp, maps)
            undefined |= constant & (_low_high(maps)[1] != 0)
        else:
            values = _raise_negative(xp, maps)
        ready.append(_normalise(xp, values))
    score = _sum(xp.minimum(*ready))
    return xp.where(undefined, xp.nan, score)


def _kl(xp, p: Maps, g: Maps, *, shift: bool, eps: float):
    p, g = (_normalise(xp, _raise_negative(xp, maps) if shift else maps.values) for maps in (p, g))
    p += eps
    ratio = g / p
    ratio += eps
    return _sum(g * xp.log(abs(ratio)))


def _nss(xp, p: Maps, fixations: Maps, *, ddof: int):
    p, constant = stretch(xp, p)
    p = _centre(p)
    std = xp.sqrt(_sum(p * p) / (p.shape[-2] * p.shape[-1] - ddof))
    fixated = fixations.values > 0
    count = _sum(fixated)
    score = _sum(xp.where(fixated, p, 0)) / xp.where(count == 0, 1, count) / std
    return xp.where(constant | (count == 0), xp.nan, score)


def _information_gain(xp, p: Maps, fixations: Maps, b: Maps):
    (p, p_constant), (b, b_constant) = stretch(xp, p), stretch(xp, b)
    p, b = (_normalise(xp, maps)[fixations.values > 0] for maps in (p, b))
    if p.size == 0:
        return xp.full((1, 1), xp.nan)
    score = (xp.log2(EPSILON + p) - xp.log2(EPSILON + b)).mean()
    return xp.where(p_constant | b_constant, xp.nan, score)
