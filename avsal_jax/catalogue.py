"""Texts of `avsal list`: kinds, and their entries with origin, fields and documentation."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import textwrap

from avsal_jax import registry
from avsal_jax.bundled import shipped_folder
from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import described, field_types

_WIDTH = 100  # characters of a line
_REQUIRED, _ABOUT = "(required)", "about"  # the latter is printed separately
_NOT_SET = ("parent", "name", "runtime", "scope")  # fields of modules that a config cannot set


def kinds() -> str:
    """Returns a list of all kinds, with the names of their entries."""
    lines = []
    for kind, row in registry.KINDS.items():
        lines += [f"{kind}: {row.about}", *_wrapped(", ".join(registry.table(kind)))]
    lines += [
        "",
        "avsal list KIND describes all entries and how to add one; avsal list KIND NAME describes one entry.",
    ]
    return "\n".join(lines)


def of_kind(kind: str) -> str:
    """Returns instructions for registering an entry of a kind, and a list of its entries.

    Each entry has its name, origin, summary and fields.
    """
    lines = [f"{kind}: {registry.find_kind(kind).about}", "", *_skeleton(kind)]
    for entry in registry.entries(kind):
        lines += ["", f"{entry.name}  ({entry.origin})", *_wrapped(entry.about)]
        if fields := _fields(entry.thing, without=(_ABOUT,)):
            lines += _wrapped("fields: " + ", ".join(f"{name}={text}" for name, (_, text) in fields.items()))
    return "\n".join(lines)


def example(kind: str) -> str:
    """Returns a complete plugin that registers an entry of a kind; AvsalError if there is no example."""
    registry.find_kind(kind)
    folder = shipped_folder("examples", "tests/extending/plugins")
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    examples = {name: text for name, text in texts.items() if f'register("{kind}", ' in text}
    if not examples:
        raise AvsalError(f"there is no example of a {kind}; avsal list {kind} describes its base")
    name = min(
        examples, key=lambda name: examples[name].count("register(")
    )  # registers the fewest other entries
    return f"# {name}\n{examples[name]}"


def _skeleton(kind: str) -> list[str]:
    """Returns instructions for a plugin: imports, base class, and what an entry must or may define."""
    row = registry.KINDS[kind]
    base, package = row.base(), ".".join(row.form.split(".")[:2]).partition(":")[0]
    name = base.__name__
    lines = [
        "  from avsal_jax import register",
        f"  from {package} import {name}",
        '  AVSAL_API = "1.0"  # of plugins: the version of their interface',
    ]
    if row.are_classes:
        frozen = all(_is_plain_dataclass(entry.thing) for entry in registry.entries(kind))
        lines += [f'  @register("{kind}", "my_{kind}")']
        lines += ["  @dataclasses.dataclass(frozen=True)"] if frozen else []
        lines += [f"  class My{name}({name}): ..."]
    else:
        lines.append(f'  register("{kind}", "my_{kind}")({name}(...))')
    lines += ["", textwrap.indent(inspect.getdoc(base) or "", "  ")]
    if not row.are_classes:
        lines += ["", "  Fields:", *_field_lines(_fields(base))]
    if row.calls:
        lines += ["", "  Calls and attributes:", *(line for text in row.calls for line in _wrapped(text))]
    if row.are_classes:
        lines += ["", "  Methods (* must be defined):", *_methods(base)]
    for helper in row.helpers:
        cls = getattr(importlib.import_module(package), helper)
        signature = str(inspect.signature(cls)).replace("'", "") if inspect.isfunction(cls) else ""
        lines += ["", f"  {package}.{helper}{signature}:", textwrap.indent(inspect.getdoc(cls) or "", "    ")]
        lines += _methods(cls) if isinstance(cls, type) else []
    homes = ", ".join(map(_place, row.homes))
    lines += ["", f"  Use: {row.use.replace('KIND', kind)}, with --plugin FILE."]
    lines += [f"  In the package: {homes} (a new file in a folder is imported automatically)."]
    return [*lines, f"  A complete plugin: avsal list {kind} --example"]


def _place(home: str) -> str:
    """Returns the path of a module or folder: `avsal_jax/losses.py`, `avsal_jax/models/fusion/`."""
    path = home.replace(".", "/")
    return f"{path}/" if hasattr(importlib.import_module(home), "__path__") else f"{path}.py"


def _is_plain_dataclass(thing) -> bool:
    return dataclasses.is_dataclass(thing) and not hasattr(thing, "sow")  # not a flax module


def _field_lines(fields: dict[str, tuple[str, str]]) -> list[str]:
    return [
        line
        for name, (words, value) in fields.items()
        for line in _wrapped(f"{name} {value if value == _REQUIRED else f'= {value}'}: {words}")
    ]


def _methods(base: type) -> list[str]:
    """Returns the public methods of a base class, with signature and first paragraph."""
    lines, names = [], set()
    for cls in base.__mro__:
        if not cls.__module__.startswith("avsal_jax."):
            continue
        for name, member in vars(cls).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            is_private = name.startswith("_") and name not in ("__init__", "__call__")
            if is_private or name in names or not inspect.isfunction(function):
                continue
            if name == "__init__" and dataclasses.is_dataclass(cls):
                continue
            names.add(name)
            must = "*" if getattr(function, "__isabstractmethod__", False) else " "
            signature = inspect.signature(function)
            kind = " (property)" if isinstance(member, property) else ""
            text = f" -> {signature.return_annotation}" if kind else str(signature)
            about = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            lines += _wrapped(f"{must} {name}{kind}{text.replace(chr(39), '')}: {about}")
    return lines


def _class_values(cls: type) -> list[str]:
    """Returns the public class attributes that are not fields."""
    fields, lines = _fields(cls), []
    for name, value in vars(cls).items():
        is_value = not (callable(value) or isinstance(value, property | classmethod | staticmethod))
        is_value &= not type(value).__module__.startswith("flax.")
        if is_value and not name.startswith("_") and name not in fields and name not in _NOT_SET:
            lines += _wrapped(f"{name} = {_short(value)}")
    return lines


def of_name(kind: str, name: str) -> str:
    """Returns the description of an entry: origin, module, documentation, fields with types and defaults."""
    registry.find(kind, name)
    (entry,) = (entry for entry in registry.entries(kind) if entry.name == name)
    is_class = isinstance(entry.thing, type)
    lines = [f"{kind} {name}  ({entry.origin}, registered by {entry.module})", ""]
    documentation = inspect.getdoc(entry.thing) if is_class or callable(entry.thing) else entry.about
    lines += [textwrap.indent(documentation or "", "  ")]
    if fields := _fields(entry.thing, without=(_ABOUT,)):
        lines += ["", "fields:", *_field_lines(fields)]
    if is_class and (values := _class_values(entry.thing)):
        lines += ["", "attributes of the class:", *values]
    return "\n".join(lines)


def _fields(thing, without: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    """Returns field -> (its type in words, its value); of a class, the value is the default."""
    if not dataclasses.is_dataclass(thing):
        return {}
    hints, rows = field_types(thing if isinstance(thing, type) else type(thing)), {}
    for field in dataclasses.fields(thing):
        if field.name not in hints or field.name in (*_NOT_SET, *without):
            continue
        value = _default(field) if isinstance(thing, type) else getattr(thing, field.name)
        text = _REQUIRED if value is dataclasses.MISSING else _short(value)
        rows[field.name] = described(hints[field.name]), text
    return rows


def _default(field: dataclasses.Field):
    has_factory = field.default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING
    return field.default_factory() if has_factory else field.default


def _short(value) -> str:
    if callable(value) and not dataclasses.is_dataclass(value):
        return getattr(value, "__name__", type(value).__name__)
    return textwrap.shorten(repr(value), _WIDTH)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
