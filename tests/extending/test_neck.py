"""A neck: each level and its mean over time."""

import jax
import numpy as np

from avsal_jax import Clip, create_model
from avsal_jax.models import init_variables

SETTINGS = {
    "frames": 8,
    "height": 64,
    "width": 96,
    "visual_encoder": {"name": "small", "width": 1 / 16},
    "neck": {"name": "temporal_mean", "channels": 4},
    "heads.saliency": "small",
}


def test_the_neck_replaces_the_channels_of_each_level(plugin):
    plugin("temporal_mean")
    network, _ = create_model("vinet", **SETTINGS)
    variables = init_variables(network, 0)
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, 64, 96, 3), np.uint8)
    outputs = jax.jit(network.run, static_argnames="features")(variables, Clip(frames), features=("taps",))
    assert [level.shape for level in outputs.features["taps"]] == [
        (1, 4, 16, 24, 4),
        (1, 4, 8, 12, 4),
        (1, 2, 4, 6, 4),
        (1, 1, 2, 3, 4),
    ]
    assert outputs.logits["saliency"].shape == (1, 64, 96)
