"""Losses by name on maps: kl, cc, sim, nss, bce; in float32 at least, finite, with finite gradients.

Every function returns the score of each clip, [..., H, W] -> [...], so the weights of the papers' tables
read as printed: kl 1, cc -0.1, sim -0.1 (DiffSal's configuration; AVRSP Eq. 19). They are the training code's
formulas, not `avsal_jax.metrics`: an undefined metric is NaN, but a loss must always be a number.

Cases in which the public code divides by zero are defined as follows: CC, SIM and NSS of a constant map are
0; an all-black density and a clip without fixations score 0; the gradient is 0. A map counts as constant if
the range of its values is less than 32 roundings of the largest, or less than 1e-18; as black if below 1e-18.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.registry import register
from avsal_jax.spec.fields import checked

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
    _check_form("kl", form, KL_FORMS)
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
      form: the step before each map is divided by its sum. `stretched`: both maps are stretched from 0 to 1,
        as in ViNet's loss.py and the metric. `sums`: no step, as in AVRSP Eq. 18. CASP-Net's Eq. 10 says only
        "the normalization operation".

    Raises:
      AvsalError: an unknown form, or shapes that differ.
    """
    _check_form("sim", form, SIM_FORMS)
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
    _check_form("bce", form, BCE_FORMS)
    logits, density = _checked(logits, density)
    entropy = jax.nn.softplus(logits) - logits * density
    return entropy.sum((-2, -1)) if form == "sum" else entropy.mean((-2, -1))


@dataclasses.dataclass(frozen=True)
class Loss:
    """A score of each clip that training lowers, or raises with a negative weight.

    Attributes:
      function: (prediction, truth[, form=]) -> score, [..., H, W] twice -> [...], finite everywhere.
      truth: what it compares with: the `density` or the `fixations` of a clip.
      prediction: what it takes: the `saliency`, a sigmoid of the logits, or the `logits` themselves.
      forms: which printed forms there are, the default first; `function` then takes `form`.
      rises: whether a larger score is better, so that its weight is negative.
    """

    function: Callable[..., jax.Array]
    truth: Literal["density", "fixations"] = "density"
    prediction: Literal["saliency", "logits"] = "saliency"
    forms: tuple[str, ...] = ()
    rises: bool = False

    @property
    def about(self) -> str:
        """The first paragraph of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n\n")[0]

    @property
    def form(self) -> str:
        """The default form; empty for a loss without forms."""
        return self.forms[0] if self.forms else ""


register("loss", "kl")(Loss(kl, forms=KL_FORMS))
register("loss", "cc")(Loss(cc, rises=True))
register("loss", "sim")(Loss(sim, forms=SIM_FORMS, rises=True))
register("loss", "nss")(Loss(nss, truth="fixations", rises=True))
register("loss", "bce")(Loss(bce, prediction="logits", forms=BCE_FORMS))
DEFAULT_WEIGHTS = {"kl": 1.0}  # of losses that a config does not set; 0 for the others


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of the training loss.

    Attributes:
      name: of a registered loss.
      weight: signed as the papers print it; scores to be raised (cc, sim, nss) have a negative one.
      form: one of `Loss.forms`; empty for the default, and for losses without forms.
    """

    name: str
    weight: float = 1.0
    form: str = ""

    def __post_init__(self):
        loss = registry.find("loss", self.name)
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not number or not math.isfinite(self.weight) or self.weight == 0:
            raise AvsalError(
                f"the weight of loss {self.name!r} must be a finite number other than 0 (leave the loss out "
                f"for none); got {self.weight!r}"
            )
        if self.form:
            _check_form(self.name, self.form, loss.forms)

    @property
    def loss(self) -> Loss:
        """What is registered under the name."""
        return registry.find("loss", self.name)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses by name, as the papers print them (cc=-0.1 rewards correlation); 0 for none.

    Its plain form is flat: {"kl": 1.0, "kl_form": "avrsp", "cc": -0.1}.

    Attributes:
      weights: by name; a missing loss has its value in `DEFAULT_WEIGHTS`, else 0.
      forms: by name, of losses that have forms, see `Loss.forms`.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    forms: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        table = registry.table("loss")
        for name in (*self.weights, *self.forms):
            registry.find("loss", name)
        weights = {name: float(self.weights.get(name, DEFAULT_WEIGHTS.get(name, 0.0))) for name in table}
        forms = {name: self.forms.get(name, loss.form) for name, loss in table.items() if loss.forms}
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "forms", forms)

    @classmethod
    def value_types(cls) -> dict[str, object]:
        """Returns the types of the keys of the plain form: a weight for each loss, and forms."""
        table = registry.table("loss")
        forms = {f"{name}_form": str for name, loss in table.items() if loss.forms}
        return dict.fromkeys(table, float) | forms

    @classmethod
    def from_values(cls, values: Mapping, path: str) -> LossConfig:
        """Returns the config of its plain form; AvsalError as `spec.fields.checked`."""
        registered = cls.value_types()
        for name in values:
            if name not in registered:
                registry.lookup("loss", name)  # an installed plugin may have it
        values = checked(values, hints=cls.value_types(), owner=path, path=f"{path}.")
        forms = {name.removesuffix("_form"): form for name, form in values.items() if isinstance(form, str)}
        return cls({name: value for name, value in values.items() if isinstance(value, float)}, forms)

    def to_values(self) -> dict[str, float | str]:
        """Returns the plain form, with the losses of plugins that count."""
        of_package = [name for name in self.weights if registry.origin_of("loss", name) is registry.PACKAGE]
        names = [name for name, weight in self.weights.items() if weight or name in of_package]
        forms = {f"{name}_form": self.forms[name] for name in names if name in self.forms}
        return {name: self.weights[name] for name in names} | forms

    def terms(self) -> tuple[Term, ...]:
        """Returns the losses with a nonzero weight; raises AvsalError if all weights are 0."""
        for name, form in self.forms.items():
            if not self.weights[name] and form != (default := registry.find("loss", name).form):
                raise AvsalError(
                    f"loss.{name}_form={form} changes nothing with loss.{name}=0; leave it at {default}"
                )
        forms, weights = self.forms, self.weights
        terms = tuple(Term(name, weight, forms.get(name, "")) for name, weight in weights.items() if weight)
        if not terms:
            raise AvsalError(f"all losses have weight 0; give one of {', '.join(weights)} a weight")
        return terms


