"""metrics.jsonl: one JSON object per line; every step appears once, also in a resumed run."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.files import write_bytes

_MAX_VALUE = 1e100  # larger values cannot be plotted


class MetricsLog:
    """Appends records to metrics.jsonl; a record is on the disk when `write` returns.

    A record has `step` and numbers by name: `loss` (and its terms, such as `loss/kl`), `lr`, `waiting` (the
    share of time spent waiting for data, 0 to 1), `steps_per_second`, and validation metrics (`val/cc`). A
    step may have several records. Write the records of a step before its checkpoint is saved; otherwise a
    resumed run has a gap. Only one process of a run may write.

    Args:
      path: the file; its folder must exist.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._file = None

    def resume(self, step: int) -> list[dict]:
        """Discards the records after `step` and lines cut off by a crash; call it before the first `write`.

        Args:
          step: of the restored checkpoint; -1 for a new run, which discards all records.

        Returns:
          The remaining records.

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
            with contextlib.suppress(OSError):  # `write` flushed every record and raised any error
                file.close()

    def _failed(self, error: OSError) -> AvsalError:
        return AvsalError(f"cannot write {self.path}: {error.strerror}; make room or choose another workdir")


def read_metrics(path) -> list[dict]:
    """Returns the records of a metrics.jsonl in order.

    Lines that are cut off, damaged or not records are skipped. A missing file has no records. null becomes
    NaN.

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
    """Whether a line of JSON has the form that `write` writes; huge numbers count as damage."""
    if not isinstance(content, dict) or type(content.get("step")) is not int:
        return False
    numbers = [value for value in content.values() if not isinstance(value, str | None)]
    if not all(isinstance(value, int | float) and abs(value) <= _MAX_VALUE for value in numbers):
        return False
    return 0 <= content["step"] < 2**63


def _line(record: dict) -> str:
    return json.dumps({name: _plain(value) for name, value in record.items()}, allow_nan=False) + "\n"


def _plain(value):
    """Converts NumPy and device scalars to Python numbers, and NaN, which JSON lacks, to None."""
    if not isinstance(value, str | bool | int | None):
        value = np.asarray(value).item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
