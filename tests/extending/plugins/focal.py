r"""A loss: binary cross-entropy in which pixels count less that are predicted well already.

    avsal train --plugin focal.py --config vinet_dhf1k --workdir runs/focal \
        --config.loss.focal=1.0 --config.loss.kl=0
"""

import jax
import jax.numpy as jnp

from avsal_jax import register
from avsal_jax.losses import Loss

AVSAL_API = "1.0"
FORMS = ("mean", "sum")


def focal(logits: jax.Array, density: jax.Array, *, form: str = "mean") -> jax.Array:
    """Returns the focal loss (Lin et al. 2017, with gamma 2) of soft labels, [..., H, W] twice -> [...].

    Args:
      logits: [..., H, W], before the sigmoid.
      density: of the same shape, in [0, 1].
      form: `mean` or `sum` over the pixels.
    """
    entropy = jax.nn.softplus(logits) - logits * density
    values = (density - jax.nn.sigmoid(logits)) ** 2 * entropy
    return values.mean((-2, -1)) if form == "mean" else jnp.sum(values, (-2, -1))


register("loss", "focal")(Loss(focal, prediction="logits", forms=FORMS))
