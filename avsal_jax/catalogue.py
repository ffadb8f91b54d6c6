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
    lines += ["", "avsal list KIND says how to add one and describes each, avsal list KIND NAME one of them."]
    return "\n".join(lines)


def of_kind(kind: str) -> str:
    """Returns how to register a thing of a kind, and all that are: name, origin, one line, and fields."""
    lines = [f"{kind}: {registry.find_kind(kind).about}", "", *_skeleton(kind)]
    for entry in registry.entries(kind):
        lines += ["", f"{entry.name}  ({entry.origin})", *_wrapped(entry.about)]
        if fields := _fields(entry):
            lines += _wrapped("fields: " + ", ".join(f"{name}={text}" for name, (_, text) in fields.items()))
    return "\n".join(lines)


def _skeleton(kind: str) -> list[str]:
    """What a file of yours has: the base with its documentation, and what it must or may define."""
    row = registry.KINDS[kind]
    base, package = row.base(), ".".join(row.form.split(".")[:2]).partition(":")[0]
    name = base.__name__
    lines = [
        "  from avsal_jax import register",
        f"  from {package} import {name}",
        '  AVSAL_API = "1.0"',
        f'  @register("{kind}", "my_{kind}")'
        if row.are_classes
        else f'  register("{kind}", "my_{kind}")({name}(...))',
    ]
    if row.are_classes:
        lines.append(f"  class My{name}({name}): ...")
    lines += ["", textwrap.indent(inspect.getdoc(base) or "", "  ")]
    if row.are_classes:
        lines += ["", "  Methods (* must be defined):", *_methods(base)]
    return lines


def _methods(base: type) -> list[str]:
    """The methods of a base of the package, with signature and first line."""
    lines, names = [], set()
    for cls in base.__mro__:
        if not cls.__module__.startswith("avsal_jax."):
            continue
        for name, member in vars(cls).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if name.startswith("_") or name in names or not inspect.isfunction(function):
                continue
            names.add(name)
            must = "*" if getattr(function, "__isabstractmethod__", False) else " "
            signature = "" if isinstance(member, property) else str(inspect.signature(function))
            about = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            lines += _wrapped(f"{must} {name}{signature}: {about}")
    return lines


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
