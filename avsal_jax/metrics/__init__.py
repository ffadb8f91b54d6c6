"""Metrics of saliency maps as the MIT benchmark code computes them, and exact means that can be merged.

The reference is cvzoya/saliency @5951cdc, `code_forMetrics` (MATLAB); where the field's programs disagree,
the other answer is a named option, and docstrings give both values on `smooth`, a case of
`tests/golden/metric_golden.json`. All metrics map [..., H, W] to [...]; a map constant up to rounding counts
as constant. NumPy in, float64 out, without jax. `cc`, `sim`, `kl` and `nss` also take JAX arrays, under `jit`
too; if one argument is a JAX array, the result is.

A metric of your own is a `Metric` (see `metric.py`); it is scored on a `Frame`.
"""

from avsal_jax.contents import offered

_HOMES = {
    "Frame": ".metric",
    "MeanState": ".means",
    "Metric": ".metric",
    "as_density": ".densities",
    "auc_borji": ".auc",
    "auc_judd": ".auc",
    "auc_shuffled": ".auc",
    "cc": ".maps",
    "default_metrics": ".metric",
    "find_metric": ".metric",
    "fixation_map": ".metric",
    "imresize": ".resizing",
    "information_gain": ".maps",
    "information_gain_at": ".densities",
    "kl": ".maps",
    "nss": ".maps",
    "nss_at": ".maps",
    "sample_shuffled_negatives": ".auc",
    "sample_uniform_negatives": ".auc",
    "sim": ".maps",
    "metrics_over_priors": ".metric",
    "top_mass": ".densities",
    "top_share": ".densities",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
