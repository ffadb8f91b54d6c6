"""Validates and converts the fields of dataclasses by their types.

  heads: Annotated[int, Range(1, 64)] = 8
  skips: Literal["all", "previous"] = "all"

`typing` lacks a type for numbers in an interval, hence `Range`. Libraries for validation (msgspec, cattrs)
report a wrong name or value, but do not suggest the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, TypeVar

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean

T = TypeVar("T")

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "a tuple",
    dict: "a mapping",
}


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers.

    Attributes:
      low, high: the bounds.
      above: whether `low` is excluded.
      below: whether `high` is excluded.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value) -> bool:
        after = value > self.low if self.above else value >= self.low
        return after and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if self.high < math.inf and not (self.above or self.below):
            return f"from {self.low} to {self.high}"
        words = f"above {self.low}" if self.above else f"of at least {self.low}"
        if self.high < math.inf:
            words += f" and {'below' if self.below else 'at most'} {self.high}"
        return words


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, below=True)]  # of a moving average
NotNegative = Annotated[float, Range(0)]


@dataclasses.dataclass(frozen=True)
class Registered:
    """Marks a field, in `Annotated`, whose value is a registered dataclass, selected by its name.

      optimizer: Annotated[Optimizer, Registered("optimizer")] = Adam()

    The plain form is {"name": ..., field: value}, or only the name, for the defaults of its fields.
    """

    kind: str


@functools.cache
def field_types(cls: type) -> dict[str, object]:
    """Returns the types of the fields of a dataclass by name, including `Annotated` metadata."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def build(cls: type[T], values, path: str = "", owner: str = "") -> T:
    """Returns an instance of a dataclass from plain values.

    Args:
      cls: the dataclass.
      values: a mapping by name, or a tuple in the order of the fields.
      path: of the object in the config, for errors: '' or `optimizer.schedule`.
      owner: the subject of errors; by default the path.

    Raises:
      AvsalError: as `checked`; a required field is missing; `values` is neither a mapping nor a tuple.
    """
    hints, owner = field_types(cls), owner or path
    if isinstance(values, tuple) and len(values) <= len(hints):
        values = dict(zip(hints, values, strict=False))
    if not isinstance(values, Mapping):
        raise AvsalError(f"{owner} has fields {', '.join(hints)}; got {values!r}")
    arguments = checked(values, hints=hints, owner=owner, path=f"{path}." if path else "")
    for field in dataclasses.fields(cls):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.init and field.name not in arguments:
            raise AvsalError(f"{owner} needs the field {field.name!r}")
    return cls(**arguments)


def check_fields(instance, path: str) -> None:
    """Validates the fields of a new frozen dataclass by their types and stores the converted values.

    Call it in `__post_init__`.

    Args:
      instance: the dataclass.
      path: as in `checked`.

    Raises:
      AvsalError: as `checked`.
    """
    hints = field_types(type(instance))
    before = {name: getattr(instance, name) for name in hints}
    values = checked(before, hints=hints, owner=type(instance).__name__, path=path)
    for name, value in values.items():
        if value is not before[name]:
            object.__setattr__(instance, name, value)


def checked(values: Mapping, hints: Mapping[str, object], owner: str, path: str) -> dict:
    """Returns the values of fields, converted to the types of the fields.

    Args:
      values: by name of the field.
      hints: the types of all fields that can be set.
      owner: the subject of errors, such as `decoder 'vinet'`.
      path: the prefix of the name of a field in errors, such as `decoder.`.

    Raises:
      AvsalError: an unknown field (with the nearest one), or an invalid value.
    """
    for name in values:
        if name not in hints:
            nearest = did_you_mean(name, hints)
            raise AvsalError(f"{owner} has no field {name!r}{nearest}; it has {', '.join(hints)}")
    return {name: value_of(hints[name], value, f"{path}{name}") for name, value in values.items()}


def value_of(hint, value, path: str):
    """Returns `value` converted to the type: an integer becomes a float if the type is float.

    Args:
      hint: int, float, bool, str, tuple, a tuple of one type, a dict of one type by name, a dataclass,
        `Literal`, a union with None, or any of these `Annotated` with a `Range`.
      value: the plain value; lists are converted to tuples, and a mapping to the dataclass.
      path: of the field, for the error.

    Raises:
      AvsalError: a wrong type, a number out of range, or a text that is not one of the choices.
    """
    kind, numbers, optional = unwrapped(hint)
    if optional and (value is None or (value == "none" and not _takes_text(kind))):
        return None
    if typing.get_origin(kind) is typing.Literal:
        return _choice(typing.get_args(kind), value, path)
    if dataclasses.is_dataclass(kind) or isinstance(numbers, Registered):
        return value if isinstance(value, kind) else _built(kind, value=value, path=path, extra=numbers)
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        _, inner = typing.get_args(kind)
        return {str(name): value_of(inner, item, f"{path}.{name}") for name, item in value.items()}
    if tuple in (kind, typing.get_origin(kind)) and isinstance(value, tuple | list):
        items = typing.get_args(kind)[:1]
        return tuple(value_of(items[0], item, path) if items else _deep_tuple(item) for item in value)
    if not _is_a(value, kind) or (numbers is not None and value not in numbers):
        kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
        words = " or ".join(map(_words, kinds))
        range_text = f" {numbers}" if numbers is not None else ""
        raise AvsalError(
            f"{path} must be {words}{range_text}{', or None' if optional else ''}; got {value!r}"
        )
    return float(value) if kind is float else value


