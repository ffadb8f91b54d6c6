"""A visual encoder that works on clips alone, with sizes divisible by 16 and a mean of its own."""

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, Model, create_model
from avsal_jax.losses import Term
from avsal_jax.models import build, init_variables, resolve
from avsal_jax.storage import StoredModel
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.objectives import Supervised


@pytest.fixture(autouse=True)
def registered(plugin):
    plugin("plain_encoder")


SETTINGS = {
    "frames": 8,
    "height": 48,
    "width": 80,
    "visual_encoder": {"name": "plain", "channels": 4},
    "heads.saliency": {"name": "avrsp", "width": 1 / 16},
}


def test_the_encoder_brings_its_numbers_of_the_input():
    network, spec = create_model("vinet", **SETTINGS)
    assert (spec.divisor, spec.pixels.mean, network.shares_frames) == (16, (0.5, 0.4, 0.3), False)
    with pytest.raises(AvsalError, match="height must be divisible by 16; got 50"):
        create_model("vinet", **{**SETTINGS, "height": 50})
    grey = np.full((1, 8, 48, 80, 3), [128, 102, 77], np.uint8)
    variables = init_variables(network, 0)
    run = jax.jit(network.run)
    logits = run(variables, Clip(grey)).logits["saliency"]
    normal = ((grey / np.float32(255) - [0.5, 0.4, 0.3]) / 0.2).astype(np.float32)
    by_hand = run(variables, Clip(normal, normalized=True)).logits["saliency"]
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)


def test_it_trains():
    network, spec = create_model("vinet", **SETTINGS)
    variables = init_variables(network, 0)
    state, values = train_once(
        Supervised(network, (Term("kl"),)), variables, {"labelled": random_clips(spec, 2)}
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
    expected = model(Clip(frames[None, 5:13])).saliency[0]
    np.testing.assert_allclose(maps[12], expected, atol=1e-6)
