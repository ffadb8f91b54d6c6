"""Limits the number of dispatched steps, and checks and logs their values when they are ready."""

from __future__ import annotations

import collections

import jax

from avsal_jax.errors import AvsalError
from avsal_jax.training.records.run_log import RunLog

_MAX_STEPS = 2  # on CPU, more than about thirty steps with collectives abort a run


class NotFinite(AvsalError):
    """The loss or the gradient of a step was not finite.

    Args:
      step: the step, from 0.
    """

    def __init__(self, step: int):
        super().__init__(
            f"the loss or gradient of step {step + 1} is not finite; the state before it is saved. "
            "Start a run in a new workdir with --config.resume=THIS_WORKDIR --config.init=none and a lower "
            "learning rate, a smaller clip_norm, or float32"
        )


class InFlight:
    """A queue of dispatched steps whose values have not been read.

    Args:
      log: receives the values.
    """

    def __init__(self, log: RunLog):
        self._log = log
        self._steps: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()

    def add(self, step: int, values: dict[str, jax.Array]) -> None:
        """Adds the values of a step, and waits until fewer than `_MAX_STEPS` steps are in flight.

        Raises:
          NotFinite: as `wait`.
        """
        self._steps.append((step, values))
        self.wait(_MAX_STEPS - 1)

    def wait(self, leave: int = 0) -> None:
        """Waits until at most `leave` steps are in flight, and logs the values of the others.

        Raises:
          NotFinite: one of them failed.
        """
        while len(self._steps) > leave:
            step, values = self._steps.popleft()
            values = jax.device_get(values)
            failed = int(values.pop("failed"))
            if failed >= 0:
                raise NotFinite(failed)
            self._log.add({name: float(value) for name, value in values.items()})
            self._log.timer.tick(step)
