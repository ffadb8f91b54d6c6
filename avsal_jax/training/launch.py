"""Around a run: several processes as one; how it is asked to stop: SIGTERM, to one process or to all."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

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
        jax.distributed.initialize(coordinator, count, index, coordinator_bind_address=coordinator)
    except (RuntimeError, ValueError) as error:
        raise AvsalError(f"process {index + 1} of {count} cannot join at {coordinator}: {error}") from error


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[int], bool]]:
    """Gives a function that tells whether SIGTERM came, for `loop.train`.

    With one process it has its own handler. With several, jax's preemption service tells all of them the
    same step, whichever got the signal.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    came = False

    def note(number, frame):
        nonlocal came
        came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: came
    finally:
        signal.signal(signal.SIGTERM, before)
