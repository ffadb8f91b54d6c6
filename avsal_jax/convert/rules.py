"""Key tables: map each source tensor to a leaf and a transform; missing or surplus tensors are errors."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from avsal_jax.errors import AvsalError

if TYPE_CHECKING:  # `--help` reads the tables and must not import numpy
    import numpy as np

# transform -> (rank of the source, source axis of each target axis). None is an axis of length 1 that the
# source lacks; source axes that are not listed must have length 1. 3-D kernels are (O, I, kt, kh, kw) in
# PyTorch and [kt, kh, kw, I, O] here; transposed convolutions are (I, O, kt, kh, kw) in PyTorch. Kernels
# over the time of audio are columns (O, I, k, 1) or rows (O, I, 1, k).
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
    """One row of a key table: a source tensor, its target parameter, and the order of its axes.

    Attributes:
      source: the name of the tensor.
      target: the path of the parameter, as `params/fusion/gate/kernel` or `batch_stats/head/norm/mean`.
      transform: a key of `TRANSFORMS`: `vector`, `linear` (weight of a Linear -> kernel of a Dense),
        `conv2d`, `conv3d`, `conv_transpose3d`, `depthwise`, ...
      piece: (i, n) selects the i-th of n equal pieces along the first axis of the source.
    """

    source: str
    target: str
    transform: str
    piece: tuple[int, int] = (0, 1)

    def select_piece(self, array: np.ndarray) -> np.ndarray:
        """Returns the piece of the source that the row uses."""
        index, count = self.piece
        size = array.shape[0] // count
        return array[index * size : (index + 1) * size]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Returns a piece of the source, of the right rank, in the target layout and float32."""
        import numpy as np

        _, order = TRANSFORMS[self.transform]
        value = array.transpose(self._axes()).reshape([1 if a is None else array.shape[a] for a in order])
        return np.ascontiguousarray(value, dtype=np.float32)

    def shape_in_source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the piece in the source, given the shape of the target leaf."""
        rank, order = TRANSFORMS[self.transform]
        return tuple(shape[order.index(axis)] if axis in order else 1 for axis in range(rank))

    def undo(self, value: np.ndarray) -> np.ndarray:
        """Returns a target leaf in the layout of the source."""
        import numpy as np

        rank, order = TRANSFORMS[self.transform]
        new = tuple(position for position, axis in enumerate(order) if axis is None)
        squeezed = value.squeeze(new)
        return np.moveaxis(
            squeezed.reshape(*squeezed.shape, *[1] * (rank - squeezed.ndim)), range(rank), self._axes()
        )

    def _axes(self) -> list[int]:
        """Returns the source axes in target order, then the dropped axes."""
        rank, order = TRANSFORMS[self.transform]
        axes = [axis for axis in order if axis is not None]
        return axes + [axis for axis in range(rank) if axis not in axes]


def batch_norm(source: str, target: str) -> Iterator[Entry]:
    """Yields the rows of a BatchNorm, `source.{weight,bias,running_mean,running_var}`, for `target`."""
    leaves = (
        ("weight", "params", "scale"),
        ("bias", "params", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    )
    for name, collection, leaf in leaves:
        yield Entry(f"{source}.{name}", f"{collection}/{target}/batch/{leaf}", "vector")


def conv_norm(conv: str, norm: str, target: str) -> Iterator[Entry]:
    """Yields the rows of a convolution and its batch norm for the `ConvNorm` at `target`."""
    yield Entry(f"{conv}.weight", f"params/{target}/conv/kernel", "conv3d")
    yield from batch_norm(norm, f"{target}/norm")


def apply_table(
    tensors: dict[str, np.ndarray],
    table: Iterable[Entry],
    ignored: Iterable[str],
    expected: dict[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Returns flat target leaves, converted from source tensors.

    Args:
      tensors: source name -> array.
      table: the rows; together they must fill `expected`.
      ignored: name patterns of source tensors that are not used.
      expected: flat path -> shape of every leaf of the network.

    Raises:
      AvsalError: lists every missing or surplus source tensor, wrong rank or shape, and unfilled leaf; or
        tensors with invalid values (see `storage.value_fault`).
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
    problems += _problem_lines("missing from the checkpoint", missing)
    problems += _problem_lines("in the checkpoint but not known", surplus)
    for entry in table:
        if entry.source not in tensors:
            continue
        array = tensors[entry.source]
        rank, _ = TRANSFORMS[entry.transform]
        if array.ndim != rank:
            problems.append(f"{entry.source} has shape {tuple(array.shape)}, not {rank} axes")
            continue
        shape = expected.get(entry.target)
        if shape is None:
            continue
        piece_shape = entry.shape_in_source(shape)
        source_shape = (piece_shape[0] * entry.piece[1], *piece_shape[1:])
        if tuple(array.shape) != source_shape:
            hint = "; its axes look transposed" if sorted(array.shape) == sorted(source_shape) else ""
            problems += [f"{entry.source} has shape {tuple(array.shape)}, not {source_shape}{hint}"]
            continue
        values = entry.select_piece(np.asarray(array))
        if fault := value_fault(values, entry.target):
            faults.append(f"{entry.source} {fault}")
            continue
        flat[entry.target] = entry.apply(values)
    targets = {entry.target for entry in table}
    problems += _problem_lines("parts of the network that no row fills", sorted(set(expected) - targets))
    problems += _problem_lines("rows for parts that the network lacks", sorted(targets - set(expected)))
    if problems:
        raise AvsalError("the checkpoint does not fit: " + "; ".join(problems))
    if faults:
        rest = f"; and {len(faults) - 2} more tensors" if len(faults) > 2 else ""
        raise AvsalError(f"{'; '.join(faults[:2])}{rest}: {WRONG_VALUES}")
    return flat


def _problem_lines(label: str, names: list[str], limit: int = 4) -> list[str]:
    if not names:
        return []
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {label}: {', '.join(names[:limit])}{rest}"]
