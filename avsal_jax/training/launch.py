"""How a run is asked to stop: SIGTERM, to one process or to all."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax


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
