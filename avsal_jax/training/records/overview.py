"""Parameters of a network by module, and the work of one forward pass."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from avsal_jax.models.slots import HEADS
from avsal_jax.storage import flatten


@dataclasses.dataclass(frozen=True)
class Overview:
    """Counts by module.

    Attributes:
      rows: (module, such as `visual_encoder/mixed_4b`; arrays; parameters), in the order of the tree.
      arrays, parameters: the totals.
      flops: floating-point operations of a forward pass; None if unknown.
    """

    rows: tuple[tuple[str, int, int], ...]
    arrays: int
    parameters: int
    flops: float | None = None

    @property
    def work(self) -> str:
        """The forward pass in multiply-adds, such as `12.3 GMAC`; '' if unknown.

        XLA counts a multiply-add as two operations. All other operations therefore count as half a
        multiply-add.
        """
        if self.flops is None:
            return ""
        multiply_adds = self.flops / 2
        scale, unit = (1e9, "GMAC") if multiply_adds >= 1e9 else (1e6, "MMAC")
        return f"{multiply_adds / scale:,.1f} {unit}"

    def table(self) -> list[tuple[str, str, str, str]]:
        """Returns rows of text: module, arrays, parameters, share; slots first, then their modules."""
        slots: dict[str, list] = collections.defaultdict(list)
        for row in self.rows:
            slots[slot_of(row[0])].append(row)
        lines = []
        for slot, rows in slots.items():
            lines.append((slot, sum(r[1] for r in rows), sum(r[2] for r in rows)))
            lines += [("  " + module, arrays, count) for module, arrays, count in rows if module != slot]
        lines.append(("total", self.arrays, self.parameters))
        return [
            (name, f"{arrays}", f"{count:,}", f"{100 * count / max(1, self.parameters):.1f} %")
            for name, arrays, count in lines
        ]

    def text(self) -> str:
        """Returns the table in aligned columns, and the work of a forward pass below it."""
        rows = [("module", "arrays", "parameters", "share"), *self.table()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        if self.flops is not None:
            lines.append(f"forward pass: {self.work}")
        return "\n".join(lines)


def slot_of(path: str) -> str:
    """Returns the slot of a module or leaf, `heads/saliency` for a head."""
    return "/".join(path.split("/")[: 2 if path.startswith(f"{HEADS}/") else 1])


def module_of(path: str) -> str:
    """Returns the module of a leaf: its slot and the first name in that, as `visual_encoder/conv1`."""
    slot, modules = slot_of(path), path.split("/")[:-1]
    return "/".join(modules[: slot.count("/") + 2])


def overview(params: dict, flops: float | None = None) -> Overview:
    """Counts parameters by module.

    Args:
      params: the tree of parameters, arrays or shapes; it begins with the slots.
      flops: from `forward_flops`.
    """
    arrays, counts = collections.Counter(), collections.Counter()
    for path, leaf in flatten(params).items():
        module = module_of(path)
        arrays[module] += 1
        counts[module] += int(np.prod(leaf.shape))
    rows = tuple((module, arrays[module], counts[module]) for module in counts)
    return Overview(rows, arrays=sum(arrays.values()), parameters=sum(counts.values()), flops=flops)


def forward_flops(function: Callable, *arguments) -> float | None:
    """Returns the floating-point operations of `function`, as XLA counts them before it optimises.

    The function is traced and lowered but not compiled, which takes a second or two for a large network.

    Args:
      function: a function that jax can jit.
      *arguments: arrays, or `jax.ShapeDtypeStruct`.

    Returns:
      The count (a multiplication and an addition are two), or None if the backend does not report it.
    """
    costs = jax.jit(function).lower(*arguments).cost_analysis()
    return float(costs["flops"]) if costs and "flops" in costs else None
