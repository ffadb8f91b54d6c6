"""Values of a config on the command line: parses keys, and texts by the types of their fields."""

from __future__ import annotations

import ast
import dataclasses
import fractions
import functools
import math
import re
import typing
from collections.abc import Mapping, Sequence

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.changes import INPUT_FIELDS
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.plugins import load_plugins
from avsal_jax.spec.fields import Registered, field_types, unwrapped
from avsal_jax.spec.parsing import parse_setting
from avsal_jax.training import recipes
from avsal_jax.training.choices import keys_of, put
from avsal_jax.training.earlier_configs import refuse_earlier_key
from avsal_jax.training.schema import TrainConfig, changed_model

_KEY = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*"
_FLAG_PATTERN = re.compile(rf"(?:--)?config\.({_KEY})(?:=(.*))?", re.DOTALL)
_ASSIGNMENT_PATTERN = re.compile(rf"({_KEY})=(.*)", re.DOTALL)
_FORM = "values of the config are set by --config.KEY=VALUE, --config.KEY VALUE or KEY=VALUE, as "
# Keys below `model` that change the network; for keys of earlier versions, errors name the current ones.
_MODEL_SETTINGS = (*SLOTS, HEADS, *INPUT_FIELDS, "set", "decoder", "pixel_norm")
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_FORMS = {
    bool: "true or false",
    int: "a whole number, as 4, 10_000 or 1e4",
    float: "a number, as 0.5, 1e-4 or 30000/1001",
    tuple: "a tuple as Python writes it, as \"(('diem', 1),)\"",
    dict: "a mapping as Python writes it, as \"{'sound': {'path': 'runs/s/model'}}\"",
}


def config_values(name: str, arguments: Sequence[str], plugins: Sequence[str] = ()) -> dict:
    """Returns the values of a config by name (see `recipes.config`), changed by command-line arguments.

    Args:
      name: of the config.
      arguments: see `overrides`.
      plugins: files and modules from the command line, which are added to the values.

    Raises:
      AvsalError: as `recipes.config`, `overrides` and `overridden`.
    """
    load_plugins(plugins)
    values = overridden(recipes.config(name).to_dict(), overrides(arguments))
    return values | {"plugins": tuple(dict.fromkeys((*values["plugins"], *plugins)))}


