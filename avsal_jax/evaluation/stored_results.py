"""Part files of an evaluation: the scores of one video, with a digest that detects damage."""

from __future__ import annotations

import json
import pathlib

from avsal_jax.files import write_json
from avsal_jax.identity import digest


def part_path(output: pathlib.Path, key: str) -> pathlib.Path:
    """Returns the file of the part of a video (`Unit.key`)."""
    return output / "parts" / f"{key}.json"


def write_part(path: pathlib.Path, part: dict) -> None:
    """Writes a part file atomically; creates the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**part, "digest": digest(part)})


def read_part_file(path: pathlib.Path) -> dict | None:
    """Returns the stored part; None if the file is missing or damaged."""
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
        stored_digest = part.pop("digest")
        return part if stored_digest == digest(part) else None
    except (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError):
        return None
