"""What numbers the fields of parts take: an error names the range, and nothing large is made first."""

import dataclasses
import math
import typing

import pytest

from avsal_jax import AvsalError, registry
from avsal_jax.models.layers import Runtime
from avsal_jax.models.slots import PART_KINDS, build_part
from avsal_jax.models.systems import create_model
from avsal_jax.spec.fields import field_types, unwrapped
from avsal_jax.spec.parsing import parse_setting


def numbers_of(hints, path=""):
    """Yields (path, type) of every number: `width`, `coding.rate` in a dataclass, `rates.0` in a tuple."""
    for name, hint in hints.items():
        kind = unwrapped(hint)[0]
        if kind in (int, float):
            yield f"{path}{name}", hint
        elif dataclasses.is_dataclass(kind):
            yield from numbers_of(field_types(kind), f"{path}{name}.")
        elif typing.get_origin(kind) is tuple:
            yield from numbers_of({"0": typing.get_args(kind)[0]}, f"{path}{name}.")


FIELDS = {
    (kind, name, path): unwrapped(hint)
    for kind in PART_KINDS
    for name, part in registry.table(kind).items()
    for path, hint in numbers_of(part.field_types())
}


def nested(path, value):
    """{"coding": {"rate": value}} of `coding.rate`, {"rates": (value,)} of `rates.0`."""
    for name in reversed(path.split(".")):
        value = (value,) if name == "0" else {name: value}
    return value


@pytest.mark.parametrize(("kind", "name", "path"), FIELDS)
def test_every_number_has_a_range(kind, name, path):
    number, numbers, optional = FIELDS[kind, name, path]
    words = {int: "a whole number", float: "a number"}[number]
    words += f" {numbers}{', or None' if optional else ''}"
    for value in (-1, numbers.high + 1, 10**9, 10**400, math.nan, math.inf, "abc", True, [1], "nan"):
        with pytest.raises(AvsalError) as caught:
            build_part(kind, {"name": name, **nested(path, value)}, Runtime())
        assert str(caught.value) == f"{kind}.{path.removesuffix('.0')} must be {words}; got {value!r}"
    assert numbers.low < numbers.high < math.inf


def test_numbers_of_tuples_and_dataclasses_are_among_them():
    expected = {
        ("fusion", "casp_net", "stages.0"),
        ("fusion", "casp_net", "coding.iterations"),
        ("neck", "aspp", "rates.0"),
        ("regulator", "gates", "gates"),
    }
    assert expected <= set(FIELDS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"visual_encoder.width": -1}, "encoder.width must be a number above 0 and at most 16; got -1"),
        ({"visual_encoder.width": "abc"}, "must be a number above 0 and at most 16; got 'abc'"),
        ({"heads.saliency.hierarchy": 9}, "saliency.hierarchy must be a whole number from 0 to 3; got 9"),
        ({"visual_encoder.classes": 0}, "classes must be a whole number from 1 to 100000, or None; got 0"),
        ({"frames": 0}, "frames must be a whole number from 1 to 512; got 0"),
        ({"frames": 10**9}, "frames must be a whole number from 1 to 512; got 1000000000"),
        ({"height": 100}, "height must be divisible by 32; got 100"),
        ({"height": math.nan}, "height must be a whole number from 1 to 4096; got nan"),
        ({"visual_encoder": ["s3d"]}, "unknown visual_encoder .'s3d'."),
        ({"fusion": 5}, "unknown fusion 5; it is none, or one of addition"),
        ({"audio_encoder": "soundnet", "audio.rate": 0}, "audio.rate must be a whole number from"),
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
        ("[" * 5000, "[" * 5000), ("(2, 4, 6)", (2, 4, 6)), ("(3,)", (3,)), ("()", ()), ("[3, 4]", [3, 4]),
        ("(3)", "(3)"), ("(3, 4", "(3, 4"), ("(x, y)", "(x, y)"), ("(" * 5000, "(" * 5000),
    ],
)  # fmt: skip
def test_settings_are_parsed(text, value):
    assert parse_setting(text) == value and type(parse_setting(text)) is type(value)
