"""Tables of contents: what a package offers, imported when it is first used; and modules that have moved."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping


def offered(package: str, homes: Mapping[str, str]) -> tuple[Callable, Callable, list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
      package: its dotted name.
      homes: name -> the module that has it, relative to the package where it begins with a dot.
    """

    def find(name: str):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name], package), name)

    return find, lambda: sorted(homes), list(homes)


def moved(old: str, new: str) -> Callable:
    """Returns `__getattr__` of a module that has moved: names come from the new one, with a warning."""

    def find(name: str):
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(new), name)
        warnings.warn(f"{old} has moved to {new}", FutureWarning, stacklevel=2)
        return value

    return find
