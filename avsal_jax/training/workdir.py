"""Workdirs: each belongs to one config, and only one run may use it at a time."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib

from avsal_jax.errors import AvsalError
from avsal_jax.files import write_json
from avsal_jax.training.earlier_configs import (
    is_earlier,
    numbered,
    todays_values,
    with_chosen_fields,
    with_objective,
)
from avsal_jax.training.schema import build_config, plain_values

_MAX_CONFIG_BYTES = 1_000_000


class Workdir:
    """A workdir, locked for a run until `release` or the end of the process.

    Without a checkpoint, the config may still change, and `config.json` is overwritten.

    Args:
      path: created if it is missing.
      settings: the config as plain JSON values.
      writes: whether this process writes. Of several processes only the first does, and it holds the lock.

    Raises:
      AvsalError: another run uses the workdir, its checkpoints are of a different config (lists the
        differences), or it cannot be written.
    """

    def __init__(self, path, settings: dict, writes: bool):
        self.path = pathlib.Path(path)
        self._handle: int | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if writes:
                self._lock()
            config = self.path / "config.json"
            has_checkpoints = any(entry.name.isdecimal() for entry in self.path.glob("checkpoints/*"))
            if has_checkpoints and config.exists():
                self._check(config, settings)
            elif writes:
                write_json(config, settings)
        except OSError as error:
            self.release()
            raise AvsalError(f"cannot write to the workdir {self.path}: {error.strerror}") from error
        except AvsalError:
            self.release()
            raise

    def release(self) -> None:
        """Releases the lock. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> Workdir:
        return self

    def __exit__(self, *error) -> None:
        self.release()

    def __del__(self):
        self.release()

    def _lock(self) -> None:
        self._handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AvsalError(
                f"another run is using the workdir {self.path}; wait for its end, or name another --workdir"
            ) from error
        except OSError:  # the file system does not support locks
            self.release()

    def _check(self, path: pathlib.Path, settings: dict) -> None:
        try:
            if path.stat().st_size > _MAX_CONFIG_BYTES:
                raise ValueError("it is too large")
            stored = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError(f"it holds a {type(stored).__name__}")
        except (ValueError, RecursionError) as error:
            raise AvsalError(f"{path} is not a config: {error}; name another --workdir") from error
        if is_earlier(stored):
            stored = json.loads(json.dumps(_current_values(stored, path)))
            settings = settings | {"init": numbered(settings["init"].values())}
        if "objective" not in stored:
            stored = with_chosen_fields(with_objective(stored))
        # the paths of plugins are not compared; what they register is
        stored, settings = ({**values, "plugins": []} for values in (_completed(stored), settings))
        if different := _differences(stored, settings):
            rest = f"; and {len(different) - 6} more" if len(different) > 6 else ""
            raise AvsalError(
                f"{self.path} belongs to another config: {'; '.join(different[:6])}{rest}; name another "
                f"--workdir (with --config.resume={self.path} --config.init=none the new run starts from its "
                "last checkpoint)"
            )


def _completed(values: dict) -> dict:
    """Returns a stored config with fields of later versions, whose defaults keep its behaviour.

    A config that is no longer valid is returned unchanged, and so differs from every config.
    """
    try:
        return json.loads(json.dumps(plain_values(build_config(values))))
    except AvsalError:
        return values


def _current_values(values: dict, path: pathlib.Path) -> dict:
    try:
        return todays_values(values)
    except AvsalError as error:
        raise AvsalError(f"{path} is not a config: {error}; name another --workdir") from error


def _differences(stored, current, path: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(current, dict):
        keys = sorted({*stored, *current})
        return [
            d for k in keys for d in _differences(stored.get(k), current.get(k), f"{path}.{k}" if path else k)
        ]
    return [] if stored == current else [f"{path} was {stored!r}, is {current!r}"]
