"""How fast a run is: rate, share of time waiting for data, time left, and the console line."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

from avsal_jax.runtime.durations import duration


@dataclasses.dataclass(frozen=True)
class Rates:
    """Speed of a stretch of steps.

    Attributes:
      steps_per_second: without pauses; NaN where the stretch has no step.
      waiting: share of that time spent waiting for data, 0 to 1.
      seconds_left: to the last step, by the pace of the whole run with its pauses; NaN before there is one.
    """

    steps_per_second: float
    waiting: float
    seconds_left: float


class Timer:
    """Measures a loop; the first step, which compiles, is left out.

    Args:
      total: the last step.
      step: that the run begins with (a resumed one: the restored step).
      clock: seconds, rising.
    """

    def __init__(self, total: int, step: int = 0, clock: Callable[[], float] = time.perf_counter):
        self._total, self._step, self._clock = total, step, clock
        self._first: tuple[int, float] | None = None  # step and time from which the whole run counts
        self._begin_stretch()

    def _begin_stretch(self) -> None:
        self._began, self._from, self._waited, self._paused = self._clock(), self._step, 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Surrounds the fetch of a batch."""
        began = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Surrounds what is not training: evaluation, saving, pictures."""
        began = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - began

    def tick(self, step: int) -> None:
        """Takes note that `step` is done."""
        self._step = step
        if self._first is None:
            self._begin_stretch()
            self._first = step, self._began

    def rates(self) -> Rates:
        """Returns the rates since the last call, and begins a new stretch."""
        now, steps = self._clock(), self._step - self._from
        seconds = now - self._began - self._paused
        left, done = math.nan, self._step - self._first[0] if self._first else 0
        if done > 0:
            left = (self._total - self._step) * (now - self._first[1]) / done
        measured = steps > 0 and seconds > 0
        rates = Rates(
            steps / seconds if measured else math.nan,
            min(1.0, self._waited / seconds) if measured else 0.0,
            left,
        )
        self._begin_stretch()
        return rates


def console_line(step: int, total: int, values: dict[str, float], rates: Rates) -> str:
    """Returns `step 120/4000  loss 1.234  lr 1e-4  12.3 steps/s  eta 05:12  waiting for data 3 %`.

    Args:
      step, total: done, and the last one.
      values: numbers by name, in this order.
      rates: from `Timer`; what is not known is left out.
    """
    parts = [f"step {step}/{total}", *(f"{name} {short(value)}" for name, value in values.items())]
    if math.isfinite(rates.steps_per_second):
        parts.append(f"{rates.steps_per_second:.3g} steps/s")
    if math.isfinite(rates.seconds_left):
        parts.append(f"eta {duration(rates.seconds_left)}")
    if math.isfinite(rates.steps_per_second):
        parts.append(f"waiting for data {100 * rates.waiting:.0f} %")
    return "  ".join(parts)


def short(value: float) -> str:
    """Returns a number in four digits: `1.234`, `1e-4`, `1.5e-5`."""
    value = float(value)
    if not math.isfinite(value) or value == 0 or 1e-2 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
