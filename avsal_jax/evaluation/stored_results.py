"""The part files of an evaluation: what was scored of one video, with a digest, so that damage is seen."""

from __future__ import annotations

import json
import pathlib

from avsal_jax.files import write_json
from avsal_jax.identity import digest


def part_path(output: pathlib.Path, key: str) -> pathlib.Path:
    """Returns the file of the part of a video (`Unit.key`)."""
    return output / "parts" / f"{key}.json"


def write_part(path: pathlib.Path, part: dict) -> None:
    """Writes a part, complete under its name or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**part, "digest": digest(part)})


def read_part_file(path: pathlib.Path) -> dict | None:
    """Returns the part that was written, or None where there is none, or one that is damaged."""
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
        stated = part.pop("digest")
        return part if stated == digest(part) else None
    except (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError):
        return None
