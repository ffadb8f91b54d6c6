"""Fields say in their types what they take; an error says what was given, and what is allowed."""

import dataclasses
import math
from typing import Annotated, Literal

import pytest

from avsal_jax import AvsalError
from avsal_jax.spec.fields import Range, build, checked, field_types, value_of


@dataclasses.dataclass
class Example:
    heads: Annotated[int, Range(1, 64)] = 8
    width: Annotated[float, Range(0, 16, above=True)] = 1.0
    skips: Literal["all", "previous"] = "all"
    classes: Annotated[int, Range(1, 1000)] | None = None
    rates: str | int = "6-12-18"
    output: bool = True
    hidden: int = dataclasses.field(default=0, init=False)


def check(**values):
    return checked(values, field_types(Example), "the example", "example.")


def test_values_are_returned_as_their_types_have_them():
    values = check(heads=4, width=2, skips="previous", classes=None, rates=8, output=False)
    assert values == {
        "heads": 4, "width": 2.0, "skips": "previous", "classes": None, "rates": 8, "output": False,
    }  # fmt: skip
    assert type(values["width"]) is float and type(values["heads"]) is int


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": 4}, "the example has no field 'head' (did you mean 'heads'?); it has heads, width, skips, "
         "classes, rates, output"),
        ({"hidden": 1}, "the example has no field 'hidden'; it has heads, width, skips, classes, rates"),
        ({"heads": 0}, "example.heads must be a whole number from 1 to 64; got 0"),
        ({"heads": 2.0}, "example.heads must be a whole number from 1 to 64; got 2.0"),
        ({"heads": True}, "example.heads must be a whole number from 1 to 64; got True"),
        ({"width": 0}, "example.width must be a number above 0 and at most 16; got 0"),
        ({"width": math.nan}, "example.width must be a number above 0 and at most 16; got nan"),
        ({"skips": "al"}, "example.skips 'al' is not one of all, previous (did you mean 'all'?)"),
        ({"skips": ["all"]}, "example.skips ['all'] is not one of all, previous"),
        ({"classes": 0}, "example.classes must be a whole number from 1 to 1000, or None; got 0"),
        ({"output": 1}, "example.output must be true or false; got 1"),
        ({"rates": 1.5}, "example.rates must be a text or a whole number; got 1.5"),
    ],
)  # fmt: skip
def test_mistakes_are_named(values, message):
    with pytest.raises(AvsalError) as caught:
        check(**values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("numbers", "inside", "outside", "words"),
    [
        (Range(1, 3), (1, 3), (0, 4), "from 1 to 3"),
        (Range(0, 1, above=True), (0.5, 1), (0, 1.5), "above 0 and at most 1"),
        (Range(0, 1, below=True), (0, 0.5), (-0.1, 1), "of at least 0 and below 1"),
        (Range(0, 1, above=True, below=True), (0.5,), (0, 1), "above 0 and below 1"),
        (Range(2), (2, 1e9), (1,), "of at least 2"),
        (Range(0, above=True), (0.1,), (0,), "above 0"),
    ],
)
def test_ranges_have_ends_and_words(numbers, inside, outside, words):
    assert all(value in numbers for value in inside) and not any(value in numbers for value in outside)
    assert str(numbers) == words
    with pytest.raises(AvsalError, match=f"x must be a number {words}; got {outside[0]}$"):
        value_of(Annotated[float, numbers], outside[0], "x")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    example: Example = dataclasses.field(default_factory=Example)
    examples: tuple[Example, ...] = ()
    sources: tuple = ()
    early: Example | None = None
    by_name: dict[str, Example] = dataclasses.field(default_factory=dict)
    sizes: tuple[Annotated[int, Range(1, 9)], ...] = ()


def test_a_dataclass_is_built_of_nested_values():
    values = {
        "name": "x",
        "example": {"heads": 2},
        "examples": [{"heads": 3}, (4, 2)],
        "sources": [["diem", 1]],
    }
    outer = build(Outer, values, owner="the config")
    assert outer == Outer("x", Example(2), (Example(3), Example(4, 2.0)), (("diem", 1),))
    assert build(Outer, {"name": "x", "example": Example(5), "early": {}}).early == Example()
    members = build(Outer, {"name": "x", "by_name": {"a": {"heads": 2}, "b": Example(3)}, "sizes": [1, 2]})
    assert members.by_name == {"a": Example(2), "b": Example(3)} and members.sizes == (1, 2)


@pytest.mark.parametrize("empty", [None, "none"])
def test_what_may_be_none_takes_the_word_too(empty):
    """On a command line; a text is a text."""
    assert build(Outer, {"name": "x", "early": empty}).early is None
    assert value_of(int | None, empty, "x") is None
    assert value_of(str | None, "none", "x") == "none"
    assert value_of(Literal["none", "sound"] | None, "none", "x") == "none"
    with pytest.raises(AvsalError, match=f"x must be a whole number; got {empty!r}"):
        value_of(int, empty, "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "the config needs the field 'name'"),
        ({"name": "x", "exampel": {}}, "the config has no field 'exampel' (did you mean 'example'?)"),
        ({"name": "x", "example": {"head": 1}}, "example has no field 'head' (did you mean 'heads'?)"),
        ({"name": "x", "example": {"heads": 0}}, "example.heads must be a whole number from 1 to 64; got 0"),
        ({"name": "x", "example": 5}, "example has fields heads, width, skips, classes, rates, output"),
        ({"name": "x", "example": ["all"]}, "example has fields heads, width"),
        ({"name": "x", "examples": 5}, "examples must be a tuple of Example; got 5"),
        ({"name": "x", "examples": ({"heads": "4"},)}, "examples.heads must be a whole number from 1 to 64"),
        ({"name": 5}, "name must be a text; got 5"),
        ({"name": "x", "by_name": {"a": {"heads": 0}}}, "by_name.a.heads must be a whole number from 1"),
        ({"name": "x", "by_name": [1]}, "by_name must be a mapping; got [1]"),
        ({"name": "x", "sizes": (1, 10)}, "sizes must be a whole number from 1 to 9; got 10"),
        ({"name": "x", "sizes": 5}, "sizes must be a tuple of whole numbers from 1 to 9; got 5"),
        ("x", "the config has fields name, example, examples, sources, early, by_name, sizes; got 'x'"),
    ],
)  # fmt: skip
def test_mistakes_in_nested_values_are_named(values, message):
    with pytest.raises(AvsalError) as caught:
        build(Outer, values, owner="the config")
    assert str(caught.value).startswith(message)
