"""Profiles steps of a run, for TensorBoard (XProf) and Perfetto."""

from __future__ import annotations

import pathlib

import jax

_WARM_UP = 2  # steps before the window: the first compiles, the second fills the queues


class ProfilerWindow:
    """Records steps of a run with jax's profiler.

    The files are in `FOLDER/plugins/profile/TIME`: `*.xplane.pb` for TensorBoard with the plugin XProf, and
    `*.trace.json.gz` for Perfetto and chrome://tracing.

    Args:
      folder: for the files.
      start: the step, from 0, with which this process begins.
      steps: number of steps to record; 0 for none.
    """

    def __init__(self, folder: pathlib.Path, start: int, steps: int):
        self.folder, self._running = folder, False
        self._first, self._last = start + _WARM_UP, start + _WARM_UP + steps

    def begin(self, step: int) -> None:
        """Starts to record if the window begins with this step."""
        if step == self._first < self._last:
            jax.profiler.start_trace(self.folder)
            self._running = True

    def is_last(self, step: int) -> bool:
        """Whether the window ends once `step` steps are done."""
        return self._running and step == self._last

    def end(self) -> None:
        """Writes the files. Idempotent."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
