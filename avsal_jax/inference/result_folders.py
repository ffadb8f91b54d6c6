"""The output folder of a prediction: checks its owner, and writes results atomically."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import av

from avsal_jax.errors import AvsalError
from avsal_jax.inference.folder_claims import OWNER, FolderClaim
from avsal_jax.inference.output import written_names

SUMMARY = "summary.json"
_PARTIAL, _RESUMABLE = ".avsal-partial-", ".avsal-stills-"


def previous_summary(output: pathlib.Path) -> dict | None:
    """Returns the summary of an earlier prediction in a folder, or None.

    Raises:
      AvsalError: the folder holds a model, or has files with names of results but no summary of a prediction.
    """
    if (output / "model.json").exists():
        raise AvsalError(f"{output} is a model directory; choose another output")
    summary = _summary(output)
    if summary is not None:
        return summary
    conflicts = [name for name in (*written_names(), SUMMARY) if (output / name).exists()]
    if conflicts:
        raise AvsalError(f"{output / conflicts[0]} was not written by avsal; choose another output")
    return None


def _summary(output: pathlib.Path) -> dict | None:
    try:
        summary = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return summary if isinstance(summary, dict) and isinstance(summary.get("job"), dict) else None


def write_summary(folder: pathlib.Path, summary: dict) -> None:
    """Writes `summary.json`, the last file of a prediction; adds `files`, the names of the other files."""
    summary["files"] = sorted(path.name for path in folder.iterdir() if path.name != OWNER)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def complete_or_nothing(
    output: pathlib.Path, key: str = "", log: str | None = None
) -> Iterator[pathlib.Path]:
    """Yields a hidden folder in `output`; on success moves its content to `output`, else removes it.

    Files of an earlier prediction are then removed, so that a folder has the results of one prediction.
    Hidden folders of other runs are removed if the run was killed, not if it may be alive (`folder_claims`).

    Args:
      key: identifies the work of a prediction that can be resumed.
      log: the name of a file in the folder. A folder with this file is kept after an error, and is yielded to
        the next prediction with the same `key`.
    """
    created = _missing_folders(output)
    folder, claim = None, None
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder, claim = _clear_abandoned(output, key)
        if claim is None:
            folder = pathlib.Path(tempfile.mkdtemp(prefix=_prefix(key), dir=output))
            claim = FolderClaim.of_new(folder)
        yield folder
        (folder / OWNER).unlink(missing_ok=True)
        _replace(folder, output)
    except BaseException as error:
        if folder is not None and not (log and (folder / log).exists()):
            shutil.rmtree(folder, ignore_errors=True)
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError | av.error.FFmpegError):
            raise AvsalError(f"cannot write to {output}: {error.strerror or error}") from error
        raise
    finally:
        if claim is not None:
            claim.release()


def _prefix(key: str) -> str:
    return f"{_RESUMABLE}{key}-" if key else _PARTIAL


def _replace(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Moves the content of `folder` into `output`; if that fails, restores the previous files."""
    before = pathlib.Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=output))
    moved: list[tuple[pathlib.Path, pathlib.Path]] = []

    def move(source: pathlib.Path, target: pathlib.Path) -> None:
        os.replace(source, target)
        moved.append((source, target))

    try:
        for name in _earlier_names(output):  # kept until all files are in place
            if (output / name).exists():
                move(output / name, before / name)
        for path in sorted(folder.iterdir(), key=lambda p: p.name == SUMMARY):
            move(path, output / path.name)
    except BaseException:
        for source, target in reversed(moved):
            with contextlib.suppress(OSError):
                os.replace(target, source)
        raise
    finally:
        shutil.rmtree(before, ignore_errors=True)
    folder.rmdir()


def _earlier_names(output: pathlib.Path) -> list[str]:
    """Returns the names of files of an earlier prediction, including those of a plugin's outputs."""
    recorded = (_summary(output) or {}).get("files")
    names = [name for name in recorded if isinstance(name, str)] if isinstance(recorded, list) else []
    plain = [name for name in names if pathlib.PurePath(name).name == name and name.strip(".")]
    return list(dict.fromkeys([SUMMARY, *written_names(), *plain]))


def _clear_abandoned(output: pathlib.Path, key: str) -> tuple[pathlib.Path, FolderClaim] | tuple[None, None]:
    """Removes the hidden folders of runs that were killed.

    Returns:
      One of them that belongs to `key`, with its claim; or (None, None).
    """
    resumed, resumed_claim = None, None
    for stale in [*output.glob(f"{_PARTIAL}*"), *output.glob(f"{_RESUMABLE}*")]:
        claim = FolderClaim.of_abandoned(stale)
        if claim is None:
            continue
        if key and resumed is None and stale.name.startswith(_prefix(key)):
            resumed, resumed_claim = stale, claim
        else:
            shutil.rmtree(stale, ignore_errors=True)
            claim.release()
    return resumed, resumed_claim


def _missing_folders(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the missing folders of `path`, innermost first."""
    missing = []
    while not path.exists() and path != path.parent:
        missing.append(path)
        path = path.parent
    return missing
