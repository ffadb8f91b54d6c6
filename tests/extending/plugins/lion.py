r"""An optimizer: Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms").

    avsal train --plugin lion.py --config vinet_dhf1k --workdir runs/lion \
        --config.optimizer=lion --config.optimizer.learning_rate=1e-5 --config.optimizer.b2=0.98
"""

import dataclasses

import optax

from avsal_jax import register
from avsal_jax.spec import Decay
from avsal_jax.training import Optimizer

AVSAL_API = "1.0"


@register("optimizer", "lion")
@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of a mean of gradients; weight decay is taken off the parameter.

    Attributes:
      b1: share of earlier gradients in the sign.
      b2: share of earlier gradients in what is kept.
    """

    b1: Decay = 0.9
    b2: Decay = 0.99

    def build(self, weight_decay):
        decay = (optax.add_decayed_weights(weight_decay),) if weight_decay else ()
        return (optax.scale_by_lion(self.b1, self.b2), *decay)
