"""Losses by name on maps: kl, cc, sim, nss, bce; in float32 at least, finite, with finite gradients.

Every function returns the score of each clip, [..., H, W] -> [...], so the weights of the papers' tables
read as printed: kl 1, cc -0.1, sim -0.1 (DiffSal's configuration; AVRSP Eq. 19). They are the training code's
formulas, not `avsal_jax.metrics`: a metric says NaN where it has no value, a loss must say a number there.

Defined here, where the public code divides by zero: a constant map has CC, SIM and NSS of 0; an all-black
density and a clip without fixations score 0; the gradient there is 0. A map counts as constant when its
values spread over less than 32 roundings of the largest, or less than 1e-18; as black when below 1e-18.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError, did_you_mean

EPSILON = 2.2204e-16  # as ViNet's loss.py writes MATLAB's eps
AVRSP_EPSILON = 1e-7  # in float32, in float64 EPSILON: the paper says no value
KL_FORMS = ("vinet", "casp_net", "avrsp")
SIM_FORMS = ("stretched", "sums")
BCE_FORMS = ("sum", "mean")
_FLOOR = 1e-18  # its inverse, and that over EPSILON, are far from float32's largest number
_ROUNDINGS = 32 * 2.0**-23


def kl(saliency: jax.Array, density: jax.Array, *, form: str = "vinet") -> jax.Array:
    """Returns the divergence of `saliency` P from `density` G, both divided by their sums, in nats.

    Args:
      saliency: [..., H, W], not negative, any scale.
      density: of the same shape, not negative, any scale.
      form: as printed.
        `vinet`: sum G log(eps + G / (P + eps)); samyak0210/ViNet @164beb7 loss.py kldiv, and Eq. 4 of AViNet
        and of dual domain-adversarial learning.
        `casp_net`: sum G log(G / P); CASP-Net Eq. 8. P is taken as at least 1e-18 of its largest value.
        `avrsp`: sum G log((eps + G) / (eps + P)); AVRSP Eq. 16, with a larger eps.

    Raises:
      AvsalError: an unknown form, or shapes that differ.
    """
    _check_form("kl", form)
    p, g = _checked(saliency, density)
    p, g = _distribution(p, floor=_FLOOR if form == "casp_net" else 0.0), _distribution(g)
    if form == "vinet":
        logarithm = jnp.log(EPSILON + g / (p + EPSILON))
    elif form == "avrsp":
        epsilon = AVRSP_EPSILON if p.dtype == jnp.float32 else EPSILON
        logarithm = jnp.log((epsilon + g) / (epsilon + p))
    else:
        logarithm = jnp.log(jnp.where(g > 0, g, 1.0)) - jnp.log(jnp.where(p == 0, _FLOOR, p))
    return (g * logarithm).sum((-2, -1))


def cc(saliency: jax.Array, density: jax.Array) -> jax.Array:
    """Returns Pearson's correlation.

    ViNet loss.py cc (its unbiased std cancels), AVRSP Eq. 17; CASP-Net Eq. 9 with a minus.

    Args:
      saliency, density: [..., H, W], any scale.

    Raises:
      AvsalError: shapes that differ.
    """
    p, g = _checked(saliency, density)
    (p, p_varies, _), (g, g_varies, _) = _stretch(p), _stretch(g)
    p, g = _centre(p), _centre(g)
    varies = p_varies & g_varies
    power = jnp.where(varies, _sum(p * p) * _sum(g * g), 1.0)
    return jnp.where(varies, _sum(p * g) / jnp.sqrt(power), 0.0)[..., 0, 0]


def sim(saliency: jax.Array, density: jax.Array, *, form: str = "stretched") -> jax.Array:
    """Returns the similarity: the sum of the minima of two maps, each divided by its sum.

    Args:
      saliency, density: [..., H, W], any scale; with `sums` not negative.
      form: what comes before.
        `stretched`: both are stretched from 0 to 1, as in ViNet loss.py similarity and in the metric. Eq. 10
        of CASP-Net has "the normalization operation" in place of all this.
        `sums`: nothing, as in AVRSP Eq. 18.

    Raises:
      AvsalError: an unknown form, or shapes that differ.
    """
    _check_form("sim", form)
    p, g = _checked(saliency, density)
    if form == "sums":
        return jnp.minimum(_distribution(p), _distribution(g)).sum((-2, -1))
    (p, p_varies), (g, g_varies) = _min_max(p), _min_max(g)
    minima = jnp.minimum(p, g).sum((-2, -1))
    return jnp.where((p_varies & g_varies)[..., 0, 0], minima, 0.0)


def nss(saliency: jax.Array, fixations: jax.Array) -> jax.Array:
    """Returns the mean of (P - mean) / (unbiased std + eps) over the fixations; ViNet loss.py nss.

    Args:
      saliency: [..., H, W], any scale.
      fixations: of the same shape, not negative; a pixel weighs as much as its value. (STAViS
        sal_losses.py nss_score takes every pixel above 0 once, and the population std.)

    Raises:
      AvsalError: shapes that differ.
    """
    p, fixations = _checked(saliency, fixations)
    pixels = p.shape[-2] * p.shape[-1]
    p, varies, spread = _stretch(p)
    p = _centre(p)
    std = jnp.sqrt(jnp.where(varies, _sum(p * p) / max(pixels - 1, 1), 1.0))
    count = _sum(fixations)
    score = _sum(p / (std + EPSILON / spread) * fixations) / jnp.where(count > 0, count, 1.0)
    return jnp.where(varies, score, 0.0)[..., 0, 0]


def bce(logits: jax.Array, density: jax.Array, *, form: str = "sum") -> jax.Array:
    """Returns the binary cross-entropy with logits, [..., H, W] -> [...].

    Args:
      logits: [..., H, W], before the sigmoid.
      density: of the same shape, in [0, 1]: an 8-bit map divided by 255.
      form: `sum` over the pixels, as STAViS (atsiami/STAViS @71fd51f models/sal_losses.py
        cross_entropy_loss); `mean` over the pixels.

    Raises:
      AvsalError: an unknown form, or shapes that differ.
    """
    _check_form("bce", form)
    logits, density = _checked(logits, density)
    entropy = jax.nn.softplus(logits) - logits * density
    return entropy.sum((-2, -1)) if form == "sum" else entropy.mean((-2, -1))


LOSSES = {"kl": kl, "cc": cc, "sim": sim, "nss": nss, "bce": bce}
FORMS = {"kl": KL_FORMS, "sim": SIM_FORMS, "bce": BCE_FORMS}


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of the training loss.

    Attributes:
      name: `kl`, `cc`, `sim`, `nss` or `bce`.
      weight: signed as the papers print it; scores to be raised (cc, sim, nss) have a negative one.
      form: of `kl` (default `vinet`), `sim` (default `stretched`) and `bce` (default `sum`), see there; empty
        for the others.
    """

    name: str
    weight: float = 1.0
    form: str = ""

    def __post_init__(self):
        if self.name not in LOSSES:
            hint = did_you_mean(self.name, LOSSES)
            raise AvsalError(f"unknown loss {self.name!r}{hint}; there are {', '.join(LOSSES)}")
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not number or not math.isfinite(self.weight) or self.weight == 0:
            raise AvsalError(
                f"the weight of loss {self.name!r} must be a finite number other than 0 (leave the loss out "
                f"for none); got {self.weight!r}"
            )
        if self.form:
            _check_form(self.name, self.form)


