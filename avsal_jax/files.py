"""Writing files: complete under their names, or not there."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile


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
