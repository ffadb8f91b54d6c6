"""Around a run: several processes as one, and being asked to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from avsal_jax.errors import AvsalError

PREEMPTED = 75  # the exit code that asks schedulers to run the command again (EX_TEMPFAIL)


def join_processes(coordinator: str, index: int, count: int) -> None:
    """Makes this process the `index`-th (from 0) of `count` in one run; before anything else that uses jax.

    Args:
      coordinator: `HOST:PORT` of process 0, the same in all.

    Raises:
      AvsalError: no such address, or jax is in use already. (If another process does not come, jax ends this
        one itself.)
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AvsalError(f"the coordinator is HOST:PORT, as 10.0.0.1:4321; got {coordinator!r}")
    try:
        jax.distributed.initialize(coordinator, num_processes=count, process_id=index)
    except (RuntimeError, ValueError) as error:
        raise AvsalError(f"process {index + 1} of {count} cannot join at {coordinator}: {error}") from error


@contextlib.contextmanager
def stop_requests(processes: int) -> Iterator[Callable[[int], bool]]:
    """Gives `asked_to_stop(step)`: whether SIGTERM came to this process, or to any of several.

    With one process it has its own handler, put back at the end. With several, `jax.distributed` hears the
    signal and all of them agree on a step.
    """
    if processes > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    asked = []
    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    try:
        yield lambda step: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)
