"""The audio stream of a file as one continuous run of samples at one rate."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import av
import numpy as np

from avsal_jax.media.sound_frames import SoundFrame, SoundFrames
from avsal_jax.media.sound_levels import Levels
from avsal_jax.media.streams import CLOCK_LEAP_SECONDS

_SHORTEST_GAP = 0.02  # seconds; times in Matroska are rounded to 0.001
_LONGEST_SHARE = 20  # of the gaps, over the sound so far
_LONGEST_PAUSE_SECONDS = 3_600  # in formats whose clock does not leap; as silence, 691 MB at 48,000 Hz
STEP_BACK = 0.08  # seconds: two frames of video, which is handled in the same way
_FORMS_LISTED = 4
_ZEROS_AT_ONCE = 1 << 20  # samples


class SoundStream:
    """The sound of a file, read once per iteration: float32 blocks [samples], or [samples, 2].

    Several channels are mixed down. With `channels=1`, the output is the mean of all, as VGGish expects. With
    `channels=2`, left and right are each the mean of the channels on that side (by name) or on neither side.

    - If the stream changes its rate, channels or format, as joined files do, it is converted to the first
      rate.
    - A gap in the timestamps, for example from a damaged packet, is filled with silence, so that later sound
      keeps its time. All gaps together are at most ten minutes (an hour in formats whose clock does not
      leap), or twenty times the sound so far.
    - A longer jump, or a step back of more than 0.08 s, means that timestamps restart: the sound continues
      without a gap.
    - A format without timestamps (mp3, adts) is a continuous run of samples once its rate has changed.

    `sound_levels` documents the handling of NaN and of samples beyond [-1, 1].

    Args:
      path: the file.
      channels: 1 or 2.
      container: the file, opened by PyAV; the first iteration reads and closes it. None to open the file.

    Attributes:
      rate: Hz, set when the first block is read; 0 before.
      start: seconds; presentation time of the first sample, set at the same time.
      damaged: packets and frames of this iteration that could not be decoded.

    Raises (in iteration):
      AvsalError: the file cannot be read, or has no audio stream that can be decoded.
    """

    def __init__(self, path, channels: int = 1, container=None):
        self.path, self.channels = pathlib.Path(path), channels
        self._container = container
        self._forget()

    def _forget(self) -> None:
        self.rate, self.start = 0, 0.0
        self._levels, self._timeline = Levels(), None
        self._forms, self._changed = [], 0.0  # rates and channels, and when they change first
        self._frames: SoundFrames | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        self._forget()
        container, self._container = self._container, None
        frames = self._frames = SoundFrames(self.path, container)
        if frames.stores_floats:
            for frame in frames:
                self._levels.look(frame.samples)
            self._levels.decide()
        converter = None
        for frame in frames:
            if converter is None:
                self.rate, self.start = frame.rate, frame.time or 0.0
                converter = _Converter(self.rate, self.channels)
                timeline = self._timeline = _Timeline(self.start, self.rate, frames)
            self._note_form(frame)
            missing = timeline.missing(frame)
            if missing > 0:
                yield from timeline.count(converter.flush())
                yield from timeline.count(self._silence(missing))
            block = self._levels.apply(frame.samples)
            block = block.mean(1) if self.channels == 1 else _stereo(block, frame.channels)
            yield from timeline.count(converter(block, frame.rate))
        if converter is not None:
            yield from timeline.count(converter.flush())

    @property
    def damaged(self) -> int:
        """Number of packets so far that could not be decoded and are skipped."""
        return self._frames.damaged if self._frames else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on what was unusual so far and how it was handled."""
        name = self.path.name
        lines = [f"the sound of {name}: {line}" for line in self._levels.notes]
        if self._frames is not None and self._frames.skipped:
            lines.append(f"the sound of {name}: {self._frames.skipped}")
        if self.damaged:
            packets = "1 packet is" if self.damaged == 1 else f"{self.damaged} packets are"
            lines.append(f"the sound of {name}: {packets} skipped, because decoding failed")
        if len(self._forms) > 1:
            forms = [*self._forms[:_FORMS_LISTED], *["and so on"] * (len(self._forms) > _FORMS_LISTED)]
            lines.append(
                f"the sound of {name} changes at {self._changed:.2f} s, from {' to '.join(forms)}; it is "
                f"read at {self.rate} Hz"
            )
        if self._timeline is not None and self._timeline.joins:
            times = "once" if self._timeline.joins == 1 else f"{self._timeline.joins} times"
            lines.append(f"the sound of {name}: its clock restarts {times}; it continues without a gap")
        return tuple(lines)

    def _note_form(self, frame: SoundFrame) -> None:
        count = len(frame.channels)
        form = f"{frame.rate} Hz and {count} channel{'s' * (count > 1)}"
        if self._forms and self._forms[-1] == form:
            return
        if len(self._forms) == 1:
            self._changed = self.start + self._timeline.samples / self.rate
        self._forms = [*self._forms[:_FORMS_LISTED], form]

    def _silence(self, count: int) -> Iterator[np.ndarray]:
        shape = () if self.channels == 1 else (2,)
        for begin in range(0, count, _ZEROS_AT_ONCE):
            yield np.zeros((min(_ZEROS_AT_ONCE, count - begin), *shape), np.float32)


