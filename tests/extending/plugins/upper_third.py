"""A baseline of your own: people look at the upper third of the frame.

    avsal evaluate --plugin upper_third.py --dataset diem --root DATA --model upper_third --output OUT

The same map for every frame; `request.training()` would give the training videos, for a rule that is fitted.
"""

import numpy as np

from avsal_jax import register
from avsal_jax.evaluation import Baseline, Constant

AVSAL_API = "1.0"


def upper_third(request):
    """Returns the source of the maps."""
    height = (np.arange(96) + 0.5) / 96
    band = np.exp(-((height - 1 / 3) ** 2) / (2 * 0.15**2))
    saliency = np.repeat(band[:, None], 128, 1).astype(np.float32)
    return Constant(saliency, label="upper third", identity="upper third 1")


register("baseline", "upper_third")(
    Baseline("a horizontal band at a third of the height, its deviation 15 % of it", maps=upper_third)
)