def weighted(
    logits: jax.Array, density: jax.Array, fixations: jax.Array | None, terms: tuple[Term, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the weighted sum to minimise, [B], and the score of each term by name, [B] each, in float32.

    Clips that only fill a batch up must be masked out by the caller; their values are finite.

    Args:
      logits: [B, H, W], of any float type; the sigmoid is taken in float32.
      density: [B, H, W] in [0, 1].
      fixations: [B, H, W], or None where no term needs them.
      terms: each name at most once.

    Raises:
      AvsalError: no term, a name twice, no fixations where a term needs them, or shapes that differ.
    """
    names = [term.name for term in terms]
    if not names or len(set(names)) < len(names):
        raise AvsalError(f"a training loss takes one or more terms, each name once; got {names}")
    truth = {"density": density, "fixations": fixations}
    missing = [term.name for term in terms if truth[term.loss.truth] is None]
    if missing:
        raise AvsalError(
            f"the loss {missing[0]!r} needs fixation maps and the data has none; leave the term out"
        )
    logits = jnp.asarray(logits, jnp.float32)
    prediction = {"logits": logits, "saliency": jax.nn.sigmoid(logits)}
    scores = {}
    for term in terms:
        loss, form = term.loss, {"form": term.form} if term.form else {}
        scores[term.name] = loss.function(prediction[loss.prediction], truth[loss.truth], **form)
    return sum(term.weight * scores[term.name] for term in terms), scores


def _check_form(name, form, allowed):
    if form not in allowed:
        choices = f"its forms are {', '.join(allowed)}" if allowed else "it has no forms"
        raise AvsalError(f"loss {name!r} has no form {form!r}{did_you_mean(form, allowed)}; {choices}")


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
