"""Says that a run lives, shows what it hangs in, and names another process of it that is gone."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from avsal_jax.runtime.durations import duration

_BEAT = 1.0  # seconds between signs of life
_QUIET = 60.0  # seconds without a line after which one says what goes on
_STILL = 5.0  # seconds without a sign of life after which a process whose number is free is gone
_GRACE = 1.5  # seconds that a run that lost a process has to end by itself
_LINGER = 6.0  # seconds that process 0, which jax needs, stays for the others to end before it
_GLANCE = 0.2  # seconds between looks at them
_AFTER = 10.0  # seconds that the witness of a dead process looks for the reason
_MOST_BYTES = 4096


class Watch:
    """A thread beside a run, and, where a run has several processes, a witness that outlives this one.

    Args:
      say: takes a line for the console.
      stall: seconds without progress after which the stacks of all threads are printed; once more after each
        such time.
      on_loss: called with what happened, some seconds after a process was found gone, if the run has not
        ended by itself.
    """

    def __init__(self, say: Callable[[str], None], stall: float, on_loss: Callable[[str], None]):
        self._say, self._stall, self._on_loss = say, stall, on_loss
        self._at, now = "starting", time.monotonic()
        self._moved = self._said = self._dumped = self._lost_at = now
        self._index, self._peers, self._witness = 0, None, None
        self._lost: str | None = None
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

    def join(self, folder, index: int, count: int, run: str, limit: float) -> None:
        """Begins to watch the other processes of a run.

        Args:
          folder: that all can write to; made if it is missing.
          index: of this process, from 0. count: of all.
          run: a word that is of this start of this run alone, the same in all of its processes.
          limit: seconds without a sign of life after which a process of another machine is mentioned.
        """
        folder = pathlib.Path(folder)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._index, self._peers = index, Peers(folder, index=index, count=count, run=run, limit=limit)
        if not self._peers.beat(self._at):
            self.say(f"warning: cannot write to {folder}, so the other processes cannot see this one")
        command = [sys.executable, "-P", "-m", __name__, str(folder), str(index), str(count), run]
        self._witness = subprocess.Popen(command, stdin=subprocess.PIPE)

    def lost(self, seconds: float) -> str | None:
        """Waits at most this long for a process to be found gone; returns what happened, or None.

        After that time one that is silent will do, on another machine too.
        """
        if self._peers is None:
            return None
        self._told.wait(seconds)
        return self._lost or self._peers.silent(time.monotonic())

    def close(self, words: str = "done") -> None:
        """Ends the thread; `words` say to the other processes why this one ends, where it is not `done`."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        if self._peers is not None:
            self._leave(words)

    def _leave(self, words: str) -> None:
        """Informs the other processes and the witness that this process ends on purpose.

        Process 0 waits some seconds, so that the others can read the reason: jax aborts them when process 0
        exits. It stops waiting when they have exited, because jax then aborts process 0 too.
        """
        self._peers.beat(self._at, words)
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            self._witness.communicate(b"closed", timeout=5)
        ends = time.monotonic() + _LINGER
        while words != "done" and self._index == 0 and ends > time.monotonic() and self._peers.alive():
            time.sleep(_GLANCE)

    def _run(self) -> None:
        while not self._closed.wait(_BEAT):
            now = time.monotonic()
            if self._peers is not None:
                self._peers.beat(self._at)
                self._look(now)
            if now - self._said > _QUIET and self._index == 0:
                self.say(f"alive: {self._at}, for {duration(now - self._moved)}")
            if now - max(self._moved, self._dumped) > self._stall:
                self._dumped = now
                self.say(f"nothing has moved for {duration(now - self._moved)} ({self._at}); the stacks are:")
                faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
            if self._lost is not None and now - self._lost_at > _GRACE:
                self._leave(self._lost)  # so that who cannot see the lost one hears of it
                self._on_loss(self._lost)

    def _look(self, now: float) -> None:
        gone, silent = self._peers.look(now)
        for line in silent:
            self.say(line)
        if gone is not None and self._lost is None:
            self._lost, self._lost_at = gone, now
            self.say(gone)
            self._told.set()


