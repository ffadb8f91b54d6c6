"""What numbers the fields of parts take: an error names the range, and nothing large is made first."""

import math

import pytest

from avsal_jax import AvsalError
from avsal_jax.models.fusion.gates import RegulatorGates
from avsal_jax.models.layers import Runtime
from avsal_jax.models.registry import SLOTS, build_part
from avsal_jax.models.systems import create_model
from avsal_jax.spec.fields import unwrapped
from avsal_jax.specs import parse_setting

FIELDS = {
    (slot, name, field): unwrapped(hint)
    for slot, parts in SLOTS.items()
    for name, part in parts.items()
    if part is not None
    for field, hint in part.field_types().items()
    if unwrapped(hint)[0] in (int, float)
} | {("fusion", "none", "gates"): unwrapped(RegulatorGates.field_types()["gates"])}


@pytest.mark.parametrize(("slot", "name", "field"), FIELDS)
def test_every_number_has_a_range(slot, name, field):
    kind, numbers, optional = FIELDS[slot, name, field]
    words = {int: "a whole number", float: "a number"}[kind] + f" {numbers}{', or None' if optional else ''}"
    for value in (-1, numbers.high + 1, 10**9, 10**400, math.nan, math.inf, "abc", True, [1], "nan"):
        with pytest.raises(AvsalError) as caught:
            build_part(slot, name, {field: value}, Runtime())
        assert str(caught.value) == f"{slot}.{field} must be {words}; got {value!r}"
    assert numbers.low < numbers.high < math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"visual_encoder.width": -1}, "encoder.width must be a number above 0 and at most 16; got -1"),
        ({"visual_encoder.width": "abc"}, "must be a number above 0 and at most 16; got 'abc'"),
        ({"decoder.hierarchy": 9}, "decoder.hierarchy must be a whole number from 0 to 3; got 9"),
        ({"visual_encoder.classes": 0}, "classes must be a whole number from 1 to 100000, or None; got 0"),
        ({"frames": 0}, "frames must be a whole number from 1 to 512; got 0"),
        ({"frames": 10**9}, "frames must be a whole number from 1 to 512; got 1000000000"),
        ({"height": 100}, "height must be divisible by 32; got 100"),
        ({"height": math.nan}, "height must be a whole number from 32 to 4096; got nan"),
        ({"visual_encoder": ["s3d"]}, "unknown visual_encoder .'s3d'."),
        ({"fusion": None}, "unknown fusion None .*; there are none, addition"),
        ({"audio_encoder": "soundnet", "audio.sample_rate": 0}, "sample_rate must be a whole number from"),
        ({"audio_encoder": "soundnet", "audio.samples": -5}, "audio.samples must be a whole number from"),
        ({"audio_encoder": "vggish", "audio.hop": math.inf}, "audio.hop must be a number from 0.01 to 60"),
    ],
)  # fmt: skip
def test_messages(settings, message):
    with pytest.raises(AvsalError, match=message):
        create_model("vinet", **settings)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16), ("0.5", 0.5), ("1/16", 0.0625), ("30000/1001", 30000 / 1001), ("null", None),
        ("None", None),
        ("True", True), ("false", False), ("trilinear", "trilinear"), ("6-12-18", "6-12-18"), ("1/0", "1/0"),
        ("[" * 5000, "[" * 5000),
    ],
)  # fmt: skip
def test_settings_are_parsed(text, value):
    assert parse_setting(text) == value and type(parse_setting(text)) is type(value)
