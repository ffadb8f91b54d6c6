"""A fusion with a nested option: sound scales the channels of the coarsest level, perhaps through a gate."""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.losses import Term
from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.network import init_variables
from avsal_jax.spec.fields import Range
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.objectives import Supervised


@dataclasses.dataclass(frozen=True)
class Gate:
    """How strongly the sound acts: from 0 to `strength`, by a sigmoid of `steepness`."""

    strength: Annotated[float, Range(0, 1)] = 0.5
    steepness: float = 1.0


class ScaledChannels(Fusion):
    """Multiplies each channel of the coarsest level by one plus a linear function of the sound."""

    gate: Gate | None = Gate()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        if tokens is None:
            return pyramid
        *finer, level = pyramid
        scale = nn.Dense(level.shape[-1])(tokens.mean(1))
        if self.gate is not None:
            scale = self.gate.strength * jax.nn.sigmoid(self.gate.steepness * scale)
        level = level * (1 + scale[:, None, None, None])
        self.sow("intermediates", "fused", level.reshape(*level.shape[:1], -1, level.shape[-1]))
        return (*finer, level)


def network_of(**changes):
    settings = {
        "frames": 8,
        "height": 64,
        "width": 96,
        "visual_encoder": {"name": "small", "width": 1 / 16},
        "audio_encoder.width": 1 / 32,
        "audio.samples": 4574,
        "fusion": {"name": ScaledChannels},
        "heads.saliency.width": 1 / 16,
    }
    return create_model("avinet", **{**settings, **changes})


def test_the_nested_option_is_set_as_data():
    assert network_of()[0].fusion.gate == Gate()
    assert network_of(**{"fusion.gate.strength": 0.25})[0].fusion.gate == Gate(0.25)
    assert (
        network_of(fusion={"name": ScaledChannels, "gate": {"steepness": 2}})[0].fusion.gate.steepness == 2.0
    )
    assert network_of(fusion={"name": ScaledChannels, "gate": None})[0].fusion.gate is None
    with pytest.raises(AvsalError, match=r"fusion.gate.strength must be a number from 0 to 1; got 2"):
        network_of(**{"fusion.gate.strength": 2})
    with pytest.raises(AvsalError, match=r"fusion.gate has no field 'power'; it has strength, steepness"):
        network_of(**{"fusion.gate.power": 2})


def test_it_trains_and_hears():
    network, spec = network_of()
    variables, batch = init_variables(network, 0), random_clips(spec, 2)
    state, values = train_once(Supervised(network, (Term("kl"),)), variables, {"source": batch})
    assert np.isfinite(values["loss"])
    moved = state.params["fusion"]["Dense_0"]["bias"] - variables["params"]["fusion"]["Dense_0"]["bias"]
    assert np.abs(moved).max() > 0
    outputs = network.run(variables, Clip(batch["frames"], batch["audio"]), features=("fused",))
    assert outputs.features["fused"].shape[0] == 2
