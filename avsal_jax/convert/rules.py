"""Key tables: which source tensor becomes which leaf, and how; strict in both directions."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from avsal_jax.errors import AvsalError

if TYPE_CHECKING:  # tables are read for `--help`, without numpy
    import numpy as np

# transform -> (rank of the source, its axis for each of ours). None is an axis of length 1 that the source
# lacks; axes of the source that are not named must have length 1. 3-D kernels are (O, I, kt, kh, kw) in
# PyTorch and [kt, kh, kw, I, O] here; transposed convolutions are (I, O, kt, kh, kw) there. Kernels over
# the time of a sound are columns (O, I, k, 1) or rows (O, I, 1, k).
TRANSFORMS: dict[str, tuple[int, tuple[int | None, ...]]] = {
    "vector": (1, (0,)),
    "conv3d": (5, (2, 3, 4, 1, 0)),
    "conv_transpose3d": (5, (2, 3, 4, 0, 1)),
    "conv2d": (4, (2, 3, 1, 0)),
    "depthwise": (4, (2, 3, 0)),
    "conv_column": (4, (2, 3, None, 1, 0)),
    "conv_row": (4, (3, 2, None, 1, 0)),
    "linear": (2, (1, 0)),
    "pointwise2d": (4, (1, 0)),
    "pointwise3d": (5, (1, 0)),
    "bilinear": (3, (1, 2, 0)),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of a key table: which tensor becomes which parameter, and how its axes are ordered.

    Attributes:
      source: the name of the tensor.
      target: the path of the parameter, as `params/fusion/gate/kernel` or `batch_stats/head/norm/mean`.
      transform: a key of `TRANSFORMS`: `vector`, `linear` (weight of a Linear -> kernel of a Dense),
        `conv2d`, `conv3d`, `conv_transpose3d`, `depthwise`, ...
      piece: (i, n) takes the i-th of n equal pieces along the first axis of the source.
    """

    source: str
    target: str
    transform: str
    piece: tuple[int, int] = (0, 1)

    def taken(self, array: np.ndarray) -> np.ndarray:
        """Returns the piece of the source that the row takes."""
        index, count = self.piece
        size = array.shape[0] // count
        return array[index * size : (index + 1) * size]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Returns a piece of the source, of the right rank, in our layout and float32."""
        import numpy as np

        _, order = TRANSFORMS[self.transform]
        value = array.transpose(self._axes()).reshape([1 if a is None else array.shape[a] for a in order])
        return np.ascontiguousarray(value, dtype=np.float32)

    def shape_in_source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape that the piece has in the source, given that of our leaf."""
        rank, order = TRANSFORMS[self.transform]
        return tuple(shape[order.index(axis)] if axis in order else 1 for axis in range(rank))

    def undo(self, value: np.ndarray) -> np.ndarray:
        """Returns our leaf in the source's layout, by indexing axes one by one."""
        import numpy as np

        rank, order = TRANSFORMS[self.transform]
        new = tuple(position for position, axis in enumerate(order) if axis is None)
        kept = value.squeeze(new)
        return np.moveaxis(kept.reshape(*kept.shape, *[1] * (rank - kept.ndim)), range(rank), self._axes())

    def _axes(self) -> list[int]:
        """The source's axes in our order, then those that we drop."""
        rank, order = TRANSFORMS[self.transform]
        kept = [axis for axis in order if axis is not None]
        return kept + [axis for axis in range(rank) if axis not in kept]


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
      AvsalError: naming every missing or surplus source tensor, wrong rank or shape, unfilled leaf; or
        tensors with values that no network has (see `storage.value_fault`).
    """
    import numpy as np

    from avsal_jax.storage import WRONG_VALUES, value_fault

    table, problems, faults, flat = list(table), [], [], {}
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
        rank, _ = TRANSFORMS[entry.transform]
        if array.ndim != rank:
            problems.append(f"{entry.source} has shape {tuple(array.shape)}, not {rank} axes")
            continue
        wanted = expected.get(entry.target)
        if wanted is None:
            continue
        theirs = entry.shape_in_source(wanted)
        whole = (theirs[0] * entry.piece[1], *theirs[1:])
        if tuple(array.shape) != whole:
            hint = "; its axes look transposed" if sorted(array.shape) == sorted(whole) else ""
            problems += [f"{entry.source} has shape {tuple(array.shape)}, not {whole}{hint}"]
            continue
        values = entry.taken(np.asarray(array))
        if fault := value_fault(values, entry.target):
            faults.append(f"{entry.source} {fault}")
            continue
        flat[entry.target] = entry.apply(values)
    targets = {entry.target for entry in table}
    problems += _listed("parts of the network that no row fills", sorted(set(expected) - targets))
    problems += _listed("rows for parts that the network lacks", sorted(targets - set(expected)))
    if problems:
        raise AvsalError("the checkpoint does not fit: " + "; ".join(problems))
    if faults:
        more = f"; and {len(faults) - 2} more tensors" if len(faults) > 2 else ""
        raise AvsalError(f"{'; '.join(faults[:2])}{more}: {WRONG_VALUES}")
    return flat


def _listed(what: str, names: list[str], limit: int = 4) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {what}: {', '.join(names[:limit])}{more}"]