def overrides(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (key, value as text) of arguments in the three forms.

    Raises:
      AvsalError: an argument of another form, or a key without a value.
    """
    pairs, waiting = [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        matched = _FLAG_PATTERN.fullmatch(argument) or _ASSIGNMENT_PATTERN.fullmatch(argument)
        if matched is None:
            flag = re.fullmatch(rf"--({_KEY})(=.*)?", argument, re.DOTALL)
            hint = f"--config.{flag[1]}{flag[2] or '=VALUE'}" if flag else "--config.data.batch=4"
            raise AvsalError(f"{argument!r} is not a flag of avsal train; {_FORM}{hint}")
        text = matched[2]
        if text is None:
            if not waiting or waiting[0].startswith("--"):
                raise AvsalError(f"{argument!r} has no value; {_FORM}{argument}=VALUE")
            text = waiting.pop(0)
        pairs.append((matched[1], text))
    return pairs


def overridden(values: dict, pairs: Sequence[tuple[str, str]]) -> dict:
    """Returns the values of a config with overrides applied.

    Args:
      values: nested, by the fields of `TrainConfig`; changed in place.
      pairs: (dotted key, text), in any order. Setting a field of a group that is None first sets the group
        to its defaults. A name, such as `optimizer.name=sgd` or `objective=supervised`, chooses a class.
        Keys of the model are applied as in `models.changes`.

    Raises:
      AvsalError: a key that is not in the config (with the nearest one), or is a group; a text that is not
        a value of the key's type (with the expected form).
    """
    for key, text in sorted(pairs, key=_order):
        if key == "model":
            raise AvsalError("model is a group of the config; set a field, as --config.model.frames=16")
        group, _, name = key.partition(".")
        if group == "model" and name.partition(".")[0] in _MODEL_SETTINGS:
            values["model"] = changed_model(values["model"], {name: parse_setting(text)})
        else:
            value = _value(_hint(key, values), text, key)
            if key == "plugins":
                load_plugins(value)
            put(TrainConfig, values, key=key, value=value)
    return values


def _order(pair: tuple[str, str]) -> tuple:
    return pair[0] != "plugins", recipes.choices_first(pair[0])


def _hint(key: str, values: Mapping):
    """Returns the type of the field that a dotted key names."""
    hints = dict(keys_of(TrainConfig, values)) | {
        f"model.{name}": str for name in (*SLOTS, HEADS, *INPUT_FIELDS)
    }
    group, _, field = key.rpartition(".")
    inner = hints.get(group.rpartition(".")[0])
    if key in hints:
        return hints[key]
    if typing.get_origin(inner) is dict:
        return _hint_of(typing.get_args(inner)[1], field, key)
    if typing.get_origin(hints.get(group)) is dict:
        raise AvsalError(f"{key!r} is a group of the config; set a field, as --config.{key}.path=PATH")
    refuse_earlier_key(key)
    if f"{group}.name" in hints:
        _, choice, _ = unwrapped(hints[group])
        current = functools.reduce(lambda place, name: place[name], group.split("."), values)
        raise AvsalError(
            f"unknown key {key!r} in the config{_fields_of(choice.kind, current['name'], field)}"
        )
    nearest = did_you_mean(key, hints)
    matches = [name for name in hints if name.rpartition(".")[2] == key]
    raise AvsalError(
        f"unknown key {key!r} in the config{f' (did you mean {matches[0]!r}?)' if matches else nearest}"
    )


def _fields_of(kind: str, name: str, field: str) -> str:
    """Returns a hint with the fields of a choice, and the other choices that have `field`."""
    classes = registry.table(kind)
    fields = field_types(registry.find(kind, name))
    classes_with_it = [other for other, cls in classes.items() if field in field_types(cls)]
    hint = f"; {field} is a field of {', '.join(classes_with_it)}" if classes_with_it else ""
    return f"{did_you_mean(field, fields)}: {kind} {name!r} has {', '.join(fields) or 'no fields'}{hint}"


def _hint_of(kind: type, field: str, key: str):
    """Returns the type of a field of the objects in a mapping."""
    hints = field_types(kind)
    if field not in hints:
        nearest = did_you_mean(field, hints)
        raise AvsalError(f"unknown key {key!r} in the config{nearest}; fields are {', '.join(hints)}")
    return hints[field]


def _value(hint, text: str, key: str):
    """Returns the value of `text`, parsed by the type of its field."""
    kind, extra, optional = unwrapped(hint)
    if isinstance(extra, Registered):
        return _mapping(text.strip()) if text.strip().startswith("{") else _text(text.strip())
    if optional and text.strip().lower() in ("none", "null", ""):
        return None
    if dataclasses.is_dataclass(kind):
        fields = ", ".join(field.name for field in dataclasses.fields(kind))
        unset = ", or set it to None" if optional else ""
        raise AvsalError(f"{key} is a group of the config; set a field{unset}: {fields}")
    kind = str if typing.get_origin(kind) is typing.Literal else typing.get_origin(kind) or kind
    try:
        return _PARSERS[kind](text.strip())
    except (ValueError, KeyError, SyntaxError, OverflowError, ZeroDivisionError, RecursionError) as error:
        none_hint = ", or None" if optional else ""
        raise AvsalError(
            f"--config.{key} is of type {kind.__name__}: {_FORMS[kind]}{none_hint}; got {text!r}"
        ) from error


def _integer(text: str) -> int:
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


def _mapping(text: str) -> dict:
    if text.lower() in ("none", "null", "()"):
        return {}
    value = ast.literal_eval(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _text(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


_PARSERS = {
    bool: lambda text: _BOOLEANS[text.lower()],
    int: _integer,
    float: _number,
    str: _text,
    tuple: _sequence,
    dict: _mapping,
}
