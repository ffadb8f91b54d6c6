"""A conversion: PatchNet, a network of patches of single frames, from PyTorch's state dict.

    avsal convert --plugin patch_net.py --system patch_net --input patch_net.pt --output models/patch_net
    avsal predict clip.mp4 --plugin patch_net.py --model models/patch_net --output out

In PyTorch it is a `Conv3d(3, C, (1, 8, 8), (1, 8, 8))` called `patches` and a `Linear(C, 1)` called `score`.
"""

import flax.linen as nn
import jax

from avsal_jax import InputSpec, register
from avsal_jax.convert import Conversion, Entry
from avsal_jax.models import Channels, Part, System

AVSAL_API = "1.0"

WEIGHT = "patches.weight"


@register("visual_encoder", "patches")
class Patches(Part):
    """Frames [B, T, H, W, 3] -> one level [B, T, H/8, W/8, channels]."""

    channels: Channels = 16

    @nn.compact
    def __call__(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        size = (1, 8, 8)
        return (nn.relu(nn.Conv(self.channels, size, size, padding="VALID", name="patches")(frames)),)


@register("head", "patch_score")
class PatchScore(Part):
    """One level [B, T, h, w, C] -> logits [B, 8h, 8w] of the last frame."""

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        scores = nn.Dense(1, name="score")(pyramid[-1][:, -1])[..., 0]
        batch, height, width = scores.shape
        return jax.image.resize(scores, (batch, 8 * height, 8 * width), "bilinear")


register("system", "patch_net")(
    System(
        "PatchNet, of single frames",
        {"visual_encoder": "patches", "heads": {"saliency": "patch_score"}},
        InputSpec(1, 64, 96),
    )
)


@register("conversion", "patch_net")
class PatchNet(Conversion):
    """PatchNet's state dict, of any number of channels."""

    marks = (WEIGHT,)

    def recognise(self, tensors) -> dict:
        return {"visual_encoder.channels": tensors[WEIGHT].shape[0]} if WEIGHT in tensors else {}

    def table(self, settings, tensors):
        yield Entry(WEIGHT, "params/visual_encoder/patches/kernel", "conv3d")
        yield Entry("patches.bias", "params/visual_encoder/patches/bias", "vector")
        yield Entry("score.weight", "params/heads/saliency/score/kernel", "linear")
        yield Entry("score.bias", "params/heads/saliency/score/bias", "vector")
