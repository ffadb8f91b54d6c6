"""Which of a file's tensors are the system's: dictionaries inside dictionaries, and prefixes of names."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from avsal_jax.errors import AvsalError

# What torch puts before or into names: DataParallel (`module`), torch.compile (`_orig_mod`).
_WRAPPERS = {"module", "_orig_mod"}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, read when its values are asked for (`np.asarray`).

    Attributes:
      folder: the dictionaries that it lies in, as `state_dict.`; empty at the top.
      name: its name there.
      shape: of its values.
      dtype: its type of number, in the file's words.
      load: gives the values; AvsalError for what has none.
    """

    folder: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.load(), dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Content:
    """All that a file holds.

    Attributes:
      tensors: in the order of the file.
      others: (folder, name) of entries that are no tensors.
    """

    tensors: tuple[StoredTensor, ...]
    others: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The tensors of a system.

    Attributes:
      tensors: the system's own name -> tensor.
      notes: a line each on where they were found, and what was left out.
    """

    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...] = ()


def choose(content: Content, marks: Sequence[str], key: str | None = None) -> Checkpoint:
    """Returns the tensors of a system, without what stands before their names.

    The system is where a name ends in one of `marks`: what stands before that, dictionaries and prefixes, is
    taken off, if all names that lie there share it. Where no name does, all tensors are returned.

    Args:
      content: of the file.
      marks: names that every checkpoint of the system has one of; none for what the file holds.
      key: the dictionary, or prefix, to look in.

    Raises:
      AvsalError: several places fit, none has the name `key`, or only some names of the place that fits
        have its prefix.
    """
    tensors = _under(content.tensors, key) if key else content.tensors
    names = _cleaned(tensors)
    roots = _roots(names, marks)
    if len(roots) > 1:
        listed = ", ".join(f"{_bare(root)} ({_count(names, root)} tensors)" for root in roots)
        raise AvsalError(f"several of its entries fit: {listed}; choose one by --key NAME")
    if roots:
        root = roots[0]
    else:
        folders = sorted({tensor.folder for tensor in tensors})
        root = folders[0] if len(folders) == 1 else ""
    inside = {name: tensor for name, tensor in zip(names, tensors, strict=True) if name.startswith(root)}
    if len(inside) < _count(names, root):
        raise AvsalError(
            "two of its tensors have one name: an entry's name joined with a tensor's is another's"
        )
    folders = {tensor.folder for tensor in inside.values()}
    beside = [t for t in tensors if t.folder in folders and id(t) not in set(map(id, inside.values()))]
    if beside and not key:
        raise AvsalError(
            f"{len(inside)} names begin with {_bare(root)}., and beside them are {len(beside)} others "
            f"({described(beside)}); --key {_bare(root)} takes those {len(inside)} alone"
        )
    chosen = {name.removeprefix(root): tensor for name, tensor in inside.items()}
    start = f"{key.rstrip('.')}." if key else ""
    full = {start + folder for folder in folders}
    others = [name for folder, name in content.others if folder in full]
    return Checkpoint(chosen, (*_found(chosen, start), *_left_out(others)))


def described(tensors: Sequence[StoredTensor], limit: int = 2) -> str:
    """Returns how many tensors there are and what their names look like."""
    some = ", ".join(shown(tensor.folder + tensor.name) for tensor in tensors[:limit])
    return f"{some}{' ...' if len(tensors) > limit else ''}"


def shown(name: str) -> str:
    """Returns a name out of a file as it can be printed."""
    short = name if len(name) <= 120 else f"{name[:117]}..."
    return short if short.isprintable() else ascii(short)[1:-1]


def _under(tensors: Sequence[StoredTensor], key: str) -> list[StoredTensor]:
    """Returns the tensors in the dictionary, or with the prefix, `key`, which is taken off."""
    start, found = f"{key.rstrip('.')}.", []
    for tensor, clean in zip(tensors, _cleaned(tensors), strict=True):
        if tensor.folder.startswith(start):
            found.append(dataclasses.replace(tensor, folder=tensor.folder.removeprefix(start)))
        elif (tensor.folder + tensor.name).startswith(start):
            rest = (tensor.folder + tensor.name).removeprefix(start)
            found.append(dataclasses.replace(tensor, folder="", name=rest))
        elif clean.startswith(start):
            found.append(dataclasses.replace(tensor, folder="", name=clean.removeprefix(start)))
    if not found:
        counts = collections.Counter(
            _bare(tensor.folder) if tensor.folder else tensor.name.partition(".")[0] for tensor in tensors
        )
        listed = ", ".join(f"{shown(name)} ({count})" for name, count in counts.most_common(8))
        raise AvsalError(f"it has no entry {key!r}; it has, with numbers of tensors, {listed}")
    return found


def _cleaned(tensors: Sequence[StoredTensor]) -> list[str]:
    """Returns full names without what torch's wrappers put into them, if they remain different."""
    names = [
        tensor.folder + ".".join(part for part in tensor.name.split(".") if part not in _WRAPPERS)
        for tensor in tensors
    ]
    if len(set(names)) == len(names):
        return names
    return [tensor.folder + tensor.name for tensor in tensors]


def _roots(names: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Returns what stands before a mark, without what lies inside another such place."""
    found = {
        name.removesuffix(mark)
        for name in names
        for mark in marks
        if name == mark or name.endswith(f".{mark}")
    }
    return sorted(root for root in found if not any(root.startswith(one) for one in found - {root}))


def _count(names: Sequence[str], root: str) -> int:
    return sum(name.startswith(root) for name in names)


def _bare(root: str) -> str:
    return root.rstrip(".")


def _found(chosen: dict[str, StoredTensor], key: str) -> list[str]:
    """Returns a line on where the tensors were found, if not at the top under their own names."""
    folders = {key + tensor.folder for tensor in chosen.values()} - {""}
    notes = [f"taken from {', '.join(shown(_bare(folder)) for folder in sorted(folders))}"] if folders else []
    prefixes = {
        tensor.name.removesuffix(name) if tensor.name.endswith(name) else None
        for name, tensor in chosen.items()
    }
    if prefixes == {""} or not chosen:
        return notes
    if len(prefixes) == 1 and None not in prefixes:
        return [*notes, f"prefix {shown(prefixes.pop())} removed from {len(chosen)} names"]
    changed = sum(tensor.name != name for name, tensor in chosen.items())
    return [*notes, f"module. and _orig_mod. removed from {changed} of {len(chosen)} names"]


def _left_out(names: Sequence[str]) -> list[str]:
    """Returns a line on entries that lie beside the tensors and are none."""
    if not names:
        return []
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [f"left out, since they are no tensors: {', '.join(map(shown, names[:4]))}{more}"]
