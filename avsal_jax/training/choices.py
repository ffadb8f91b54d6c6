"""Plain values of config fields whose class is chosen by name: optimizer, schedule, objective.

The plain form of such a field is {"name": ..., field: value}. Config files, rows and the command line change
it by the same rules: a different name keeps the fields that both classes have and resets the rest.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.spec.fields import Registered, field_types, plain, unwrapped


def default_values(cls: type, *names: str) -> dict:
    """Returns the plain defaults of the fields of a dataclass; with `names`, only of these fields."""
    hints, values = field_types(cls), {}
    for field in dataclasses.fields(cls):
        if not field.init or (names and field.name not in names):
            continue
        if field.default_factory is not dataclasses.MISSING:
            values[field.name] = plain(field.default_factory(), hints[field.name])
        elif field.default is not dataclasses.MISSING:
            values[field.name] = plain(field.default, hints[field.name])
    return values


def choice(kind: str, changes, before: Mapping, path: str) -> dict:
    """Returns the complete plain values of a registered dataclass.

    Args:
      kind: of `registry.KINDS`.
      changes: {"name": ..., field: value}, or only the name. Without a name, the name of `before`.
      before: complete plain values, which are the defaults of the other fields. If its class differs, only
        fields of both classes are kept, and `changes` may repeat other fields of `before`, without effect.
      path: of the field, for errors.

    Raises:
      AvsalError: an unknown name, or a field that the class does not have (lists its fields).
    """
    if not isinstance(changes, Mapping):
        changes = {"name": changes}
    name, former = changes.get("name", before["name"]), registry.lookup(kind, before["name"])
    cls = registry.find(kind, name, path)
    hints = field_types(cls)
    shared = field_types(former) if former is not None else {}
    values = default_values(cls)
    values |= {f: before[f] for f, hint in hints.items() if f in before and shared.get(f) == hint}
    for field, value in changes.items():
        if field in hints:
            values[field] = completed_value(
                hints[field], changes=value, before=values.get(field), path=f"{path}.{field}"
            )
        elif field != "name" and not (cls is not former and field in before and before[field] == value):
            raise AvsalError(
                f"{path} {name!r} has no field {field!r}{did_you_mean(field, hints)}; it has "
                f"{', '.join(hints)}"
            )
    return {"name": name, **values}


def completed_value(hint, changes, before, path: str):
    """Returns the plain value of a field; fields missing in a mapping are those of `before`."""
    kind, extra, _ = unwrapped(hint)
    if isinstance(extra, Registered) and changes is not None:
        return choice(extra.kind, changes, before=before, path=path)
    if dataclasses.is_dataclass(kind) and isinstance(changes, Mapping):
        defaults = before if isinstance(before, Mapping) else plain(kind())
        return completed(kind, changes=changes, before=defaults, path=f"{path}.")
    if kind is float and type(changes) is int:
        return float(changes)
    return tuple(changes) if isinstance(changes, list) else changes


def completed(cls: type, changes: Mapping, before: Mapping, path: str = "") -> dict:
    """Returns `before` updated by `changes`, as plain values; AvsalError for unknown keys."""
    hints = types_of(cls)
    for name in changes:
        if name not in hints:
            keys, wrong = [f"{path}{field}" for field in hints], f"{path}{name}"
            raise AvsalError(f"unknown key {wrong!r}{did_you_mean(wrong, keys)}; keys are {', '.join(keys)}")
    values = {
        name: completed_value(hints[name], changes=value, before=before.get(name), path=f"{path}{name}")
        for name, value in changes.items()
    }
    return {**before, **values}


def types_of(cls: type) -> dict[str, object]:
    """Returns the types of the keys of a class's plain form: `value_types()`, or by default its fields."""
    return cls.value_types() if hasattr(cls, "value_types") else field_types(cls)


def keys_of(cls: type, values: Mapping | None, path: str = "") -> Iterator[tuple[str, object]]:
    """Yields (dotted key, type) of all fields, including groups and the fields of chosen classes."""
    for name, hint in types_of(cls).items():
        yield path + name, hint
        inner, extra, _ = unwrapped(hint)
        value = values.get(name) if isinstance(values, Mapping) else None
        if isinstance(extra, Registered):
            value = value or default_values(cls, name)[name]
            yield f"{path}{name}.name", str
            yield from keys_of(registry.find(extra.kind, value["name"], name), value, f"{path}{name}.")
        elif dataclasses.is_dataclass(inner):
            yield from keys_of(inner, value, f"{path}{name}.")


def put(cls: type, values: dict, key: str, value) -> None:
    """Sets the field of a dotted key in nested plain values, in place.

    Setting a field of a group that is None first sets the group to its defaults. Setting a name changes the
    class and keeps the fields of both classes. Setting a mapping resets all other fields to their defaults.

    Args:
      cls: the dataclass of `values`.
      values: complete, as from `completed`.
      key: a key of `keys_of`.
      value: the plain value.
    """
    group, _, rest = key.partition(".")
    hint = types_of(cls)[group]
    kind, extra, _ = unwrapped(hint)
    if isinstance(extra, Registered):
        before = values[group]
        if rest in ("", "name"):
            before = default_values(cls, group)[group] if isinstance(value, Mapping) else before
            values[group] = choice(extra.kind, value, before=before, path=group)
        else:
            cls = registry.find(extra.kind, before["name"], group)
            put(cls, before, key=rest, value=value)
    elif rest and typing.get_origin(kind) is dict:  # `init`, a mapping by name
        name, _, field = rest.partition(".")
        values[group].setdefault(name, {})[field] = value
    elif rest:
        if values.get(group) is None:
            values[group] = plain(kind())
        put(kind, values[group], key=rest, value=value)
    else:
        values[group] = value


def with_names(cls: type, values):
    """Returns plain values in which every choice that is a mapping has a name, by default the default's."""
    if not isinstance(values, Mapping):
        return values
    result = dict(values)
    for field, hint in field_types(cls).items():
        _, extra, _ = unwrapped(hint)
        value = values.get(field)
        if isinstance(extra, Registered) and isinstance(value, Mapping):
            value = value if "name" in value else {"name": default_values(cls, field)[field]["name"], **value}
            inner = registry.lookup(extra.kind, value["name"])
            result[field] = value if inner is None else with_names(inner, value)
    return result
