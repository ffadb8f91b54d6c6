"""Selects the tensors of a system in a file with nested dictionaries and prefixed names."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from avsal_jax.errors import AvsalError

# Parts that torch adds to names: DataParallel (`module`), torch.compile (`_orig_mod`).
_WRAPPERS = {"module", "_orig_mod"}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, which is read by `np.asarray`.

    Attributes:
      folder: path of the nested dictionaries that contain it, such as `state_dict.`; empty at the top level.
      name: its name in the dictionary.
      shape: of its values.
      dtype: name of the dtype, as in the file.
      load: returns the values; AvsalError for a tensor without values.
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
    """All entries of a file.

    Attributes:
      tensors: in the order of the file.
      non_tensors: (folder, name) of all other entries.
    """

    tensors: tuple[StoredTensor, ...]
    non_tensors: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The tensors of a system.

    Attributes:
      tensors: the system's own name -> tensor.
      notes: lines on the origin of the tensors, and on omitted entries.
    """

    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...] = ()


def choose(content: Content, marks: Sequence[str], key: str | None = None) -> Checkpoint:
    """Returns the tensors of a system, with dictionaries and prefixes removed from their names.

    A name that ends in one of `marks` locates the system. The part of the name before the mark is the root,
    which is removed if all names in the same dictionary start with it. Without such a name, all tensors are
    returned.

    Args:
      content: the entries of the file.
      marks: names; every checkpoint of the system has one of them. Empty to return all tensors.
      key: the dictionary, or prefix, to search.

    Raises:
      AvsalError: several roots match, no entry has the name `key`, or only some names in the dictionary
        start with the root.
    """
    tensors = _under(content.tensors, key) if key else content.tensors
    names = _cleaned(tensors)
    roots = _roots(names, marks)
    if len(roots) > 1:
        listing = ", ".join(f"{_bare(root)} ({_count(names, root)} tensors)" for root in roots)
        raise AvsalError(f"several of its entries match: {listing}; select one with --key NAME")
    if roots:
        root = roots[0]
    else:
        folders = sorted({tensor.folder for tensor in tensors})
        root = folders[0] if len(folders) == 1 else ""
    inside = {name: tensor for name, tensor in zip(names, tensors, strict=True) if name.startswith(root)}
    if len(inside) < _count(names, root):
        raise AvsalError("two of its tensors have the same full name (entry and tensor name joined)")
    folders = {tensor.folder for tensor in inside.values()}
    surplus = [t for t in tensors if t.folder in folders and id(t) not in set(map(id, inside.values()))]
    if surplus and not key:
        raise AvsalError(
            f"{len(inside)} names begin with {_bare(root)}., and {len(surplus)} in the same entry do not "
            f"({describe(surplus)}); --key {_bare(root)} selects only those {len(inside)}"
        )
    selection = {name.removeprefix(root): tensor for name, tensor in inside.items()}
    start = f"{key.rstrip('.')}." if key else ""
    full = {start + folder for folder in folders}
    omissions = [name for folder, name in content.non_tensors if folder in full]
    return Checkpoint(selection, (*_origin_notes(selection, start), *_omission_notes(omissions)))


def describe(tensors: Sequence[StoredTensor], limit: int = 2) -> str:
    """Returns the first names of tensors, for messages."""
    examples = ", ".join(printable(tensor.folder + tensor.name) for tensor in tensors[:limit])
    return f"{examples}{' ...' if len(tensors) > limit else ''}"


def printable(name: str) -> str:
    """Returns a name from a file, shortened and escaped for printing."""
    short = name if len(name) <= 120 else f"{name[:117]}..."
    return short if short.isprintable() else ascii(short)[1:-1]


def _under(tensors: Sequence[StoredTensor], key: str) -> list[StoredTensor]:
    """Returns the tensors in the dictionary, or with the prefix, `key`, which is removed."""
    start, matches = f"{key.rstrip('.')}.", []
    for tensor, clean in zip(tensors, _cleaned(tensors), strict=True):
        if tensor.folder.startswith(start):
            matches.append(dataclasses.replace(tensor, folder=tensor.folder.removeprefix(start)))
        elif (tensor.folder + tensor.name).startswith(start):
            rest = (tensor.folder + tensor.name).removeprefix(start)
            matches.append(dataclasses.replace(tensor, folder="", name=rest))
        elif clean.startswith(start):
            matches.append(dataclasses.replace(tensor, folder="", name=clean.removeprefix(start)))
    if not matches:
        counts = collections.Counter(
            _bare(tensor.folder) if tensor.folder else tensor.name.partition(".")[0] for tensor in tensors
        )
        listing = ", ".join(f"{printable(name)} ({count})" for name, count in counts.most_common(8))
        raise AvsalError(f"it has no entry {key!r}; its entries, with numbers of tensors, are {listing}")
    return matches


def _cleaned(tensors: Sequence[StoredTensor]) -> list[str]:
    """Returns full names without the parts added by torch's wrappers, if names remain unique."""
    names = [
        tensor.folder + ".".join(part for part in tensor.name.split(".") if part not in _WRAPPERS)
        for tensor in tensors
    ]
    if len(set(names)) == len(names):
        return names
    return [tensor.folder + tensor.name for tensor in tensors]


def _roots(names: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Returns the roots: the parts of names before a mark, without roots that are nested in another root."""
    prefixes = {
        name.removesuffix(mark)
        for name in names
        for mark in marks
        if name == mark or name.endswith(f".{mark}")
    }
    return sorted(
        root for root in prefixes if not any(root.startswith(prefix) for prefix in prefixes - {root})
    )


def _count(names: Sequence[str], root: str) -> int:
    return sum(name.startswith(root) for name in names)


def _bare(root: str) -> str:
    return root.rstrip(".")


def _origin_notes(selection: dict[str, StoredTensor], key: str) -> list[str]:
    """Returns notes on removed dictionaries and prefixes."""
    folders = {key + tensor.folder for tensor in selection.values()} - {""}
    notes = (
        [f"read from {', '.join(printable(_bare(folder)) for folder in sorted(folders))}"] if folders else []
    )
    prefixes = {
        tensor.name.removesuffix(name) if tensor.name.endswith(name) else None
        for name, tensor in selection.items()
    }
    if prefixes == {""} or not selection:
        return notes
    if len(prefixes) == 1 and None not in prefixes:
        return [*notes, f"prefix {printable(prefixes.pop())} removed from {len(selection)} names"]
    changed = sum(tensor.name != name for name, tensor in selection.items())
    return [*notes, f"module. and _orig_mod. removed from {changed} of {len(selection)} names"]


def _omission_notes(names: Sequence[str]) -> list[str]:
    """Returns a note on entries next to the tensors that are not tensors."""
    if not names:
        return []
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [f"ignored, since they are not tensors: {', '.join(map(printable, names[:4]))}{rest}"]
