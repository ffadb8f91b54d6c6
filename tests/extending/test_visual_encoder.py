"""A visual encoder that works on clips alone, with sizes divisible by 16 and a mean of its own."""

from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, Model, create_model
from avsal_jax.losses import Term
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.spec.input import Pixels
from avsal_jax.storage import StoredModel
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.objectives import Supervised


class PlainEncoder(nn.Module):
    """Frames [B, T, H, W, 3] -> four levels at H/4, H/8, H/16 and H/16."""

    channels: int = 8

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


SETTINGS = {
    "frames": 8,
    "height": 48,
    "width": 80,
    "visual_encoder": {"name": PlainEncoder, "channels": 4},
    "heads.saliency": {"name": "avrsp", "width": 1 / 16},
}


def test_the_encoder_brings_its_numbers_of_the_input():
    network, spec = create_model("vinet", **SETTINGS)
    assert (spec.divisor, spec.pixels.mean, network.shares_frames) == (16, (0.5, 0.4, 0.3), False)
    with pytest.raises(AvsalError, match="height must be divisible by 16; got 50"):
        create_model("vinet", **{**SETTINGS, "height": 50})
    grey = np.full((1, 8, 48, 80, 3), [128, 102, 77], np.uint8)
    variables = init_variables(network, 0)
    logits = network.run(variables, Clip(grey)).logits["saliency"]
    normal = ((grey / np.float32(255) - [0.5, 0.4, 0.3]) / 0.2).astype(np.float32)
    by_hand = network.run(variables, Clip(normal, normalized=True)).logits["saliency"]
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)


def test_it_trains():
    network, spec = create_model("vinet", **SETTINGS)
    variables = init_variables(network, 0)
    state, values = train_once(
        Supervised(network, (Term("kl"),)), variables, {"source": random_clips(spec, 2)}
    )
    assert np.isfinite(values["loss"]) and values["gradient_norm"] > 0
    moved = (
        state.params["visual_encoder"]["conv1"]["kernel"]
        - variables["params"]["visual_encoder"]["conv1"]["kernel"]
    )
    assert np.abs(moved).max() > 0


def test_a_sliding_window_gives_what_single_clips_give():
    preset = resolve("vinet", SETTINGS)
    network = build(preset)
    variables = init_variables(network, 0)
    model = Model(StoredModel(preset, network, variables, {}))
    frames = np.random.default_rng(0).integers(0, 256, (20, 48, 80, 3), np.uint8)
    maps = model.predict_frames(frames, fps=25)
    expected = jax.nn.sigmoid(network.run(variables, Clip(frames[None, 5:13])).logits["saliency"][0])
    np.testing.assert_allclose(maps[12], expected, atol=1e-6)
