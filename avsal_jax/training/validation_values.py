"""The values that validation computes: the loss, and registered metrics by name."""

from __future__ import annotations

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.metrics import Metric, default_metrics, find_metric

LOSS = "loss"


def usual_metrics() -> tuple[str, ...]:
    """Returns the names of the metrics that validation computes by default."""
    return tuple(name for name in default_metrics() if find_metric(name).validation is not None)


def usable_metrics() -> dict[str, Metric]:
    """Returns the metrics that validation can compute, by name."""
    return {name: row for name, row in registry.table("metric").items() if row.validation is not None}


def check_metric(name: str, field: str, also: tuple[str, ...] = ()) -> None:
    """Raises AvsalError unless validation can compute a metric.

    Args:
      name: of the metric.
      field: the config field, for errors, such as `evaluation.metric`.
      also: additional allowed names.
    """
    metric = registry.lookup("metric", name)
    if name in also or (metric is not None and metric.validation is not None):
        return
    names = (*also, *usable_metrics())
    if metric is None:
        raise AvsalError(f"{field} {name!r} is not one of {', '.join(names)}{did_you_mean(name, names)}")
    raise AvsalError(f"{field} {name!r} cannot be computed in validation; use one of {', '.join(names)}")


def falls(name: str) -> bool:
    """Whether smaller values of the loss or a metric are better."""
    return name == LOSS or find_metric(name).lower_is_better