def weighted(
    logits: jax.Array, density: jax.Array, fixations: jax.Array | None, terms: tuple[Term, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the weighted sum to minimise, [B], and the score of each term by name, [B] each, in float32.

    Clips that only fill a batch up must be masked out by the caller; their values are finite.

    Args:
      logits: [B, H, W], of any float type; the sigmoid is taken in float32.
      density: [B, H, W] in [0, 1].
      fixations: [B, H, W], or None where no term is `nss`.
      terms: each name at most once.

    Raises:
      AvsalError: no term, a name twice, `nss` without fixations, or shapes that differ.
    """
    names = [term.name for term in terms]
    if not names or len(set(names)) < len(names):
        raise AvsalError(f"a training loss takes one or more terms, each name once; got {names}")
    if "nss" in names and fixations is None:
        raise AvsalError("the loss 'nss' needs fixation maps and the data has none; leave the term out")
    logits = jnp.asarray(logits, jnp.float32)
    saliency = jax.nn.sigmoid(logits)
    scores = {}
    for term in terms:
        prediction = logits if term.name == "bce" else saliency
        truth = fixations if term.name == "nss" else density
        form = {"form": term.form} if term.form else {}
        scores[term.name] = LOSSES[term.name](prediction, truth, **form)
    return sum(term.weight * scores[term.name] for term in terms), scores


def _check_form(name, form):
    allowed = FORMS.get(name, ())
    if form not in allowed:
        known = f"its forms are {', '.join(allowed)}" if allowed else "it has no forms"
        raise AvsalError(f"loss {name!r} has no form {form!r}{did_you_mean(form, allowed)}; {known}")


def _checked(prediction, truth):
    prediction, truth = jnp.asarray(prediction), jnp.asarray(truth)
    dtype = jnp.result_type(prediction, truth, jnp.float32)
    prediction, truth = prediction.astype(dtype), truth.astype(dtype)
    if prediction.shape != truth.shape or prediction.ndim < 2:
        raise AvsalError(
            f"a loss takes two arrays of maps [B, H, W] of one shape; got {prediction.shape} and "
            f"{truth.shape}: resize the truth to the network's output"
        )
    return prediction, truth


def _sum(maps):
    return maps.sum((-2, -1), keepdims=True)


def _centre(maps):
    return maps - maps.mean((-2, -1), keepdims=True)


def _distribution(maps, floor=0.0):
    """Returns maps divided by their sums; black ones become zeros, cut off from the gradient.

    The scale cancels, so dividing by the largest value first, as a constant, changes neither value nor
    gradient, and keeps squares of small sums from underflowing.
    """
    high = jax.lax.stop_gradient(maps.max((-2, -1), keepdims=True))
    black = high < _FLOOR
    maps = jnp.where(black, 0.0, jnp.maximum(maps / jnp.where(black, 1.0, high), floor))
    return maps / jnp.where(black, 1.0, _sum(maps))


def _stretch(maps):
    """Returns maps from 0 to 1 by constants, which of them vary, and the spread, [..., 1, 1] (1 if constant).

    CC, SIM and NSS do not see an affine map of P, so the gradient need not pass through low and high.
    Constant maps come out as zeros, cut off from the gradient.
    """
    low = jax.lax.stop_gradient(maps.min((-2, -1), keepdims=True))
    high = jax.lax.stop_gradient(maps.max((-2, -1), keepdims=True))
    largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
    varies = ~(high - low <= jnp.maximum(_ROUNDINGS * largest, _FLOOR))  # so that a NaN is not a constant
    spread = jnp.where(varies, high - low, 1.0)
    return jnp.where(varies, (maps - low) / spread, 0.0), varies, spread


def _min_max(maps):
    """Returns maps stretched from 0 to 1 and divided by their sums, with the gradient of both; which vary."""
    maps, varies, _ = _stretch(maps)
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    maps = (maps - low) / jnp.where(varies, high - low, 1.0)
    return maps / jnp.where(varies, _sum(maps), 1.0), varies
