"""metrics.jsonl: one JSON object a line; what a resumed run writes anew appears once."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.files import write_bytes

_LARGEST = 1e100  # a plot of more has no axis


class MetricsLog:
    """Appends records to metrics.jsonl; each is on the disk when `write` returns.

    A record has `step` and numbers by name: `loss` (and its terms `loss/kl`...), `lr`, `waiting` (the
    share of time spent waiting for data, 0 to 1), `steps_per_second`, and validation metrics as `val/cc`.
    A step may have several records. For a resumed run without a gap, write the records of a step before
    its checkpoint is saved. With several processes one of them writes.

    Args:
      path: the file; its folder must exist.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._file = None

    def resume(self, step: int) -> list[dict]:
        """Drops the records after `step`, and lines that a crash cut; call it before the first `write`.

        Args:
          step: that of the restored checkpoint; -1 for a run that begins, which drops all.

        Returns:
          The records that stay.

        Raises:
          AvsalError: the file cannot be read or written.
        """
        self.close()
        records = [record for record in read_metrics(self.path) if record["step"] <= step]
        try:
            write_bytes(self.path, "".join(map(_line, records)).encode())
        except OSError as error:
            raise self._failed(error) from error
        return records

    def write(self, step: int, values: dict) -> None:
        """Appends a record; a number that is not finite becomes null.

        Raises:
          AvsalError: the file cannot be written.
        """
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            self._file.write(_line({"step": int(step), **values}).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what `write` told already: every record was flushed there
                file.close()

    def _failed(self, error: OSError) -> AvsalError:
        return AvsalError(f"cannot write {self.path}: {error.strerror}; make room or choose another workdir")


def read_metrics(path) -> list[dict]:
    """Returns the records of a metrics.jsonl in order.

    Lines that are cut, damaged or no records are left out. A missing file has none; null is NaN.

    Raises:
      AvsalError: the file cannot be read.
    """
    try:
        lines = pathlib.Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_record(record):
            records.append({k: math.nan if v is None else v for k, v in record.items()})
    return records


def _is_record(content) -> bool:
    """Whether a line of JSON is one that `write` wrote; numbers beyond any that a run has are damage."""
    if not isinstance(content, dict) or type(content.get("step")) is not int:
        return False
    numbers = [value for value in content.values() if not isinstance(value, str | None)]
    if not all(isinstance(value, int | float) and abs(value) <= _LARGEST for value in numbers):
        return False
    return 0 <= content["step"] < 2**63


def _line(record: dict) -> str:
    return json.dumps({name: _plain(value) for name, value in record.items()}, allow_nan=False) + "\n"


def _plain(value):
    """NumPy and device scalars as Python's; JSON knows no NaN."""
    if not isinstance(value, str | bool | int | None):
        value = np.asarray(value).item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
