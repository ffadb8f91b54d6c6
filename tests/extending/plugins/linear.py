r"""A schedule: the learning rate falls on a line to its last value.

    avsal train --plugin linear.py --config vinet_dhf1k --workdir runs/linear \
        --config.optimizer.schedule=linear --config.optimizer.schedule.last=0.1
"""

import dataclasses

from avsal_jax import register
from avsal_jax.spec import Share
from avsal_jax.training import Schedule

AVSAL_API = "1.0"


@register("schedule", "linear")
@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """From the full rate at the first step to a share of it at the end of the run.

    Attributes:
      last: that share.
    """

    last: Share = 0.0

    def build(self, total_steps):
        return lambda step: 1 - (1 - self.last) * step / total_steps
