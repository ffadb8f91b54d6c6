"""Presentation times of the frames of a video, for cutting the sound of clips."""

from __future__ import annotations

import array


class FrameTimes:
    """Seconds from the first frame to each frame read so far; uses eight bytes per frame.

    A time that agrees with index / fps within the unit of the file's times is set to exactly index / fps.
    The sound of a video of constant rate is then cut as in the public code, whatever unit the file has.

    Args:
      fps: frames per second, the average.
      unit: seconds; the unit that the file's times are counted in.
    """

    def __init__(self, fps: float, unit: float):
        self._fps = fps
        self._tolerance = 1.01 * unit  # this time and the first are rounded, by half a unit each
        self._first = 0.0
        self._times = array.array("d")

    def add(self, seconds: float) -> None:
        """Adds the next frame, by its time on the clock of the file."""
        index = len(self._times)
        if not index:
            self._first = seconds
        time, regular = seconds - self._first, index * (1.0 / self._fps)
        self._times.append(regular if abs(time - regular) <= self._tolerance else time)

    def __getitem__(self, index: int) -> float:
        return self._times[index]
