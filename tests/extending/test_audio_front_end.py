"""An audio front end with its encoder: the network takes the loudness of a clip in ten parts."""

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model, registry
from avsal_jax.losses import Term
from avsal_jax.media.clip_sound import ClipSound, Sound
from avsal_jax.models import init_variables
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.objectives import Supervised


@pytest.fixture(autouse=True)
def registered(plugin):
    plugin("loudness")


def loudness(**fields):
    return registry.find("front_end", "loudness")(**fields)


def network_of(**changes):
    settings = {
        "frames": 8,
        "height": 64,
        "width": 96,
        "visual_encoder": {"name": "small", "width": 1 / 16},
        "audio_encoder": {"name": "loudness", "channels": 4},
        "fusion": "concatenation",
        "heads.saliency.width": 1 / 16,
    }
    return create_model("avinet", **{**settings, **changes})


def test_the_encoder_brings_its_front_end():
    _, spec = network_of(**{"audio.parts": 6})
    assert spec.audio == loudness(parts=6)
    np.testing.assert_array_equal(np.asarray(spec.audio.silence), np.zeros((6, 1)))
    with pytest.raises(AvsalError, match="has no field 'part'.*did you mean 'parts'"):
        network_of(**{"audio.part": 6})


def test_the_sound_of_a_clip_is_cut_by_it():
    wave = np.concatenate([np.zeros(8_000), np.ones(8_000)]).astype(np.float32)
    clips = ClipSound(Sound(wave, 8_000), loudness(parts=2), frames=50, fps=25)
    levels = clips.clip(list(range(50)), 50)
    assert levels[0, 0] < 40 and levels[1, 0] > 59
    np.testing.assert_allclose(clips.clip(list(range(50))[::-1], 50), levels[::-1], atol=0.1)


def test_it_trains_and_hears():
    network, spec = network_of()
    variables, batch = init_variables(network, 0), random_clips(spec, 2)
    _, values = train_once(Supervised(network, (Term("kl"),)), variables, {"labelled": batch})
    assert np.isfinite(values["loss"]) and values["gradient_norm"] > 0
    loud, silent = (
        jax.jit(network.run)(variables, Clip(batch["frames"], sound)).logits["saliency"]
        for sound in (np.full((2, 10, 1), 60, np.float32), None)
    )
    assert np.abs(loud - silent).max() > 0
