"""The times of viewings: where the first frame is on the clock of a recording."""

from __future__ import annotations

import dataclasses

import numpy as np

from avsal_jax.errors import AvsalError

# A viewing that begins later, or earlier by as much, does not use the clock of its stimulus.
_FAR_SECONDS = 2.0
_QUORUM = 0.5  # of the viewings


@dataclasses.dataclass(frozen=True)
class ViewingClock:
    """Times of rows as the file has them.

    Attributes:
      time: float64 [N], in the file's unit.
      unit: seconds in one of it.
      viewing: int64 [N], a number for each (stimulus, observer).
      stimulus: int32 [N], index of the stimulus.
    """

    time: np.ndarray
    unit: float
    viewing: np.ndarray
    stimulus: np.ndarray

    def seconds(
        self, origin: float | str | None, is_video: np.ndarray, duration: np.ndarray, file_name: str
    ) -> tuple[np.ndarray, list[str]]:
        """Returns seconds since the first frame, float64 [N], and notes.

        Without an origin, viewings of pictures that mostly begin more than 2 s from 0 count from their first
        row. For a video that would shift all fixations of an observer who looked late, so it is asked for.

        Args:
          origin: as `GazeOptions.time_origin`.
          is_video: bool by stimulus.
          duration: float64 by stimulus, seconds; infinite for pictures and where it is not known.
          file_name: for notes and errors.

        Raises:
          AvsalError: viewings of videos mostly begin far from 0, or behind the video's end.
        """
        _, number = np.unique(self.viewing, return_inverse=True)
        first = np.full(number.max() + 1, np.inf)
        np.minimum.at(first, number, self.time)
        since_first = (self.time - first[number]) * self.unit
        if origin == "first":
            return since_first, [f"{file_name}: times count from the first row of each viewing, as asked for"]
        if origin is not None:
            note = f"{file_name}: times count from {origin:.12g} in the file (--time-origin)"
            return (self.time - origin) * self.unit, [note]
        stimulus = np.zeros(len(first), np.int64)
        stimulus[number] = self.stimulus
        begin = first * self.unit
        is_far = (np.abs(begin) > _FAR_SECONDS) | (begin >= duration[stimulus])
        of_video = is_video[stimulus]
        if of_video.any() and is_far[of_video].mean() > _QUORUM:
            raise AvsalError(
                f"{file_name}: {int(is_far[of_video].sum())} of {int(of_video.sum())} viewings of videos "
                f"begin far from 0, typically at {float(np.median(first[of_video])):.10g}, so the times do "
                "not count from the first frame: add --time-origin with the time of the first frame as the "
                "file has it, or --time-origin first where each viewing's first row is at the first frame"
            )
        seconds, notes = self.time * self.unit, []
        if count := int(is_far[of_video].sum()):
            notes.append(
                f"{file_name}: {count} of {int(of_video.sum())} viewings of videos begin more than "
                f"{_FAR_SECONDS:g} s from the first frame, as at {first[of_video & is_far].min():.10g}; if "
                "the times are those of the whole recording, add --time-origin"
            )
        if of_video.all() or is_far[~of_video].mean() <= _QUORUM:
            return seconds, notes
        of_picture = ~is_video[self.stimulus]
        note = (
            f"{file_name}: viewings of pictures begin far from 0, typically at "
            f"{float(np.median(first[~of_video])):.10g}; their times count from the first row of each viewing"
        )
        return np.where(of_picture, since_first, seconds), [*notes, note]
