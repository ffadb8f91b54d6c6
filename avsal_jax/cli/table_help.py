"""Help texts with registered names, which are looked up when help is printed."""

from __future__ import annotations

import argparse
import re

from avsal_jax import registry

_NAMES = re.compile(r"\{(\w+)(?::(\w+))?\}")


class TableHelp(str):
    """A help text in which `{metric}` stands for the names of the registered metrics.

    `{metric:by_default}` stands for metrics whose attribute `by_default` is true, and `{metric}` then for
    those in no other group of the text. The parser needs a `TableHelpFormatter`.
    """

    def filled(self) -> str:
        """Returns the text with names."""
        groups = {match[0]: match.groups() for match in _NAMES.finditer(self)}
        return _NAMES.sub(lambda match: ", ".join(_names(*match.groups(), groups.values())), self)


def _names(kind: str, attribute: str | None, groups) -> list[str]:
    flags = [flag for of, flag in groups if of == kind and flag is not None]
    return [
        name
        for name, thing in registry.table(kind).items()
        if (getattr(thing, attribute) if attribute else not any(getattr(thing, flag) for flag in flags))
    ]


class TableHelpFormatter(argparse.HelpFormatter):
    """Prints each `TableHelp` with the registered names."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        return text.filled() if isinstance(text, TableHelp) else text
