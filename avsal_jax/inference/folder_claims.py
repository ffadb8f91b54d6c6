"""Ownership of hidden folders with unfinished results, also on a disk that several machines share.

A run records its host's name in a file of the folder, locks that file, and touches it every minute. On the
same host, the lock shows whether the run is alive; on other hosts, the time of the last touch does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import threading
import time

OWNER = ".owner.json"  # in the folder
HEARTBEAT_SECONDS = 60
ABANDONED_SECONDS = 3_600  # without a heartbeat of another host, or in a folder without an owner


class FolderClaim:
    """A run's claim to a folder, which keeps other runs from removing it or continuing in it.

    Raises:
      OSError: the record cannot be written.
    """

    def __init__(self, file):
        self._file = file
        file.seek(0)
        file.truncate()
        json.dump({"host": socket.gethostname()}, file)
        file.flush()
        self._is_released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @classmethod
    def of_new(cls, folder: pathlib.Path) -> FolderClaim:
        """Claims a folder that this run has just made."""
        file = (folder / OWNER).open("x+", encoding="utf-8")
        with contextlib.suppress(OSError):  # without locks on this disk, only the heartbeat is used
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(file)

    @classmethod
    def of_abandoned(cls, folder: pathlib.Path) -> FolderClaim | None:
        """Claims a folder that a run has abandoned; returns None if that run may be alive."""
        try:
            file = (folder / OWNER).open("r+", encoding="utf-8")
        except FileNotFoundError:
            return cls._of_unowned(folder)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a disk without locks
            is_abandoned = _is_old(folder / OWNER)
        else:
            is_abandoned = _host(file) == socket.gethostname() or _is_old(folder / OWNER)
        if is_abandoned:
            return cls(file)
        file.close()
        return None

    @classmethod
    def _of_unowned(cls, folder: pathlib.Path) -> FolderClaim | None:
        """Claims a folder of an earlier version, or of a run that was killed before it wrote its record."""
        with contextlib.suppress(OSError):
            if _is_old(folder):
                return cls.of_new(folder)
        return None

    def _beat(self) -> None:
        while not self._is_released.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self._file.fileno())

    def release(self) -> None:
        """Lets other runs continue in the folder, or remove it. Idempotent."""
        if self._is_released.is_set():
            return
        self._is_released.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            os.utime(self._file.fileno(), (0, 0))
        self._file.close()


def _host(file) -> str | None:
    try:
        record = json.load(file)
    except ValueError:  # the record is truncated
        return None
    return record.get("host") if isinstance(record, dict) else None


def _is_old(path: pathlib.Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_SECONDS
    except OSError:  # it has just been moved or removed
        return False
