"""A table of entries by name for each kind: parts, metrics, losses, data sets, objectives, outputs, ...

  @register("fusion", "scaled")
  class ScaledChannels(Fusion): ...

The package registers its own entries in the same way. A table is filled when it is first read, by importing
the modules of its kind; `import avsal_jax` imports none of them. Plugins add entries (`avsal_jax.plugins`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.kinds import KINDS, Kind

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_lock = threading.RLock()


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an entry comes from: this package, or a plugin.

    Attributes:
      name: `avsal_jax`, or the plugin's.
      version: of the plugin, or ''.
      modules: names of its modules and packages.
    """

    name: str
    version: str = ""
    modules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


PACKAGE = Origin("avsal_jax", modules=("avsal_jax",))


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a table.

    Attributes:
      kind: of `KINDS`.
      name: by which configs and commands select it.
      thing: the registered class, function or object.
      origin: the package or the plugin.
      module: that registered it.
    """

    kind: str
    name: str
    thing: object
    origin: Origin
    module: str

    @property
    def about(self) -> str:
        """One line: the thing's `about`, or else the first paragraph of its docstring."""
        text = getattr(self.thing, "about", None)
        if not isinstance(text, str) or not text:
            text = inspect.getdoc(self.thing) or ""
        return text.strip().split("\n\n")[0].replace("\n", " ")


@dataclasses.dataclass
class _Tables:
    """The state of the registry.

    Attributes:
      entries: kind -> name -> entry.
      read: kinds whose modules were imported.
      origins: the package and the loaded plugins, in order.
      ready: whether the plugins from the environment are loaded.
      installed: whether looking up an unknown name may load an installed plugin.
    """

    entries: dict[str, dict[str, Entry]]
    read: set[str]
    origins: list[Origin]
    ready: bool
    installed: bool


_tables = _Tables({kind: {} for kind in KINDS}, read=set(), origins=[PACKAGE], ready=False, installed=True)


def register(kind: str, name: str) -> Callable:
    """Returns a decorator that registers a class, function or object, and returns it.

    Args:
      kind: see `KINDS`, or `avsal list`.
      name: for configs and commands: lower-case letters, digits and underscores.

    Raises:
      AvsalError: an unknown kind, an invalid name, or a name that is taken (with its origin). From the
        decorator: the object is not of the type that the kind requires.
    """
    find_kind(kind)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AvsalError(
            f"{name!r} cannot be the name of a {kind}: use lower-case letters, digits and underscores, as "
            "my_fusion"
        )
    module = sys._getframe(1).f_globals.get("__name__", "__main__")

    def add(thing):
        with _lock:
            entry = Entry(kind, name=name, thing=thing, origin=_origin(module), module=module)
            if entry.origin is not PACKAGE:
                table(kind)  # the package's own names must be there first
            before = _tables.entries[kind].get(name)
            # a cell of a notebook may run again
            if before is not None and not (module == "__main__" and before.origin == entry.origin):
                raise AvsalError(
                    f"{entry.origin} registers the {kind} {name!r}, which {before.origin} has registered; "
                    "choose another name"
                )
            _check_form(entry)
            _tables.entries[kind][name] = entry
        return thing

    return add


def _origin(module: str) -> Origin:
    for origin in reversed(_tables.origins):
        if any(module == prefix or module.startswith(f"{prefix}.") for prefix in origin.modules):
            return origin
    return Origin(module.partition(".")[0])


def _check_form(entry: Entry) -> None:
    """Raises AvsalError if an object of a plugin is not of the type that its kind requires."""
    if entry.origin is PACKAGE:
        return
    kind, thing = KINDS[entry.kind], entry.thing
    form, name = kind.base(), kind.form.partition(":")[2]
    fits = (
        isinstance(thing, type) and issubclass(thing, form) if kind.are_classes else isinstance(thing, form)
    )
    if not fits:
        expected = f"subclass of {name}" if kind.are_classes else name
        raise AvsalError(
            f"{entry.origin} registers the {entry.kind} {entry.name!r}, which must be a {expected} "
            f"(avsal list {entry.kind} describes it); it is {thing!r}"
        )


def find_kind(kind: str) -> Kind:
    """Returns a kind by name; AvsalError, with the existing names, for an unknown one."""
    if kind not in KINDS:
        raise AvsalError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)}; kinds are {', '.join(KINDS)}")
    return KINDS[kind]


def entries(kind: str) -> tuple[Entry, ...]:
    """Returns the entries of a kind; those of the package come first."""
    table(kind)
    return tuple(_tables.entries[kind].values())


