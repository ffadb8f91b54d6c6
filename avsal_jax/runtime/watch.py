"""Monitors a run: logs that it is alive, prints the stacks if it stalls, and names processes that died."""

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

_HEARTBEAT_SECONDS = 1.0  # between heartbeats
_ALIVE_LINE_SECONDS = 60.0  # without output, after which a line reports what the run is doing
_HEARTBEAT_TIMEOUT_SECONDS = 5.0  # without a heartbeat, after which a process may have died
_EXIT_TIMEOUT_SECONDS = 1.5  # for the run to exit by itself after another process died
_PROCESS_0_WAIT_SECONDS = 6.0  # for process 0, which jax needs, to wait until the other processes exit
_POLL_SECONDS = 0.2  # between checks whether they have exited
_WITNESS_SECONDS = 10.0  # for the witness of a dead process to look for the reason
_FILE_BYTES = 4096


class Watch:
    """A thread that monitors a run; with several processes, also a child process that outlives this one.

    The thread logs a line during long silences, and prints the stacks of all threads if the run makes no
    progress. With several processes it also writes heartbeats and checks those of the other processes. The
    child process, the witness, reports why this process died.

    Args:
      say: prints a line on the console.
      stall: seconds without progress after which the stacks of all threads are printed. They are printed
        again each time this interval passes.
      on_loss: called with a message if another process died and the run has not exited by itself within
        some seconds.
    """

    def __init__(self, say: Callable[[str], None], stall: float, on_loss: Callable[[str], None]):
        self._say, self._stall, self._on_loss = say, stall, on_loss
        self._activity, now = "starting", time.monotonic()
        self._progress_at = self._output_at = self._stacks_at = self._loss_at = now
        self._index, self._peers, self._witness = 0, None, None
        self._loss: str | None = None
        self._closed, self._loss_event = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Prints a line and records the time of this output."""
        self._output_at = time.monotonic()
        self._say(f"process {self._index}: {line}" if self._index else line)

    def record_progress(self, activity: str) -> None:
        """Records that the run made progress, and what it does next, such as `step 12 of 400`."""
        self._activity, self._progress_at = activity, time.monotonic()

    def join(self, folder, index: int, count: int, run: str, limit: float) -> None:
        """Starts to monitor the other processes of a run.

        Args:
          folder: where all processes write their heartbeats; created if it is missing.
          index: of this process, from 0.
          count: number of processes.
          run: an identifier of this start of the run, the same in all of its processes.
          limit: seconds without a heartbeat after which a process on another machine is reported.
        """
        folder = pathlib.Path(folder)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._index, self._peers = index, Peers(folder, index=index, count=count, run=run, limit=limit)
        if not self._peers.beat(self._activity):
            self.say(f"warning: cannot write to {folder}; the other processes cannot monitor this process")
        command = [sys.executable, "-P", "-m", __name__, str(folder), str(index), str(count), run]
        self._witness = subprocess.Popen(command, stdin=subprocess.PIPE)

    def wait_for_loss(self, seconds: float) -> str | None:
        """Waits up to this long for another process to die; returns a message that names it, or None.

        After this time, a process without a recent heartbeat is named too, also on another machine.
        """
        if self._peers is None:
            return None
        self._loss_event.wait(seconds)
        return self._loss or self._peers.silent_peer(time.monotonic())

    def close(self, reason: str = "done") -> None:
        """Ends the thread. The other processes read `reason`; it is an error unless it is `done`."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        if self._peers is not None:
            self._leave(reason)

    def _leave(self, reason: str) -> None:
        """Informs the other processes and the witness that this process ends on purpose.

        Process 0 waits some seconds, so that the others can read the reason: jax aborts them when process 0
        exits. It stops waiting when they have exited, because jax then aborts process 0 too.
        """
        self._peers.beat(self._activity, reason)
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            self._witness.communicate(b"closed", timeout=5)
        deadline = time.monotonic() + _PROCESS_0_WAIT_SECONDS
        while reason != "done" and self._index == 0 and deadline > time.monotonic() and self._peers.alive():
            time.sleep(_POLL_SECONDS)

    def _run(self) -> None:
        while not self._closed.wait(_HEARTBEAT_SECONDS):
            now = time.monotonic()
            if self._peers is not None:
                self._peers.beat(self._activity)
                self._check_peers(now)
            if now - self._output_at > _ALIVE_LINE_SECONDS and self._index == 0:
                self.say(f"alive: {self._activity}, for {duration(now - self._progress_at)}")
            if now - max(self._progress_at, self._stacks_at) > self._stall:
                self._stacks_at = now
                stalled = duration(now - self._progress_at)
                self.say(f"no progress for {stalled} ({self._activity}); the stacks of all threads:")
                faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
            if self._loss is not None and now - self._loss_at > _EXIT_TIMEOUT_SECONDS:
                self._leave(self._loss)  # for processes that cannot see the dead process themselves
                self._on_loss(self._loss)

    def _check_peers(self, now: float) -> None:
        loss, warnings = self._peers.check(now)
        for line in warnings:
            self.say(line)
        if loss is not None and self._loss is None:
            self._loss, self._loss_at = loss, now
            self.say(loss)
            self._loss_event.set()


