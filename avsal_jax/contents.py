"""Tables of contents: what a package offers, imported from its modules when it is first used."""

from __future__ import annotations

import importlib
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
