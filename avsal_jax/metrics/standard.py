"""The metrics of the package: those of the MIT benchmark, and how a map's mass is calibrated."""

from __future__ import annotations

import functools

from avsal_jax import metrics
from avsal_jax.metrics.metric import Frame, Metric
from avsal_jax.registry import register

CALIBRATION_PERCENTS = (1, 5, 10, 20)  # of the cells


def _nss(frame: Frame) -> float:
    if frame.on_grid:
        return metrics.nss_at(frame.saliency, frame.points)
    return metrics.nss(frame.saliency, frame.fixated)


def _auc_judd(frame: Frame) -> float:
    return metrics.auc_judd(frame.saliency, frame.fixated, jitter=frame.draw("jitter"))


def _auc_shuffled(frame: Frame) -> float:
    elsewhere = frame.elsewhere()
    if not elsewhere.any():
        return float("nan")
    negatives = metrics.sample_shuffled_negatives(frame.fixated, elsewhere, frame.draw("negatives"))
    return metrics.auc_shuffled(frame.saliency, frame.fixated, negatives)


def _auc_borji(frame: Frame) -> float:
    negatives = metrics.sample_uniform_negatives(frame.fixated, frame.draw("uniform"))
    return metrics.auc_borji(frame.saliency, frame.fixated, negatives)


def _information_gain(frame: Frame) -> float:
    if frame.on_grid:
        return metrics.information_gain_at(frame.saliency, frame.points, frame.prior)
    return metrics.information_gain(
        frame.saliency, frame.fixated, metrics.imresize(frame.prior, *frame.saliency.shape)
    )


register("metric", "cc")(
    Metric(
        "CC",
        "correlation of the map with the density of fixations; 1 is perfect",
        score=lambda frame: metrics.cc(frame.saliency, frame.density),
        needs=("density",),
        by_default=True,
        bounds=(-1, 1),
        milliseconds=3,
        validation=lambda saliency, batch: metrics.cc(saliency, batch["density"]),
    )
)
register("metric", "sim")(
    Metric(
        "SIM",
        "overlap of map and density, both stretched and divided by their sums; 1 is perfect",
        score=lambda frame: metrics.sim(frame.saliency, frame.density),
        needs=("density",),
        by_default=True,
        bounds=(0, 1),
        milliseconds=4,
        validation=lambda saliency, batch: metrics.sim(saliency, batch["density"]),
    )
)
register("metric", "nss")(
    Metric(
        "NSS",
        "standard deviations above its mean that the map has where people looked; 0 is chance",
        score=_nss,
        by_default=True,
        per_fixation=True,
        digits=2,
        milliseconds=3,
        validation=lambda saliency, batch: metrics.nss(saliency, batch["fixations"]),
    )
)
register("metric", "kl")(
    Metric(
        "KL",
        "divergence of the map from the density in nats; 0 is perfect, lower is better",
        score=lambda frame: metrics.kl(frame.saliency, frame.density),
        needs=("density",),
        lower_is_better=True,
        by_default=True,
        digits=2,
        milliseconds=4,
        validation=lambda saliency, batch: metrics.kl(saliency, batch["density"]),
    )
)
register("metric", "auc_judd")(
    Metric(
        "AUC-J",
        "probability that a fixated cell has a higher value than another cell; 0.5 is chance",
        score=_auc_judd,
        by_default=True,
        bounds=(0, 1),
        milliseconds=7,
    )
)
register("metric", "auc_shuffled")(
    Metric(
        "s-AUC",
        "probability that a fixated cell has a higher value than a cell fixated in other frames or on other "
        "stimuli (see `avsal list protocol`), so that a centre prior gains little; 0.5 is chance",
        score=_auc_shuffled,
        by_default=True,
        bounds=(0, 1),
        milliseconds=17,
    )
)
register("metric", "auc_borji")(
    Metric(
        "AUC-B",
        "probability that a fixated cell has a higher value than a random cell, in 100 draws; 0.5 is chance",
        score=_auc_borji,
        bounds=(0, 1),
        milliseconds=14,
    )
)
register("metric", "information_gain")(
    Metric(
        "IG",
        "bits per fixation by which the map, as a density, is better than the prior; below 0 it is worse",
        score=_information_gain,
        needs=("fixations", "prior"),
        per_fixation=True,
        digits=2,
        milliseconds=5,
        remark="The information gain is over the {prior}, in bits per fixation.",
    )
)


def top_name(percent: int) -> str:
    """Returns the name of the metric that is the share of fixations in the highest `percent` of cells."""
    return f"top_{percent}"


def mass_name(percent: int) -> str:
    """Returns the name of the metric that is a map's share of mass in the highest `percent` of cells."""
    return f"mass_{percent}"


def _fixations_at_top(frame: Frame, share: float) -> float:
    return metrics.top_share(frame.saliency, frame.points, share)


def _mass_at_top(frame: Frame, share: float) -> float:
    return metrics.top_mass(frame.saliency, share)


def _register_calibration(name: str, about: str, score, needs: tuple = ("fixations",)) -> None:
    metric = Metric(
        name,
        about,
        score=score,
        needs=needs,
        per_fixation=True,
        grid_only=True,
        bounds=(0, 1),
        milliseconds=7,
    )
    register("metric", name)(metric)


for _percent in CALIBRATION_PERCENTS:
    _register_calibration(
        top_name(_percent),
        f"share of the fixations in the {_percent} % of cells where the map is highest",
        score=functools.partial(_fixations_at_top, share=_percent / 100),
    )
for _percent in CALIBRATION_PERCENTS:
    _register_calibration(
        mass_name(_percent),
        f"share of its mass that the map has in the {_percent} % of cells where it is highest",
        score=functools.partial(_mass_at_top, share=_percent / 100),
        needs=(),
    )