def table(kind: str) -> Mapping[str, object]:
    """Returns the registered objects of a kind by name: those of the package, then those of plugins."""
    homes = find_kind(kind).homes
    with _lock:
        if not _tables.ready:
            _tables.ready = True
            plugins().load_environment()
        if kind not in _tables.read:
            _tables.read.add(kind)
            try:
                for home in homes:
                    _import_all(home)
            except BaseException:
                _tables.read.discard(kind)
                raise
            _tables.entries[kind] = _ordered(kind)
        return MappingProxyType({name: entry.thing for name, entry in _tables.entries[kind].items()})


def _ordered(kind: str) -> dict[str, Entry]:
    """Returns the entries of a kind in an order that does not depend on the order of imports.

    Entries of the package come first, in the order of `Kind.homes`: those of a module in its own order, those
    of the modules of a folder sorted by name. Entries of plugins follow, in the order of registration.
    """
    homes = KINDS[kind].homes

    def place(entry: Entry) -> tuple[int, str]:
        for number, home in enumerate(homes):
            if entry.module == home:
                return number, ""
            if entry.module.startswith(f"{home}."):
                return number, entry.name
        return len(homes), ""

    return dict(sorted(_tables.entries[kind].items(), key=lambda item: place(item[1])))


def _import_all(home: str) -> None:
    """Imports a module, or all modules of a package."""
    module = importlib.import_module(home)
    for inner in sorted(pkgutil.iter_modules(getattr(module, "__path__", ())), key=lambda info: info.name):
        importlib.import_module(f"{home}.{inner.name}")


def lookup(kind: str, name: object) -> object | None:
    """Returns the object with a name, or None.

    If the name is unknown, an installed plugin that provides it is loaded (see `plugins.load_installed`).
    """
    if not isinstance(name, str):
        return None
    if name not in table(kind) and _tables.installed:
        plugins().load_installed(kind, name)
    return table(kind).get(name)


def find(kind: str, name: object, label: str = "") -> object:
    """Returns the object with a name that a user gave; see `lookup`.

    Args:
      kind: of `KINDS`.
      name: as the user gave it.
      label: the subject of the error, such as `--model`; by default the kind.

    Raises:
      AvsalError: an unknown name (with the nearest one and all existing names).
    """
    thing = lookup(kind, name)
    if thing is None:
        things, label = table(kind), label or kind.replace("_", " ")
        raise AvsalError(
            f"unknown {label} {name!r}{did_you_mean(name, things)}; there are {', '.join(things)}"
        )
    return thing


def is_registered(kind: str, name: str) -> bool:
    """Whether a name is registered; loads no installed plugin."""
    return kind in KINDS and name in table(kind)


def plugins():
    """Returns the module `plugins`, imported late because it imports this module."""
    return importlib.import_module("avsal_jax.plugins")


def choose(kind: str, names: Sequence[str], label: str = "") -> tuple[str, ...]:
    """Returns names that a user gave, without duplicates; AvsalError, as `find`, for an unknown one."""
    for name in names:
        find(kind, name, label)
    return tuple(dict.fromkeys(names))


def name_of(kind: str, thing: object) -> str | None:
    """Returns the name under which an object is registered, or None."""
    return next((name for name, other in table(kind).items() if other is thing), None)


def origin_of(kind: str, name: str) -> Origin | None:
    """Returns the origin of a name, or None if it is not registered."""
    table(kind)
    entry = _tables.entries[kind].get(name)
    return entry and entry.origin


def add_origin(origin: Origin) -> None:
    """Attributes later registrations by the modules of `origin` to it."""
    _tables.origins.append(origin)


@contextlib.contextmanager
def without_installed_plugins() -> Iterator[None]:
    """Disables loading of installed plugins by name.

    Used while reading files, whose names the user did not type.
    """
    with _lock:
        before, _tables.installed = _tables.installed, False
        try:
            yield
        finally:
            _tables.installed = before


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Removes all registrations of its block at the end; for tests."""
    before = _snapshot()
    try:
        yield
    finally:
        _restore(before)


@contextlib.contextmanager
def undone_on_error() -> Iterator[None]:
    """Removes all registrations of its block if an exception leaves it."""
    before = _snapshot()
    try:
        yield
    except BaseException:
        _restore(before)
        raise


def _snapshot() -> tuple[dict[str, dict[str, Entry]], set[str], list[Origin]]:
    rows = {kind: dict(rows) for kind, rows in _tables.entries.items()}
    return rows, set(_tables.read), list(_tables.origins)


def _restore(snapshot) -> None:
    """Restores a snapshot, except for entries of the package in tables that were filled after it.

    Their modules are imported only once, so they could not register again.
    """
    rows, read, origins = snapshot
    _tables.origins[:] = origins
    for kind in KINDS:
        filled = {n: e for n, e in _tables.entries[kind].items() if e.origin is PACKAGE and kind not in read}
        _tables.entries[kind] = {**filled, **rows[kind]}
