"""Short digests of everything that a result depends on.

A stored result is reused only if its digest matches.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib


def folder_identity(folder: pathlib.Path) -> str:
    """Returns the path of a folder, and the number and a digest (names, sizes and times) of its files."""
    folder = pathlib.Path(folder).resolve()
    if not folder.is_dir():
        return f"{folder}: missing"
    try:
        stats = sorted(
            (e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(folder) if e.is_file()
        )
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return f"{folder}: {len(stats)} files, {digest(stats)}"


def tree_identity(path: pathlib.Path) -> str:
    """Returns the identity of a file, or of a folder and all folders in it."""
    if path.is_file():
        stat = path.stat()
        return f"{path.resolve()}: {stat.st_size} bytes, {stat.st_mtime_ns}"
    return digest([folder_identity(pathlib.Path(folder)) for folder, _, _ in sorted(os.walk(path))])


def model_identity(card: dict) -> str:
    """Returns the digest of a model: its network, its input and the hash of its weights."""
    weights = (card.get("weights") or {}).get("sha256")
    if "slots" in card:  # a model of format 1, whose digest must not change
        return digest([card.get("system"), card["slots"], card.get("input"), weights])
    return digest([card.get("model"), weights])


def digest(content) -> str:
    """Returns the first 16 hexadecimal digits of the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