class Peers:
    """The signs of life of the processes of a run: a file each, written about once a second, in place.

    A rename would be seen late over a network. No clock is compared between machines. A process is gone when
    it said why it ended, or when its file stood still and, on the same machine, its number is nobody's. Of
    another machine a file that stands still is told, no more: it may be the file system. Files of other runs
    in the same folder count for nothing.

    Args:
      folder, index, count, run, limit: as of `Watch.join`.
    """

    def __init__(self, folder: pathlib.Path, index: int, count: int, run: str, limit: float):
        self._folder, self._index, self._count, self._limit = folder, index, count, limit
        self._run, self._machine = run, _machine()
        self._beats, now = 0, time.monotonic()
        self._seen = {i: {"at": now, "last": None, "named": False} for i in range(count) if i != index}

    def beat(self, at: str, ended: str = "") -> bool:
        """Writes this process's file; where that fails (a full disk), the others see it stand still."""
        self._beats += 1
        content = {
            "run": self._run,
            "host": socket.gethostname(),
            "machine": self._machine,
            "pid": os.getpid(),
        }
        content |= {"at": at[:100], "beats": self._beats, "ended": ended[:400]}
        with contextlib.suppress(OSError):
            handle = os.open(self._folder / f"{self._index}.json", os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                text = json.dumps(content).encode()
                os.write(handle, text.ljust(_MOST_BYTES))  # of one length: no rest of an older one stays
            finally:
                os.close(handle)
            return True
        return False

    def look(self, now: float) -> tuple[str | None, list[str]]:
        """Returns what happened to a process that is gone, or None; and lines on silent ones, once each."""
        said, gone, silent = None, None, []
        for index, peer in self._seen.items():
            found = self._read(index)
            if found is not None and found != peer["last"]:
                peer.update(at=now, last=found, named=False)
            found, still = peer["last"], now - peer["at"]
            if found is None or found["ended"] == "done":
                continue
            name = f"process {index + 1} of {self._count} ({found['host']}, pid {found['pid']})"
            if found["ended"]:
                said = said or f"{name} ended: {found['ended']}"
            elif still > _STILL and found["machine"] == self._machine and not _runs(found["pid"]):
                gone = gone or f"{name} is gone; it was at: {found['at']}"
            elif still > self._limit and not peer["named"]:
                peer["named"] = True
                silent.append(
                    f"{name} has shown no sign of life for {duration(still)}; it was at: {found['at']}"
                )
        return said or gone, silent

    def alive(self) -> bool:
        """Whether any other process lives: runs on this machine, or has shown itself in the last seconds."""
        now = time.monotonic()
        self.look(now)
        return any(peer["last"] is not None and self._lives(peer, now) for peer in self._seen.values())

    def _lives(self, peer: dict, now: float) -> bool:
        if peer["last"]["machine"] == self._machine:
            return _runs(peer["last"]["pid"])
        return now - peer["at"] < (_GRACE if peer["last"]["ended"] else _STILL)

    def silent(self, now: float) -> str | None:
        """Returns who has shown no sign of life for some seconds, wherever it is; None for nobody."""
        for index, peer in self._seen.items():
            if peer["last"] is not None and peer["last"]["ended"] != "done" and now - peer["at"] > _STILL:
                host, name = peer["last"]["host"], f"process {index + 1} of {self._count}"
                return f"{name} ({host}) shows no sign of life any more; it was at: {peer['last']['at']}"
        return None

    def _read(self, index: int) -> dict | None:
        try:
            with open(self._folder / f"{index}.json", "rb") as file:
                found = json.loads(file.read(_MOST_BYTES))
            kinds = {"host": str, "machine": str, "pid": int, "at": str, "beats": int, "ended": str}
            known = all(type(found[k]) is kind for k, kind in kinds.items())
            return found if known and found["run"] == self._run else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # being written, or not there yet


def _machine() -> str:
    """Names the space of process numbers that this process is in: a start of a machine, or a container."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _runs(pid: int) -> bool:
    """Whether a process of this machine lives; a dead one that its parent has not waited for does not."""
    try:
        os.kill(pid, 0)
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, IndexError):  # another user's, or no /proc
        return True


def witness(folder: str, index: str, count: str, run: str) -> None:
    """Waits for its parent to close the watch, or to die, and names the process that the parent died of.

    Where process 0 dies, jax aborts the others within milliseconds, and no handler of theirs is asked.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which asks the run to stop; then the parent dismisses it
    if sys.stdin.buffer.read():
        return
    peers, ends = (
        Peers(pathlib.Path(folder), index=int(index), count=int(count), run=run, limit=_STILL),
        time.monotonic() + _AFTER,
    )
    while time.monotonic() < ends:
        gone, silent = peers.look(time.monotonic())
        if gone and f"process {int(index) + 1} of {count} (" in gone:
            return  # it was its parent that was lost
        for line in [gone] if gone else silent:
            print(f"avsal: process {int(index) + 1} died; {line}", file=sys.stderr, flush=True)
        if gone:
            return
        time.sleep(_BEAT)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        witness(*sys.argv[1:])
