"""Input specs from JSON that somebody else wrote: the fields that there are, in the ranges that they have."""

import json

import pytest

from avsal_jax import AvsalError, InputSpec, LogMel, Waveform
from avsal_jax.spec.input import SIGNED, input_from_dict, input_to_dict

SPEC = InputSpec(frames=8, height=64, width=96, audio=Waveform(35_280))


def test_a_spec_comes_back():
    specs = SPEC, InputSpec(), InputSpec(16, pixels=SIGNED, audio=LogMel(patches=2, pad="context"))
    for spec in specs:
        assert input_from_dict(input_to_dict(spec)) == spec
        assert input_from_dict(json.loads(json.dumps(input_to_dict(spec)))) == spec
    assert input_from_dict({"frames": 8}) == InputSpec(frames=8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audio": 5}, "audio .*; got 5"),
        ({"audio": ["waveform"]}, r"audio .*; got \['waveform'\]"),
        ({"audio": {"samples": 9}}, "audio.name None is not one of waveform, logmel"),
        (
            {"audio": {"name": "logmels"}},
            r"audio.name 'logmels' is not .* \(did you mean 'logmel'\?\)",
        ),
        ({"audio": {"name": "waveform"}}, "audio 'waveform' needs the field 'samples'"),
        (
            {"audio": {"name": "waveform", "samples": 9, "x": 1}},
            "audio 'waveform' has no field 'x'; it has samples, window, rate",
        ),
        (
            {"audio": {"name": "waveform", "samples": 9, "rate": "fast"}},
            "audio.rate must be a whole number from 1000 to 768000, or None; got 'fast'",
        ),
        (
            {"audio": {"name": "waveform", "samples": 9, "rate": 0}},
            "audio.rate must be a whole number from 1000 to 768000, or None; got 0",
        ),
        ({"audio": {"name": ["waveform"], "samples": 9}}, r"audio.name \['waveform'\] is not one of"),
        ({"audio": {"name": "waveform", "samples": 2**63}}, "audio.samples must be a whole number"),
        ({"audio": {"name": "waveform", "samples": 0}}, "audio.samples must be a whole number .*; got 0"),
        ({"audio": {"name": "logmel", "samples": 9}}, "audio 'logmel' has no field 'samples'"),
        ({"audio": {"name": "logmel", "pad": "edge"}}, "audio.pad 'edge' is not one of centre, context"),
        ({"pixels": "signed"}, "pixels has fields mean, deviation, scale; got 'signed'"),
        ({"pixels": {"mean": [0.5, 0.5]}}, "pixels.mean has a number for red, green and blue; got"),
        ({"pixels": {"deviation": [1, 0, 1]}}, "pixels.deviation must be above 0; got"),
        ({"pixels": {"scale": 0}}, "pixels.scale must be a number above 0 .*; got 0"),
        ({"divisor": 64}, "width must be divisible by 64; got 96"),
        ({"frames": float("nan")}, "frames must be a whole number from 1 to 512; got nan"),
        ({"height": {}}, "height must be a whole number"),
        ({"width": 100}, "width must be divisible by 32; got 100"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(change, words):
    with pytest.raises(AvsalError, match=words) as caught:
        input_from_dict({**input_to_dict(SPEC), **change})
    assert "<class" not in str(caught.value)


@pytest.mark.parametrize("values", [None, 5, [], "x"], ids=str)
def test_a_spec_is_an_object(values):
    with pytest.raises(AvsalError, match="the input of a model has fields frames, height, width, .*; got "):
        input_from_dict(values)


def test_a_spec_in_python_takes_the_sound_as_a_spec_only():
    with pytest.raises(AvsalError, match="audio is a front end, as "):
        InputSpec(audio={"name": "waveform", "samples": 9})
