"""Values of a config on the command line: which field a key names, and which value a text is there."""

from __future__ import annotations

import ast
import dataclasses
import fractions
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.training import recipes
from avsal_jax.training.schema import TrainConfig, joined_settings

_KEY = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*"
_NAMED = re.compile(rf"(?:--)?config\.({_KEY})(?:=(.*))?", re.DOTALL)
_PLAIN = re.compile(rf"({_KEY})=(.*)", re.DOTALL)
_FORM = "values of the config are set by --config.KEY=VALUE, --config.KEY VALUE or KEY=VALUE, as "
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_FORMS = {
    bool: "true or false",
    int: "a whole number, as 4, 10_000 or 1e4",
    float: "a number, as 0.5, 1e-4 or 30000/1001",
    tuple: "a tuple as Python writes it, as \"(('diem', 1),)\"",
}


def config_values(name: str, arguments: Sequence[str]) -> dict:
    """Returns the values of a config by name (see `recipes.config`), changed by command-line arguments.

    Raises:
      AvsalError: as `recipes.config`, `overrides` and `overridden`.
    """
    return overridden(recipes.config(name).to_dict(), overrides(arguments))


def overrides(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (key, value as text) of arguments in the three forms.

    Raises:
      AvsalError: an argument of another form, or a key without a value.
    """
    pairs, waiting = [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        matched = _NAMED.fullmatch(argument) or _PLAIN.fullmatch(argument)
        if matched is None:
            own = re.fullmatch(rf"--({_KEY})(=.*)?", argument, re.DOTALL)
            hint = f"--config.{own[1]}{own[2] or '=VALUE'}" if own else "--config.data.batch=4"
            raise AvsalError(f"{argument!r} is no flag of avsal train; {_FORM}{hint}")
        text = matched[2]
        if text is None:
            if not waiting or waiting[0].startswith("--"):
                raise AvsalError(f"{argument!r} has no value; {_FORM}{argument}=VALUE")
            text = waiting.pop(0)
        pairs.append((matched[1], text))
    return pairs


def overridden(values: dict, pairs: Sequence[tuple[str, str]]) -> dict:
    """Returns the values of a config with others in their place.

    Args:
      values: nested, by the fields of `TrainConfig`; changed in place.
      pairs: (dotted key, text). A group that is None gets its defaults where one of its fields is set;
        `model.set` is joined with what is there.

    Raises:
      AvsalError: a key that is not in the config (with the nearest one), or is a group; a text that is no
        value of the key's type (with the form that is).
    """
    for key, text in pairs:
        hint = _hint(key)
        *groups, field = key.split(".")
        place, kind = values, TrainConfig
        for group in groups:
            kind, _ = _unwrapped(typing.get_type_hints(kind)[group])
            if place[group] is None:
                place[group] = dataclasses.asdict(kind())
            place = place[group]
        place[field] = joined_settings(place[field], text) if key == "model.set" else _value(hint, text, key)
    return values


def _hint(key: str):
    """Returns the type of the field that a dotted key names."""
    known = dict(_fields(TrainConfig))
    if key not in known:
        nearest = did_you_mean(key, known)
        same = [name for name in known if name.rpartition(".")[2] == key]
        raise AvsalError(
            f"unknown key {key!r} in the config{f' (did you mean {same[0]!r}?)' if same else nearest}"
        )
    return known[key]


def _fields(kind: type, path: str = "") -> Iterator[tuple[str, object]]:
    """Yields (dotted key, type) of all fields, groups among them."""
    for name, hint in typing.get_type_hints(kind).items():
        yield path + name, hint
        inner, _ = _unwrapped(hint)
        if dataclasses.is_dataclass(inner):
            yield from _fields(inner, f"{path}{name}.")


def _unwrapped(hint) -> tuple[type, bool]:
    """Returns a type without `| None`, and whether it had that."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    return next(kind for kind in typing.get_args(hint) if kind is not type(None)), True


def _value(hint, text: str, key: str):
    """Returns the value of a type that `text` is."""
    kind, optional = _unwrapped(hint)
    if optional and text.strip().lower() in ("none", "null", ""):
        return None
    if dataclasses.is_dataclass(kind):
        fields = ", ".join(field.name for field in dataclasses.fields(kind))
        unset = ", or set it to None" if optional else ""
        raise AvsalError(f"{key} is a group of the config; set a field{unset}: {fields}")
    kind = typing.get_origin(kind) or kind
    try:
        return _PARSERS[kind](text.strip())
    except (ValueError, KeyError, SyntaxError, OverflowError, ZeroDivisionError, RecursionError) as error:
        none = ", or None" if optional else ""
        raise AvsalError(
            f"--config.{key} is of type {kind.__name__}: {_FORMS[kind]}{none}; got {text!r}"
        ) from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


def _number(text: str) -> float:
    value = float(fractions.Fraction(text.replace(" ", ""))) if "/" in text else float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _sequence(text: str) -> tuple:
    value = ast.literal_eval(text)
    if not isinstance(value, tuple | list):
        raise ValueError(text)
    return tuple(value)


def _text(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


_PARSERS = {
    bool: lambda text: _BOOLEANS[text.lower()],
    int: _whole,
    float: _number,
    str: _text,
    tuple: _sequence,
}
