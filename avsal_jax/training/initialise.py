"""Initialises a network from stored weights: of systems or parts, by slot or by path pattern in a slot."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from flax import traverse_util

from avsal_jax.errors import AvsalError
from avsal_jax.models.renamings import renamed_slot
from avsal_jax.storage import differences, flatten, read_model
from avsal_jax.training.records.overview import module_of

_COLLECTIONS = ("params", "batch_stats")


@dataclasses.dataclass(frozen=True)
class Init:
    """A source of weights.

    Attributes:
      path: a model directory: a whole system, or a converted part.
      slot: slot to copy, such as `visual_encoder` or `heads/saliency`; '' for all slots.
      pattern: a regular expression that is searched (`re.search`) in the path of a leaf in the slot, such as
        `conv1/spatial/conv/kernel`; with slot '' the path begins with the slot's name. '' for all leaves.
    """

    path: str
    slot: str = ""
    pattern: str = ""

    def __post_init__(self):
        if (today := renamed_slot(self.slot)) != self.slot:
            raise AvsalError(f"the slot {self.slot!r} of init is now {today!r}")


@dataclasses.dataclass(frozen=True)
class InitReport:
    """The result of `initialise`.

    Attributes:
      copied: for each source, the names of the copied leaves.
      unused: for each source, the names of selected leaves that the network does not have.
      fresh: names of the network's leaves that keep their initial values.
    """

    copied: tuple[tuple[Init, tuple[str, ...]], ...]
    unused: tuple[tuple[Init, tuple[str, ...]], ...]
    fresh: tuple[str, ...]

    def text(self) -> str:
        """Returns the report as a few lines; fresh and unused leaves are counted by module."""
        lines = []
        for (source, copied), (_, unused) in zip(self.copied, self.unused, strict=True):
            lines.append(f"{len(copied)} leaves from {_label(source)}")
            if unused:
                lines.append(f"  not used, since the network does not have them: {_by_module(unused)}")
        lines.append(
            f"{len(self.fresh)} leaves keep their initial values"
            + (f": {_by_module(self.fresh)}" * bool(self.fresh))
        )
        return "\n".join(lines)


def initialise(variables: dict, sources: Sequence[Init]) -> tuple[dict, InitReport]:
    """Replaces initial values by stored weights.

    Args:
      variables: `params` and `batch_stats`; leaves with the same path and shape are replaced.
      sources: applied in order; later sources override earlier ones.

    Returns:
      New variables (replaced leaves are NumPy arrays of the original dtype, others are unchanged), and the
      report. Names in it begin with the collection: `params/visual_encoder/...`.

    Raises:
      AvsalError: a source cannot be read, a pattern is not a regular expression, no leaf of a source matches
        the slot, the pattern and the network, or leaves have different shapes.
    """
    flat, fresh = dict(flatten(variables)), set(flatten(variables))
    copied, unused = [], []
    for source in sources:
        selection = _select(flatten(read_model(source.path).variables), source)
        copies = {name: value for name, value in selection.items() if name in flat}
        _check(copies, selection=selection, flat=flat, source=source)
        flat.update({name: np.asarray(value, flat[name].dtype) for name, value in copies.items()})
        fresh -= set(copies)
        copied.append((source, tuple(sorted(copies))))
        unused.append((source, tuple(sorted(set(selection) - set(copies)))))
    report = InitReport(tuple(copied), tuple(unused), tuple(sorted(fresh)))
    return traverse_util.unflatten_dict(flat, sep="/"), report


def _select(flat: dict, source: Init) -> dict:
    """Returns the leaves of a model that match the slot and pattern of `source`."""
    try:
        pattern = re.compile(source.pattern)
    except re.error as error:
        raise AvsalError(f"{source.pattern!r} is not a regular expression: {error}") from error
    prefix = f"{source.slot}/" if source.slot else ""
    inside = {}
    for name in flat:
        collection, _, path = name.partition("/")
        if collection in _COLLECTIONS and path.startswith(prefix):
            inside[name] = path.removeprefix(prefix)
    if not inside:
        slots = sorted({name.split("/")[1] for name in flat})
        raise AvsalError(f"{source.path} has no {source.slot!r}; it has {', '.join(slots)}")
    selection = {name: flat[name] for name, path in inside.items() if pattern.search(path)}
    if not selection:
        examples = ", ".join(sorted(inside.values())[:4])
        raise AvsalError(f"no leaf of {_label(source)}; its leaves are {examples} ...")
    return selection


def _check(copies: dict, selection: dict, flat: dict, source: Init) -> None:
    if not copies:
        slots = sorted({name.split("/")[1] for name in flat})
        raise AvsalError(
            f"the network has no leaf of {_label(source)}: {', '.join(sorted(selection)[:4])} ...; "
            f"its slots are {', '.join(slots)}"
        )
    shapes = {name: np.shape(value) for name, value in copies.items()}
    problems = differences(shapes, {name: np.shape(flat[name]) for name in copies}, limit=8)
    if problems:
        raise AvsalError(
            f"the weights of {_label(source)} do not fit this network: {'; '.join(problems)}; give the "
            "network the same fields, or select fewer leaves with a pattern"
        )


def _label(source: Init) -> str:
    slot = f" {source.slot}" if source.slot else ""
    return f"{source.path}{slot}" + (f" that match {source.pattern!r}" if source.pattern else "")


def _by_module(names) -> str:
    """Returns `visual_encoder/conv1 (6), ...`: the modules of leaves, with counts."""
    counts = collections.Counter(module_of(name.partition("/")[2]) for name in names)
    return ", ".join(f"{module} ({count})" for module, count in sorted(counts.items()))
