"""Input specs from JSON that somebody else wrote: the fields that there are, in the ranges that they have."""

import pytest

from avsal_jax import AudioSpec, AvsalError, InputSpec
from avsal_jax.specs import spec_from_dict, spec_to_dict

SPEC = InputSpec(frames=8, height=64, width=96, audio=AudioSpec("waveform", 35_280))


def test_a_spec_comes_back():
    assert spec_from_dict(spec_to_dict(SPEC)) == SPEC
    assert spec_from_dict({"frames": 8}) == InputSpec(frames=8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audio": 5}, "audio has fields kind, samples, .*; got 5"),
        ({"audio": ["waveform"]}, r"audio has fields kind, samples, .*; got \['waveform'\]"),
        ({"audio": {"samples": 9}}, "audio needs the field 'kind'"),
        (
            {"audio": {"kind": "waveform", "samples": 9, "x": 1}},
            "audio has no field 'x'; it has",
        ),
        ({"audio": {"kind": "waveform", "samples": 9, "sample_rate": "fast"}}, "sample_rate must be a whole"),
        (
            {"audio": {"kind": "waveform", "samples": 9, "sample_rate": 0}},
            "number from 1000 to 768000, or None; got 0",
        ),
        ({"audio": {"kind": ["waveform"], "samples": 9}}, r"audio.kind \['waveform'\] is not one of"),
        ({"audio": {"kind": "waveform", "samples": 2**63}}, "audio.samples must be a whole number"),
        ({"frames": float("nan")}, "frames must be a whole number from 1 to 512; got nan"),
        ({"height": {}}, "height must be a whole number"),
        ({"width": 100}, "width must be divisible by 32; got 100"),
    ],
    ids=str,
)
def test_what_is_no_spec_is_told(change, words):
    with pytest.raises(AvsalError, match=words):
        spec_from_dict({**spec_to_dict(SPEC), **change})


@pytest.mark.parametrize("values", [None, 5, [], "x"], ids=str)
def test_a_spec_is_an_object(values):
    with pytest.raises(AvsalError, match="the input of a model has fields frames, height, width, .*; got "):
        spec_from_dict(values)


def test_a_spec_in_python_takes_the_sound_as_a_spec_only():
    with pytest.raises(AvsalError, match="audio is an AudioSpec, set by its fields as audio.samples; got "):
        InputSpec(audio={"kind": "waveform", "samples": 9})
