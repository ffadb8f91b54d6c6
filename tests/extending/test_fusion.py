"""A fusion with a nested option: sound scales the channels of the coarsest level, perhaps through a gate."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.losses import Term
from avsal_jax.models import init_variables
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.objectives import Supervised


@pytest.fixture(autouse=True)
def registered(plugin):
    plugin("scaled_channels")


def network_of(**changes):
    settings = {
        "frames": 8,
        "height": 64,
        "width": 96,
        "visual_encoder": {"name": "small", "width": 1 / 16},
        "audio_encoder.width": 1 / 32,
        "audio.samples": 4574,
        "fusion": "scaled_channels",
        "heads.saliency.width": 1 / 16,
    }
    return create_model("avinet", **{**settings, **changes})


def test_the_nested_option_is_set_as_data():
    def gate(**changes):
        return network_of(**changes)[0].fusion.gate

    assert (gate().strength, gate().steepness) == (0.5, 1)
    assert gate(**{"fusion.gate.strength": 0.25}) == dataclasses.replace(gate(), strength=0.25)
    assert gate(fusion={"name": "scaled_channels", "gate": {"steepness": 2}}).steepness == 2.0
    assert gate(fusion={"name": "scaled_channels", "gate": None}) is None
    with pytest.raises(AvsalError, match=r"fusion.gate.strength must be a number from 0 to 1; got 2"):
        network_of(**{"fusion.gate.strength": 2})
    with pytest.raises(AvsalError, match=r"fusion.gate has no field 'power'; it has strength, steepness"):
        network_of(**{"fusion.gate.power": 2})


def test_it_trains_and_hears():
    network, spec = network_of()
    variables, batch = init_variables(network, 0), random_clips(spec, 2)
    state, values = train_once(Supervised(network, (Term("kl"),)), variables, {"labelled": batch})
    assert np.isfinite(values["loss"])
    moved = state.params["fusion"]["Dense_0"]["bias"] - variables["params"]["fusion"]["Dense_0"]["bias"]
    assert np.abs(moved).max() > 0
    run = functools.partial(network.run, features=("fused",))
    outputs = jax.eval_shape(run, variables, Clip(batch["frames"], batch["audio"]))
    assert outputs.features["fused"].shape[0] == 2