def _stereo(block: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Returns [n, 2]; names such as FL, BR, TFL or FLC give the side of a channel."""
    if block.shape[1] <= 2:
        return np.ascontiguousarray(np.broadcast_to(block, (len(block), 2)))
    names = [name.removesuffix("C") for name in channels]
    sides = ([not name.endswith("R") for name in names], [not name.endswith("L") for name in names])
    return np.stack([block[:, side if any(side) else slice(None)].mean(1) for side in sides], 1)


class _Converter:
    """Blocks of any rate -> blocks of one rate; called with a block and its rate."""

    def __init__(self, rate: int, channels: int):
        self._rate, self._layout = rate, "mono" if channels == 1 else "stereo"
        self._shape = (-1,) if channels == 1 else (-1, channels)
        self._resampler, self._frame_rate = None, rate

    def __call__(self, block: np.ndarray, rate: int) -> Iterator[np.ndarray]:
        if rate != self._frame_rate:
            yield from self.flush()
            self._frame_rate = rate
        if rate == self._rate:
            yield block
            return
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="flt", layout=self._layout, rate=self._rate)
        flat = np.ascontiguousarray(block, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(flat, format="flt", layout=self._layout)
        frame.sample_rate = rate
        yield from self._blocks(frame)

    def flush(self) -> Iterator[np.ndarray]:
        """Yields the samples that remain in the resampler."""
        if self._resampler is not None:
            yield from self._blocks(None)
            self._resampler = None

    def _blocks(self, frame) -> Iterator[np.ndarray]:
        for resampled in self._resampler.resample(frame):
            yield resampled.to_ndarray().reshape(self._shape)


class _Timeline:
    """Where frames belong among the samples of the output; see `SoundStream` for the rules.

    `samples` counts the output so far, `joins` how often timestamps restarted.
    """

    def __init__(self, start: float, rate: int, frames: SoundFrames):
        self.samples, self.joins = 0, 0
        self._start, self._rate, self._untimed = start, rate, frames.untimed
        self._leap = CLOCK_LEAP_SECONDS if frames.may_leap else _LONGEST_PAUSE_SECONDS
        self._frame_rate, self._is_counted = None, False  # Hz of the last frame; whether times are ignored
        self._end: float | None = None  # of the last frame, on the clock of the first
        self._shift, self._earlier = 0.0, 0.0  # seconds from the file's clock to that of the first frame
        self._silent = 0  # samples of gaps so far

    def count(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the blocks that have samples."""
        for block in blocks:
            self.samples += len(block)
            if len(block):
                yield block

    def missing(self, frame: SoundFrame) -> int:
        """Returns the number of missing samples before a frame."""
        length = len(frame.samples) / frame.rate
        self._is_counted |= self._untimed and self._frame_rate not in (None, frame.rate)
        self._frame_rate = frame.rate
        if frame.time is None or self._is_counted:
            self._end = None
            return 0
        due = self._start + self.samples / self._rate
        time = self._on_one_clock(frame.time, due)
        self._end = time + length
        gap = round((time - due) * self._rate)
        if gap <= max(length / 2, _SHORTEST_GAP) * self._rate:
            return 0
        self._silent += gap
        return gap

    def _on_one_clock(self, time_in_file: float, due: float) -> float:
        """Returns the time of a frame in seconds on the clock of the first.

        Args:
          time_in_file: seconds; time of the frame in the file.
          due: seconds; when the frame would follow the sound so far without a gap.
        """
        if self._end is None:
            return time_in_file + self._shift
        time, on_earlier = time_in_file + self._shift, time_in_file + self._earlier
        silent = self._silent / self._rate
        longest = max(self._leap, _LONGEST_SHARE * (due - self._start - silent)) - silent
        restarts = self._end - time > STEP_BACK or time - due >= min(self._leap, longest)
        apart = abs(time - due) > STEP_BACK
        if apart and self._earlier != self._shift and abs(on_earlier - due) <= STEP_BACK:
            self._shift, self._earlier = self._earlier, self._shift  # a single frame had a wrong time
        elif restarts:
            self._shift, self._earlier = due - time_in_file, self._shift
            self.joins += 1
        return time_in_file + self._shift
