"""Metrics of saliency maps as the MIT benchmark code computes them, and exact means that can be merged.

The reference is cvzoya/saliency @5951cdc, `code_forMetrics` (MATLAB); where the field's programs disagree,
the other answer is a named option, and docstrings give both values on `smooth`, a case of
`tests/golden/metric_golden.json`. All metrics map [..., H, W] to [...]; a map constant up to rounding counts
as constant. NumPy in, float64 out, without jax. `cc`, `sim`, `kl` and `nss` also take JAX arrays, under `jit`
too; if one argument is a JAX array, the result is.
"""

from avsal_jax.metrics.auc import (
    auc_borji,
    auc_judd,
    auc_shuffled,
    sample_shuffled_negatives,
    sample_uniform_negatives,
)
from avsal_jax.metrics.densities import as_density, information_gain_at, top_mass, top_share
from avsal_jax.metrics.imresize import imresize
from avsal_jax.metrics.maps import cc, information_gain, kl, nss, nss_at, sim
from avsal_jax.metrics.state import MeanState

__all__ = [
    "MeanState",
    "as_density",
    "auc_borji",
    "auc_judd",
    "auc_shuffled",
    "cc",
    "imresize",
    "information_gain",
    "information_gain_at",
    "kl",
    "nss",
    "nss_at",
    "sample_shuffled_negatives",
    "sample_uniform_negatives",
    "sim",
    "top_mass",
    "top_share",
]
