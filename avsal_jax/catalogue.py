"""What is registered, as text: every kind, every thing with its origin and fields; for `avsal list`."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap

from avsal_jax import registry
from avsal_jax.registry import Entry
from avsal_jax.spec.fields import described, field_types

_WIDTH = 100  # characters of a line
_NOT_SET = ("parent", "name", "runtime")  # of a module: they are not set by name


def kinds() -> str:
    """Returns all kinds, with the names that are registered."""
    lines = []
    for kind, row in registry.KINDS.items():
        lines += [f"{kind}: {row.about}", *_wrapped(", ".join(registry.table(kind)))]
    return "\n".join(
        [*lines, "", "avsal list KIND describes each of a kind, avsal list KIND NAME one of them."]
    )


def of_kind(kind: str) -> str:
    """Returns all things of a kind: name, origin, one line, and fields."""
    lines = [f"{kind}: {registry.find_kind(kind).about}"]
    for entry in registry.entries(kind):
        lines += ["", f"{entry.name}  ({entry.origin})", *_wrapped(entry.about)]
        if fields := _fields(entry):
            lines += _wrapped(
                "fields: " + ", ".join(f"{name}={default}" for name, (_, default) in fields.items())
            )
    return "\n".join(lines)


def of_name(kind: str, name: str) -> str:
    """Returns one thing: origin, module, fields with types and defaults, and its documentation."""
    registry.find(kind, name)
    (entry,) = (entry for entry in registry.entries(kind) if entry.name == name)
    cls = _class(entry)
    lines = [f"{kind} {name}  ({entry.origin}, registered by {entry.module})", ""]
    documentation = (
        inspect.getdoc(entry.thing) if entry.thing is cls or callable(entry.thing) else entry.about
    )
    lines += [textwrap.indent(documentation or "", "  ")]
    if fields := _fields(entry):
        lines += ["", "fields:"]
        for field, (words, default) in fields.items():
            lines += _wrapped(f"{field} = {default}: {words}")
    return "\n".join(lines)


def _class(entry: Entry) -> type:
    return entry.thing if isinstance(entry.thing, type) else type(entry.thing)


def _fields(entry: Entry) -> dict[str, tuple[str, str]]:
    """Returns {field: (what it takes, its value)}: of a class the defaults, of an object what it has."""
    cls = _class(entry)
    if not dataclasses.is_dataclass(cls):
        return {}
    hints, rows = field_types(cls), {}
    for field in dataclasses.fields(cls):
        if field.name not in hints or field.name in _NOT_SET or field.name == "about":
            continue
        value = field.default if entry.thing is cls else getattr(entry.thing, field.name)
        if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        text = "(required)" if value is dataclasses.MISSING else _short(value)
        rows[field.name] = described(hints[field.name]), text
    return rows


def _short(value) -> str:
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return textwrap.shorten(repr(value), _WIDTH)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
