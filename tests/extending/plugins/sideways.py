"""A metric of your own: how far attention must move sideways to go from the map to the truth.

    avsal evaluate --plugin sideways.py --dataset diem --root R --model DIR --metrics cc,sideways --output O
    avsal train --plugin sideways.py --config CONFIG --workdir RUN --config.evaluation.metric=sideways

Lower is better, so `compare` marks the smallest value, and training keeps the checkpoint that has it.
"""

from avsal_jax import register
from avsal_jax.metrics import Metric

AVSAL_API = "1.0"
__version__ = "1.0"  # `evaluate` keeps results of this version, and computes those of another again


def sideways(saliency, density):
    """Returns the earth mover's distance of the column sums, in widths of the map, [..., H, W] -> [...].

    It takes NumPy arrays and, for validation in training, JAX arrays under `jit`.
    """
    columns = [maps.sum(-2) + 1e-12 for maps in (saliency, density)]  # a black map is even
    predicted, true = (values / values.sum(-1)[..., None] for values in columns)
    return abs((predicted - true).cumsum(-1)).mean(-1)


register("metric", "sideways")(
    Metric(
        title="EMD-x",
        about="distance in widths by which attention must move sideways; 0 is perfect, lower is better",
        score=lambda frame: sideways(frame.saliency, frame.density),
        needs=("density",),
        lower_is_better=True,
        bounds=(0, 1),
        validation=lambda saliency, batch: sideways(saliency, batch["density"]),
    )
)
