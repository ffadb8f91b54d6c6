"""Worker processes: forked after all imports, given inputs over a pipe, watched, and replaced when they die.

The parent never computes with jax, so that forking it is safe.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator

HANG_SECONDS, MOST_BYTES = 60, 2 << 30
_POLL_SECONDS = 0.05
_RETIRE_BYTES = 1_700_000_000  # a worker that has grown beyond this over many inputs is replaced


@dataclasses.dataclass
class _Worker:
    process: multiprocessing.Process
    pipe: multiprocessing.connection.Connection
    job: tuple | None = None
    since: float = 0.0


@dataclasses.dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
      job: the arguments of the work.
      seconds: duration.
      peak: the most memory of the process during the job, in bytes.
      answer: of the worker.
      death: why the process gave no answer, in words.
    """

    job: tuple
    seconds: float
    peak: int
    answer: object = None
    death: str | None = None


def run(jobs: Iterable[tuple], work: Callable[[], Callable], count: int) -> Iterator[JobResult]:
    """Yields the result of each job, as they end.

    Args:
      jobs: taken one by one, so that the iterable may stop when time is up.
      work: called once in each process; returns the function of a job that gives its answer.
      count: number of processes.
    """
    left, workers = iter(jobs), [_fork(work) for _ in range(count)]
    try:
        waiting = list(workers)
        while True:
            for worker in waiting:
                _give(worker, next(left, None))
            busy = [worker for worker in workers if worker.job is not None]
            if not busy:
                return
            multiprocessing.connection.wait([worker.pipe for worker in busy], _POLL_SECONDS)
            waiting = []
            for worker in busy:
                result = _look(worker)
                if result is None:
                    continue
                yield result
                if result.death is not None or _memory(worker.process.pid, "VmRSS") > _RETIRE_BYTES:
                    _end(worker)
                    workers[workers.index(worker)] = fresh = _fork(work)
                    waiting.append(fresh)
                else:
                    worker.job = None
                    waiting.append(worker)
    finally:
        for worker in workers:
            _end(worker)


def _fork(work: Callable[[], Callable]) -> _Worker:
    parent_end, child_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(child_end, parent_end, work), daemon=True
    )
    process.start()
    child_end.close()
    return _Worker(process, parent_end)


def _serve(pipe, other, work: Callable[[], Callable]) -> None:
    other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    do = work()
    while (job := _received(pipe)) is not None:
        _reset_peak()
        pipe.send(do(*job))


def _received(pipe) -> tuple | None:
    """Returns the next job, None when the parent has closed the pipe."""
    try:
        return pipe.recv()
    except EOFError:
        return None


def _reset_peak() -> None:
    """Has the kernel count the peak of this process's memory from now on."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _give(worker: _Worker, job: tuple | None) -> None:
    worker.job, worker.since = job, time.monotonic()
    if job is not None:
        worker.pipe.send(job)


def _look(worker: _Worker) -> JobResult | None:
    """Returns the result of the worker's job, or None while it runs."""
    seconds = time.monotonic() - worker.since
    peak = _memory(worker.process.pid, "VmHWM")
    if peak > MOST_BYTES:
        return JobResult(worker.job, seconds, peak, death=f"memory of {peak >> 20} MiB")
    if worker.pipe.poll():
        try:
            return JobResult(worker.job, seconds, peak, worker.pipe.recv())
        except (EOFError, ConnectionError):
            worker.process.join(10)
            code = worker.process.exitcode
            name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            return JobResult(worker.job, seconds, peak, death=f"the process died: {name}")
    if seconds > HANG_SECONDS:
        return JobResult(worker.job, seconds, peak, death=f"over {HANG_SECONDS} seconds")
    return None


def _memory(pid: int, field: str) -> int:
    """Bytes of a process's memory, as /proc counts them; 0 for one that is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), 0)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.process.is_alive():
        os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()
