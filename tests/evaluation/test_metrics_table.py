"""What the table of metrics says of each is true of its values."""

import math

import numpy as np
import pytest

from avsal_jax import metrics, registry
from avsal_jax.metrics import Frame


def frame(saliency, truth, on_grid=False, **changes):
    values = {
        "points": np.argwhere(truth > 0.8),
        "density": truth,
        "prior": np.ones((3, 4)) + np.eye(3, 4),
        "on_grid": on_grid,
        "elsewhere": lambda: np.flipud(truth > 0.8),
        "draw": lambda purpose: np.random.default_rng(len(purpose)),
    }
    return Frame(saliency, **{**values, **changes})


@pytest.fixture
def density():
    y, x = np.mgrid[:18, :24] / 18
    return np.exp(-((y - 0.3) ** 2 + (x - 0.5) ** 2) / 0.05)


@pytest.mark.parametrize("name", list(registry.table("metric")))
def test_a_right_map_is_better_than_a_wrong_one_and_both_are_in_bounds(name, density):
    metric = metrics.find_metric(name)
    on_grid = metric.grid_only
    right, wrong = (metric.value(frame(maps, density, on_grid)) for maps in (density, np.flipud(density)))
    assert all(metric.bounds[0] - 1e-9 <= value <= metric.bounds[1] + 1e-9 for value in (right, wrong))
    if metric.needs:
        assert metric.goodness(right) > metric.goodness(wrong)
    else:  # the mass of a map is the same wherever it lies
        assert right == pytest.approx(wrong)


@pytest.mark.parametrize("name", list(registry.table("metric")))
def test_there_is_no_value_without_what_a_metric_needs(name, density):
    metric = metrics.find_metric(name)
    for need, missing in {
        "density": {"density": None},
        "fixations": {"points": np.zeros((0, 2), int)},
        "prior": {"prior": None},
    }.items():
        value = metric.value(frame(density, density, metric.grid_only, **missing))
        assert math.isnan(value) == (need in metric.needs)


def test_these_are_computed_where_none_are_chosen():
    assert metrics.default_metrics() == ("cc", "sim", "nss", "kl", "auc_judd", "auc_shuffled")
    lower = [name for name, metric in registry.table("metric").items() if metric.lower_is_better]
    assert lower == ["kl"] and metrics.metrics_over_priors() == ("information_gain",)
    assert [metrics.find_metric(name).heading for name in ("kl", "auc_shuffled")] == ["KL ↓", "s-AUC"]
