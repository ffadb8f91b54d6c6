"""The folder of maps to submit for a split whose truth is not published."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

from PIL import Image

from avsal_jax.data.truth.grey_maps import to_8_bit
from avsal_jax.errors import AvsalError, error_line
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.evaluation.units import Unit
from avsal_jax.files import complete_folder


def write_submission(
    units: Sequence[Unit],
    protocol: Protocol,
    output: pathlib.Path,
    say: Callable[[str], None],
    progress: Callable,
) -> dict:
    """Writes `<video>/<frame name>.png`; the folder of each video is written atomically.

    Videos whose folder exists already are skipped.
    """
    say("the truth of this split is not published: maps are written for submission, and no metrics")
    failed = []
    for unit in progress(units):
        folder = output / unit.key
        if folder.is_dir():
            say(f"{unit.key} exists already; remove {folder} to write it again")
            continue
        try:
            _write_video(unit, protocol, folder)
        except OSError as error:
            raise AvsalError(f"cannot write to {output}: {error.strerror}") from error
        except Exception as error:
            failed.append(f"{unit.entry.name}: {error_line(error)}")
            say(f"failed: {failed[-1]}")
    return {"videos": len(units) - len(failed), "submission": str(output), "failed": failed}


def _write_video(unit: Unit, protocol: Protocol, folder: pathlib.Path) -> None:
    if not unit.entry.frames:
        raise AvsalError("it has no frames")
    with complete_folder(folder) as partial:
        for index, stored in enumerate(unit.source.maps(unit.entry, protocol)):
            if stored is None:
                raise AvsalError(f"frame {index + 1} has no prediction")
            name = pathlib.PurePath(unit.entry.frame_name(index)).stem
            Image.fromarray(to_8_bit(stored)).save(partial / f"{name}.png")