class Peers:
    """The heartbeats of the processes of a run.

    Each process writes one file about once per second, in place: other machines would see a rename late on a
    network file system. Clocks of different machines are never compared. A process counts as lost if its
    file gives the reason of its end, or if its file has not changed for some seconds and, on this machine, no
    process has its number any more. If the file of a process on another machine does not change, the only
    consequence is a warning, because the file system may be the cause. Files of other runs in the same folder
    are ignored.

    Args:
      folder, index, count, run, limit: as in `Watch.join`.
    """

    def __init__(self, folder: pathlib.Path, index: int, count: int, run: str, limit: float):
        self._folder, self._index, self._count, self._limit = folder, index, count, limit
        self._run, self._machine = run, _machine()
        self._beats, now = 0, time.monotonic()
        self._peers = {
            i: {"changed_at": now, "status": None, "warned": False} for i in range(count) if i != index
        }

    def beat(self, activity: str, ended: str = "") -> bool:
        """Writes a heartbeat; returns False if that fails, for example on a full disk."""
        self._beats += 1
        content = {
            "run": self._run,
            "host": socket.gethostname(),
            "machine": self._machine,
            "pid": os.getpid(),
        }
        content |= {"at": activity[:100], "beats": self._beats, "ended": ended[:400]}
        with contextlib.suppress(OSError):
            handle = os.open(self._folder / f"{self._index}.json", os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                text = json.dumps(content).encode()
                os.write(handle, text.ljust(_FILE_BYTES))  # a fixed length overwrites all of the old content
            finally:
                os.close(handle)
            return True
        return False

    def check(self, now: float) -> tuple[str | None, list[str]]:
        """Returns a message about a lost process, or None, and a warning for each newly silent process."""
        failure, death, warnings = None, None, []
        for index, peer in self._peers.items():
            status = self._read(index)
            if status is not None and status != peer["status"]:
                peer.update(changed_at=now, status=status, warned=False)
            status, silence = peer["status"], now - peer["changed_at"]
            if status is None or status["ended"] == "done":
                continue
            name = f"process {index} of {self._count} ({status['host']}, pid {status['pid']})"
            local, activity = status["machine"] == self._machine, f"last activity: {status['at']}"
            if status["ended"]:
                failure = failure or f"{name} ended: {status['ended']}"
            elif silence > _HEARTBEAT_TIMEOUT_SECONDS and local and not _runs(status["pid"]):
                death = death or f"{name} has died; {activity}"
            elif silence > self._limit and not peer["warned"]:
                peer["warned"] = True
                warnings.append(f"no heartbeat of {name} for {duration(silence)}; {activity}")
        return failure or death, warnings

    def alive(self) -> bool:
        """Whether any other process runs on this machine, or on another machine with a recent heartbeat."""
        now = time.monotonic()
        self.check(now)
        return any(peer["status"] is not None and self._is_alive(peer, now) for peer in self._peers.values())

    def _is_alive(self, peer: dict, now: float) -> bool:
        status = peer["status"]
        if status["machine"] == self._machine:
            return _runs(status["pid"])
        timeout = _EXIT_TIMEOUT_SECONDS if status["ended"] else _HEARTBEAT_TIMEOUT_SECONDS
        return now - peer["changed_at"] < timeout

    def silent_peer(self, now: float) -> str | None:
        """Returns a message about a process without a recent heartbeat, on any machine, or None."""
        for index, peer in self._peers.items():
            status, silence = peer["status"], now - peer["changed_at"]
            if status is not None and status["ended"] != "done" and silence > _HEARTBEAT_TIMEOUT_SECONDS:
                name = f"process {index} of {self._count} ({status['host']})"
                return f"{name} has stopped sending heartbeats; last activity: {status['at']}"
        return None

    def _read(self, index: int) -> dict | None:
        try:
            with open(self._folder / f"{index}.json", "rb") as file:
                status = json.loads(file.read(_FILE_BYTES))
            types = {"host": str, "machine": str, "pid": int, "at": str, "beats": int, "ended": str}
            is_valid = all(type(status[key]) is kind for key, kind in types.items())
            return status if is_valid and status["run"] == self._run else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # not written yet, or only in part


def _machine() -> str:
    """Returns an identifier of the set of process numbers in use: one boot of a machine, or a container."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _runs(pid: int) -> bool:
    """Whether a process of this machine runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, IndexError):  # a process of another user, or a system without /proc
        return True


def witness(folder: str, index: str, count: str, run: str) -> None:
    """Waits until the parent closes its watch or dies; if it died, prints which other process was lost.

    When process 0 dies, jax aborts the other processes within milliseconds without calling any Python
    handler. They cannot report the reason, so this process does.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SIGTERM asks the run to stop; the parent ends the witness
    if sys.stdin.buffer.read():
        return
    limit, deadline = _HEARTBEAT_TIMEOUT_SECONDS, time.monotonic() + _WITNESS_SECONDS
    peers = Peers(pathlib.Path(folder), index=int(index), count=int(count), run=run, limit=limit)
    while time.monotonic() < deadline:
        loss, warnings = peers.check(time.monotonic())
        if loss and f"process {index} of {count} (" in loss:
            return  # the other processes report the death of the parent itself
        for line in [loss] if loss else warnings:
            print(f"avsal: process {index} died; {line}", file=sys.stderr, flush=True)
        if loss:
            return
        time.sleep(_HEARTBEAT_SECONDS)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        witness(*sys.argv[1:])
