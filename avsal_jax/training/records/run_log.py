"""Writes the log of a run: records, event files, console lines, pictures and the report."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable

from avsal_jax.models.part import Limit
from avsal_jax.training.records.event_files import EventWriter
from avsal_jax.training.records.metrics_log import MetricsLog, read_metrics
from avsal_jax.training.records.overview import Overview
from avsal_jax.training.records.progress import Timer, console_line
from avsal_jax.training.records.reporting import (
    prediction_picture,
    read_pictures,
    write_curves,
    write_picture,
    write_report,
)
from avsal_jax.training.validation import Validation


class RunLog:
    """Writes the log of a run into its workdir; of several processes, only process 0 writes and prints.

    Args:
      workdir: the run's folder.
      total: the last step.
      writes: whether this process writes and prints.
      say: prints a line on the console.
    """

    def __init__(self, workdir: pathlib.Path, total: int, writes: bool, say: Callable[[str], None]):
        self._workdir, self._total, self._writes = workdir, total, writes
        self._say = say if writes else lambda line: None
        self.timer = Timer(total)
        self._sums: dict[str, float] = {}
        self._count = 0
        self._metrics: MetricsLog | None = None
        self._events: EventWriter | None = None
        self._warned: set[str] = set()

    def open(self, restored: int | None) -> None:
        """Opens the files and discards their records after the restored step.

        Args:
          restored: the step of the checkpoint from this workdir; None for a new run, which discards all.
        """
        self.timer = Timer(self._total, restored or 0)
        if self._writes:
            self._metrics = MetricsLog(self._workdir / "metrics.jsonl")
            self._metrics.resume(-1 if restored is None else restored)
            self._events = EventWriter(self._workdir, -1 if restored is None else restored)

    def say(self, line: str) -> None:
        """Prints a line."""
        self._say(line)

    def add(self, values: dict[str, float]) -> None:
        """Adds the values of one step to the means of the next record."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)

    def pending(self) -> dict:
        """Returns the sums since the last record; a checkpoint stores them for `restore`."""
        return {"count": self._count, "sums": dict(self._sums)}

    def restore(self, pending: dict) -> None:
        """Restores the sums that `pending` returned."""
        self._count = int(pending["count"])
        self._sums = {name: float(total) for name, total in pending["sums"].items()}

    def record(self, step: int, learning_rate: float) -> None:
        """Writes the means since the last record."""
        values = {name: total / self._count for name, total in self._sums.items()}
        rates = self.timer.rates()
        values |= {"lr": learning_rate, "waiting": rates.waiting, "steps_per_second": rates.steps_per_second}
        self._write(step, values)
        console_values = {name: value for name, value in values.items() if name in ("loss", "lr")}
        self.say(console_line(step, total=self._total, values=console_values, rates=rates))
        self._count, self._sums = 0, {}

    def validated(self, step: int, validation: Validation, rule: str) -> None:
        """Writes the means of a validation, and a picture of its example clips."""
        self._write(step, {f"val/{name}": value for name, value in validation.means.items()})
        means = "  ".join(f"{name} {value:.4f}" for name, value in validation.means.items())
        self.say(f"step {step}/{self._total}  validation on {validation.clips} clips ({rule}): {means}")
        if validation.examples is not None and self._writes:
            picture = prediction_picture(*validation.examples)
            write_picture(self._workdir / "pictures" / f"{step:08d}.png", picture)
            self._events.image(step, "validation", picture)

    def limits(self, step: int, limits: dict[str, Limit]) -> None:
        """Writes values that should not exceed a bound; warns once about each value that does."""
        for name, (value, bound, advice) in limits.items():
            self._write(step, {f"limit/{name}": value, f"limit/{name} bound": bound})
            if value > bound and advice and name not in self._warned:
                self._warned.add(name)
                self.say(f"warning: {name} is {value:.3g}, above its bound of {bound:.3g}: {advice}")

    def finish(self, settings: dict, parameters: Overview, **options) -> None:
        """Writes the curves and the report page; options are those of `write_report`."""
        if not self._writes:
            return
        self.close()
        records = read_metrics(self._workdir / "metrics.jsonl")
        curves = write_curves(self._workdir / "curves.png", records)
        write_report(
            self._workdir / "report.html",
            title=f"Training in {self._workdir.name}",
            settings=settings,
            records=records,
            parameters=parameters,
            curves=curves,
            pictures=read_pictures(self._workdir / "pictures", 6),
            **options,
        )

    def close(self) -> None:
        """Closes the files."""
        if self._metrics is not None:
            self._metrics.close()
        if self._events is not None:
            self._events.close()

    def _write(self, step: int, values: dict[str, float]) -> None:
        if not self._writes:
            return
        self._metrics.write(step, values)
        self._events.scalars(step, {name: v for name, v in values.items() if math.isfinite(v)})
        self._events.flush()
