"""The speed of a run: steps per second, share of time waiting for data, time left, and the console line."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

from avsal_jax.runtime.durations import duration


@dataclasses.dataclass(frozen=True)
class Rates:
    """Speed over an interval of steps.

    Attributes:
      steps_per_second: without pauses; NaN if the interval has no step.
      waiting: share of that time spent waiting for data, 0 to 1.
      seconds_left: until the last step, at the average speed of the run with its pauses; NaN before the first
        measured step.
    """

    steps_per_second: float
    waiting: float
    seconds_left: float


class Timer:
    """Measures a training loop, without its first step, which compiles.

    Args:
      total: the last step.
      step: the first step of this start of the run; in a resumed run, the restored step.
      clock: returns seconds that increase.
    """

    def __init__(self, total: int, step: int = 0, clock: Callable[[], float] = time.perf_counter):
        self._total, self._step, self._clock = total, step, clock
        self._first: tuple[int, float] | None = None  # step and time at which the measurement begins
        self._begin_interval()

    def _begin_interval(self) -> None:
        self._start, self._start_step, self._waited, self._paused = self._clock(), self._step, 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Context of fetching a batch; its time counts as waiting for data."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context of evaluation, saving and pictures; its time does not count as training."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def tick(self, step: int) -> None:
        """Records that `step` is complete."""
        self._step = step
        if self._first is None:
            self._begin_interval()
            self._first = step, self._start

    def rates(self) -> Rates:
        """Returns the rates since the last call, and begins a new interval."""
        now, steps = self._clock(), self._step - self._start_step
        seconds = now - self._start - self._paused
        seconds_left, measured_steps = math.nan, self._step - self._first[0] if self._first else 0
        if measured_steps > 0:
            seconds_left = (self._total - self._step) * (now - self._first[1]) / measured_steps
        is_measured = steps > 0 and seconds > 0
        rates = Rates(
            steps / seconds if is_measured else math.nan,
            min(1.0, self._waited / seconds) if is_measured else 0.0,
            seconds_left,
        )
        self._begin_interval()
        return rates


def console_line(step: int, total: int, values: dict[str, float], rates: Rates) -> str:
    """Returns `step 120/4000  loss 1.234  lr 1e-4  12.3 steps/s  eta 05:12  waiting for data 3 %`.

    Args:
      step: the step that is complete.
      total: the last step.
      values: numbers by name, in this order.
      rates: from `Timer`; unknown rates are left out.
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
