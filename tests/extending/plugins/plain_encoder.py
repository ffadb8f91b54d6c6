r"""A visual encoder that works on whole clips, with sizes divisible by 16 and a mean of its own.

    avsal train --plugin plain_encoder.py --config vinet_dhf1k --workdir runs/plain \
        --config.model.visual_encoder=plain --config.model.heads.saliency=avrsp
"""

from typing import ClassVar

import flax.linen as nn
import jax

from avsal_jax import register
from avsal_jax.models import Channels, Part
from avsal_jax.spec import Pixels

AVSAL_API = "1.0"


@register("visual_encoder", "plain")
class PlainEncoder(Part):
    """Frames [B, T, H, W, 3] -> four levels [B, T, h, w, channels] at H/4, H/8, H/16 and H/16.

    Fields:
      channels: of every level.
    """

    channels: Channels = 8

    default_input: ClassVar = {
        "divisor": 16,
        "pixels": Pixels(mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.2, 0.2)),
    }

    @nn.compact
    def __call__(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        x, pyramid = frames, []
        for number, stride in enumerate((4, 2, 2, 1), start=1):
            padding = ((1, 1), (stride // 2, stride // 2), (stride // 2, stride // 2))
            kernel = (3, stride + 1 - stride % 2, stride + 1 - stride % 2)
            x = nn.Conv(self.channels, kernel, (1, stride, stride), padding=padding, name=f"conv{number}")(x)
            x = nn.relu(x)
            pyramid.append(x)
        return tuple(pyramid)
