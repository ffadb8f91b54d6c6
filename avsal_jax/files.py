"""Writes files and folders atomically."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def complete_file(path: pathlib.Path, shared: bool = True) -> Iterator[pathlib.Path]:
    """Yields a temporary name next to `path`, and renames its file to `path` if the block succeeds.

    Args:
      path: the file to write; replaced if it exists.
      shared: whether several processes may write it at the same time. Otherwise the temporary name is always
        the same, so that a rerun overwrites what an interrupted call left.

    Raises:
      OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    if shared:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        partial = pathlib.Path(name)
    try:
        yield partial
        if shared:
            partial.chmod(0o644)  # mkstemp makes it 0600
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it."""
    with complete_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: pathlib.Path, content: str) -> None:
    """Writes a text file in UTF-8, as `write_bytes` does."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: pathlib.Path, content: dict) -> None:
    """Writes JSON; numbers keep every digit."""
    write_text(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def complete_folder(path: pathlib.Path, replace: bool = False) -> Iterator[pathlib.Path]:
    """Yields an empty temporary folder next to `path`, and renames it to `path` if the block succeeds.

    Args:
      path: the folder to write; absent or empty, unless `replace`.
      replace: whether to replace an existing folder. If so, no other process may write to it, because
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
