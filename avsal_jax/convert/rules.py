"""Key tables: which source tensor becomes which leaf, and how; strict in both directions."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator

import numpy as np

from avsal_jax.errors import AvsalError

# transform -> (rank of the source, order of its axes in ours). 3-D kernels are (O, I, kt, kh, kw) in
# PyTorch and [kt, kh, kw, I, O] here; transposed convolutions are (I, O, kt, kh, kw) there.
TRANSFORMS: dict[str, tuple[int, tuple[int, ...]]] = {
    "vector": (1, (0,)),
    "conv3d": (5, (2, 3, 4, 1, 0)),
    "conv_transpose3d": (5, (2, 3, 4, 0, 1)),
    "conv2d": (4, (2, 3, 1, 0)),
    "linear": (2, (1, 0)),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of a key table: `target` (a flat path of ours) = transform(`source`)."""

    source: str
    target: str
    transform: str


def batch_norm(source: str, target: str) -> Iterator[Entry]:
    """Rows of a BatchNorm `source.{weight,bias,running_mean,running_var}` for the norm at `target`."""
    leaves = (
        ("weight", "params", "scale"),
        ("bias", "params", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    )
    for theirs, collection, ours in leaves:
        yield Entry(f"{source}.{theirs}", f"{collection}/{target}/batch/{ours}", "vector")


def conv_norm(conv: str, norm: str, target: str) -> Iterator[Entry]:
    """Rows of a convolution and its batch norm for the `ConvNorm` at `target`."""
    yield Entry(f"{conv}.weight", f"params/{target}/conv/kernel", "conv3d")
    yield from batch_norm(norm, f"{target}/norm")


def apply_table(
    tensors: dict[str, np.ndarray],
    table: Iterable[Entry],
    ignored: Iterable[str],
    expected: dict[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Returns our flat leaves out of source tensors.

    Args:
      tensors: source name -> array.
      table: the rows; together they must fill `expected`.
      ignored: name patterns of source tensors that are known and not used.
      expected: flat path -> shape of every leaf of the network.

    Raises:
      AvsalError: naming every missing or surplus source tensor, wrong rank or shape, unfilled leaf.
    """
    table, problems, flat = list(table), [], {}
    sources = [entry.source for entry in table]
    missing = [name for name in sources if name not in tensors]
    used = set(sources)
    surplus = [
        name
        for name in tensors
        if name not in used and not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignored)
    ]
    problems += _listed("missing from the checkpoint", missing)
    problems += _listed("in the checkpoint but not known", surplus)
    for entry in table:
        if entry.source not in tensors:
            continue
        array = tensors[entry.source]
        rank, order = TRANSFORMS[entry.transform]
        if array.ndim != rank:
            problems.append(f"{entry.source} has shape {array.shape}, not {rank} axes")
            continue
        value = np.ascontiguousarray(array.transpose(order), dtype=np.float32)
        wanted = expected.get(entry.target)
        if wanted is not None and value.shape != wanted:
            theirs = tuple(wanted[order.index(axis)] for axis in range(rank))
            hint = "; its axes look transposed" if sorted(array.shape) == sorted(theirs) else ""
            problems.append(f"{entry.source} has shape {array.shape}, not {theirs}{hint}")
        flat[entry.target] = value
    targets = {entry.target for entry in table}
    problems += _listed("parts of the network that no row fills", sorted(set(expected) - targets))
    problems += _listed("rows for parts that the network lacks", sorted(targets - set(expected)))
    if problems:
        raise AvsalError("the checkpoint does not fit: " + "; ".join(problems))
    return flat


def _listed(what: str, names: list[str], limit: int = 4) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {what}: {', '.join(names[:limit])}{more}"]
