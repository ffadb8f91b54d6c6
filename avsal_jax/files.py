"""Writing files and folders: complete under their names, or not there."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise


def write_text(path: pathlib.Path, content: str) -> None:
    """Writes a text file in UTF-8, as `write_bytes` does."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: pathlib.Path, content: dict) -> None:
    """Writes JSON; numbers keep every digit."""
    write_text(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def complete_folder(path: pathlib.Path, replace: bool = False) -> Iterator[pathlib.Path]:
    """Gives an empty folder next to `path`, which gets this name if the block ends without an error.

    Args:
      path: the folder to write; absent or empty, unless `replace`.
      replace: whether a folder of this name is removed first. Then no other process may write it, since
        leftovers of interrupted calls are removed too.

    Raises:
      OSError: the folder cannot be written.
    """
    if replace:
        for leftover in path.parent.glob(f".{path.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if replace:
            shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
