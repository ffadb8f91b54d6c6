r"""An objective with a stream: maps of mirrored clips must be mirrored, on videos that need no truth.

    avsal train --plugin mirrored.py --config vinet_dhf1k --workdir runs/mirrored \
        --config.objective=mirrored --config.objective.sources="(('diem', 1),)"
"""

import dataclasses

import jax
import jax.numpy as jnp

from avsal_jax import AvsalError, register
from avsal_jax.spec import Decay, NotNegative
from avsal_jax.training import (
    ObjectiveConfig,
    StepOutputs,
    Stream,
    Supervised,
    clip_of,
)

AVSAL_API = "1.0"
UNLABELLED = "unlabelled"


@register("objective", "mirrored")
@dataclasses.dataclass(frozen=True)
class MirroredConfig(ObjectiveConfig):
    """The losses of labelled clips, and how far maps of mirrored clips are from mirrored maps.

    Attributes:
      sources: of the clips without truth, as `data.sources`.
      root: the folder of their prepared sets; '' for `data.root`.
      weight: of the distance.
      decay: of its mean over the steps, which is logged.
    """

    sources: tuple = ()
    root: str = ""
    weight: NotNegative = 1.0
    decay: Decay = 0.9

    def streams(self):
        unlabelled = Stream(labelled=False, sources=self.sources, root=self.root)
        return {**super().streams(), UNLABELLED: unlabelled}

    def check(self, config):
        super().check(config)
        if not self.sources:
            raise AvsalError("objective.sources is empty: name sets without truth, as (('diem', 1),)")

    def notes(self, videos):
        return {"unlabelled data": f"{len(videos[UNLABELLED])} videos"}

    def build(self, network, terms, medium="video"):
        return Mirrored(network, terms, medium=medium, config=self)


class Mirrored(Supervised):
    """Logged: `mirrored`, the mean squared distance, and `mirrored/mean`, its mean over the steps."""

    def __init__(self, network, terms, medium, config):
        super().__init__(network, terms, medium)
        self._network, self._config = network, config

    def extra_variables(self, seed):
        return {"params": {}, "batch_stats": {}, "extra": {"mirrored_mean": jnp.zeros(())}}

    def loss(self, params, inputs):
        value, outputs = super().loss(params, inputs)
        clips = inputs.batches[UNLABELLED]
        variables = {"params": params, "batch_stats": outputs.batch_stats}

        def maps(frames):
            clip = clip_of({**clips, "frames": frames})
            return jax.nn.sigmoid(self._network.run(variables, clip).logits["saliency"])

        frames = clips["frames"]
        distance = jnp.mean((maps(frames)[..., ::-1] - maps(frames[..., ::-1, :])) ** 2)
        decay = self._config.decay
        mean = decay * inputs.extra["mirrored_mean"] + (1 - decay) * jax.lax.stop_gradient(distance)
        values = {**outputs.values, "mirrored": distance, "mirrored/mean": mean}
        extra = {**outputs.extra, "mirrored_mean": mean}
        return value + self._config.weight * distance, StepOutputs(outputs.batch_stats, extra, values)
