"""Says that a run lives, shows what it hangs in, and names another process of it that is gone."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pathlib
import socket
import sys
import threading
import time
from collections.abc import Callable

from avsal_jax.training.progress import duration

_BEAT = 1.0  # seconds between signs of life
_QUIET = 60.0  # seconds without a line after which one says what goes on
_STILL = 5.0  # seconds without a sign of life after which a process whose number is free is gone
_GRACE = 10.0  # seconds that a lost run has to end by itself
_MOST_BYTES = 4096


class Watch:
    """A thread beside a run.

    Each process writes `PROCESS.json` about once a second, in place: a rename would be seen late over a
    network. No clock is compared between machines. A process is gone when it said why it ended, or when its
    file stood still and, on the same machine, its number is nobody's. Of another machine a file that stands
    still is told, no more: it may be the file system.

    Args:
      say: takes a line for the console.
      stall: seconds without progress after which the stacks of all threads are printed; once more after each
        such time.
      on_loss: called once with what happened, some seconds after a process was found gone, if the run has
        not ended by itself.
    """

    def __init__(self, say: Callable[[str], None], stall: float, on_loss: Callable[[str], None]):
        self._say, self._stall, self._on_loss = say, stall, on_loss
        self._at, now = "starting", time.monotonic()
        self._moved = self._said = self._dumped = now
        self._folder: pathlib.Path | None = None
        self._index, self._peers, self._beats = 0, {}, 0
        self._lost: str | None = None
        self._lost_at = now
        self._closed, self._told = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Passes a line on, and takes note that there was one."""
        self._said = time.monotonic()
        self._say(f"process {self._index + 1}: {line}" if self._index else line)

    def moved(self, at: str) -> None:
        """Takes note of progress; `at` says what goes on from here, as `step 12 of 400`."""
        self._at, self._moved = at, time.monotonic()

    def join(self, folder, index: int, count: int, meet: Callable[[], None], limit: float) -> None:
        """Begins to watch the other processes of a run.

        Args:
          folder: that all can write to; made if it is missing.
          index: of this process, from 0. count: of all.
          meet: returns when all processes have called it: what is in `folder` is then of this run.
          limit: seconds without a sign of life after which a process of another machine is mentioned.
        """
        self._folder, self._index = pathlib.Path(folder), index
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._beat("")
        meet()
        now = time.monotonic()
        self._limit = limit
        self._peers = {i: {"at": now, "last": None, "named": False} for i in range(count) if i != index}

    def lost(self, seconds: float) -> str | None:
        """Waits at most this long for a process to be found gone; returns what happened, or None."""
        self._told.wait(seconds)
        return self._lost

    def close(self, words: str = "done") -> None:
        """Ends the thread; `words` say to the other processes why this one ends, where it is not `done`."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self._beat(words)

    def _run(self) -> None:
        while not self._closed.wait(_BEAT):
            now = time.monotonic()
            if self._folder is not None:
                self._beat("")
                self._look(now)
            if now - self._said > _QUIET and self._index == 0:
                self.say(f"alive: {self._at}, for {duration(now - self._moved)}")
            if now - max(self._moved, self._dumped) > self._stall:
                self._dumped = now
                self.say(f"nothing has moved for {duration(now - self._moved)} ({self._at}); the stacks are:")
                faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
            if self._lost is not None and now - self._lost_at > _GRACE:
                self._on_loss(self._lost)

    def _beat(self, ended: str) -> None:
        """Writes this process's file; where that fails (a full disk), the others see it stand still."""
        if self._folder is None:
            return
        self._beats += 1
        content = {"host": socket.gethostname(), "pid": os.getpid(), "at": self._at[:100]}
        content |= {"beats": self._beats, "ended": ended[:400]}
        with contextlib.suppress(OSError):
            handle = os.open(self._folder / f"{self._index}.json", os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                text = json.dumps(content).encode()
                os.write(
                    handle, text.ljust(_MOST_BYTES)
                )  # of one length, so that no rest of an older one stays
            finally:
                os.close(handle)

    def _look(self, now: float) -> None:
        for index, peer in self._peers.items():
            found = self._read(index)
            if found is not None and found != peer["last"]:
                peer.update(at=now, last=found, named=False)
            found = peer["last"]
            if found is None or found["ended"] == "done" or self._lost is not None:
                continue
            name = f"process {index + 1} of {len(self._peers) + 1} ({found['host']}, pid {found['pid']})"
            still = now - peer["at"]
            if found["ended"]:
                self._lose(f"{name} ended: {found['ended']}", now)
            elif still > _STILL and found["host"] == socket.gethostname() and not _runs(found["pid"]):
                self._lose(f"{name} is gone; it was at: {found['at']}", now)
            elif still > self._limit and not peer["named"]:
                peer["named"] = True
                self.say(f"{name} has shown no sign of life for {duration(still)}; it was at: {found['at']}")

    def _lose(self, words: str, now: float) -> None:
        self._lost, self._lost_at = words, now
        self.say(words)
        self._told.set()

    def _read(self, index: int) -> dict | None:
        try:
            with open(self._folder / f"{index}.json", "rb") as file:
                found = json.loads(file.read(_MOST_BYTES))
            kinds = {"host": str, "pid": int, "at": str, "beats": int, "ended": str}
            return found if all(type(found[k]) is kind for k, kind in kinds.items()) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # being written, or not there yet


def _runs(pid: int) -> bool:
    """Whether a process of this machine lives; a dead one that its parent has not waited for does not."""
    try:
        os.kill(pid, 0)
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, IndexError):  # another user's, or no /proc
        return True