def _choice(allowed: tuple, value, path: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise AvsalError(f"{path} {value!r} is not one of {choices}{did_you_mean(value, allowed)}")
    return value


def registered(kind: str, value, path: str):
    """Returns an instance of a registered dataclass.

    Args:
      kind: of `registry.KINDS`.
      value: {"name": ..., field: value}, only the name, or an instance, which is returned unchanged.
      path: of the field, for errors.

    Raises:
      AvsalError: the name is missing or unknown, the class has no such field, or a value is invalid.
    """
    if dataclasses.is_dataclass(value) and registry.name_of(kind, type(value)) is not None:
        return value
    fields = dict(value) if isinstance(value, Mapping) else {"name": value}
    if "name" not in fields:
        raise AvsalError(f"{path} needs a name, one of {', '.join(registry.table(kind))}; got {fields}")
    name = fields.pop("name")
    cls = registry.find(kind, name, path)
    return build(cls, values=fields, path=path, owner=f"{path} {name!r}")


def plain(value, hint=None):
    """Returns a dataclass as plain nested values for `build`.

    The plain form of a `Registered` field begins with the name. A class with `to_values` defines its own
    plain form.
    """
    kind, extra, _ = unwrapped(hint) if hint is not None else (None, None, False)
    if hasattr(value, "to_values"):
        return value.to_values()
    if dataclasses.is_dataclass(value):
        fields = {
            name: plain(getattr(value, name), inner) for name, inner in field_types(type(value)).items()
        }
        is_named = isinstance(extra, Registered)
        return {"name": registry.name_of(extra.kind, type(value)), **fields} if is_named else fields
    if isinstance(value, Mapping):
        items = typing.get_args(kind)
        return {name: plain(item, items[1] if len(items) == 2 else None) for name, item in value.items()}
    if isinstance(value, tuple):
        items = typing.get_args(kind)
        return tuple(plain(item, items[0] if items else None) for item in value)
    return value


def described(hint) -> str:
    """Returns a description of a type, such as `a whole number from 1 to 64, or None`."""
    kind, extra, optional = unwrapped(hint)
    if typing.get_origin(kind) is typing.Literal:
        words = f"one of {', '.join(map(str, typing.get_args(kind)))}"
    elif isinstance(extra, Registered):
        words = f"a registered {extra.kind}: {', '.join(registry.table(extra.kind))}"
    elif dataclasses.is_dataclass(kind):
        words = f"{kind.__name__} with fields {', '.join(field_types(kind))}"
    else:
        kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
        words = " or ".join(map(_words, kinds)) + (f" {extra}" if extra is not None else "")
    return f"{words}, or None" if optional else words


def _words(kind) -> str:
    """Returns a description of a type, such as `a tuple of whole numbers from 1 to 4`."""
    origin, items = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is not tuple or not items:
        return _KINDS.get(origin, getattr(origin, "__name__", str(origin)))
    item, numbers, _ = unwrapped(items[0])
    if typing.get_origin(item) is typing.Literal:
        return f"a tuple of {', '.join(map(str, typing.get_args(item)))}"
    plural = {int: "whole numbers", float: "numbers", str: "texts"}.get(item, getattr(item, "__name__", ""))
    return f"a tuple of {plural}{f' {numbers}' if numbers is not None else ''}"


def unwrapped(hint) -> tuple[object, Range | Registered | None, bool]:
    """Returns (type, `Annotated` metadata or None, whether None is allowed) of a type."""
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        optional = len(inner) < len(typing.get_args(hint))
        hint = inner[0] if len(inner) == 1 else typing.Union[tuple(inner)]  # noqa: UP007
    if typing.get_origin(hint) is typing.Annotated:
        kind, numbers = typing.get_args(hint)
        return kind, numbers, optional
    return hint, None, optional


def _built(kind, value, path: str, extra):
    """Returns the dataclass of plain values; a class that defines its own plain form has `from_values`."""
    if isinstance(extra, Registered):
        return registered(extra.kind, value, path)
    if hasattr(kind, "from_values") and isinstance(value, Mapping):
        return kind.from_values(value, path)
    return build(kind, value, path)


def _takes_text(kind) -> bool:
    return kind is str or typing.get_origin(kind) is typing.Literal


def _deep_tuple(value):
    return tuple(map(_deep_tuple, value)) if isinstance(value, tuple | list) else value


def _is_a(value, kind) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_a(value, option) for option in typing.get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if kind is int and isinstance(value, bool):
        return False
    return isinstance(value, typing.get_origin(kind) or kind)
