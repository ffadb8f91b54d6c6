"""The sound of a clip: cutting the excerpt that goes with its frames out of a waveform.

The arithmetic is that of STAViS (atsiami/STAViS @71fd51f) and ViNet (samyak0210/ViNet @2a52666), which
agree. Rates in Hz; waveforms are float32 in [-1, 1].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from avsal_jax.media.frame_times import FrameTimes
from avsal_jax.spec.front_ends import FrontEnd
from avsal_jax.spec.input import InputSpec


@dataclasses.dataclass(frozen=True)
class Sound:
    """A mono waveform.

    Attributes:
      wave: float32 [samples] in [-1, 1]; or a sequence whose slices are such arrays, so that a long sound
        need not be in memory.
      rate: Hz.
      start: seconds; presentation time of the first sample, on the clock of its file.
      notes: lines on what is unusual about it and how that is handled.
    """

    wave: Sequence
    rate: int
    start: float = 0.0
    notes: tuple[str, ...] = ()


def resample(sound: Sound, rate: int) -> Sound:
    """Returns `sound` at another rate, by soxr's `HQ`; a slice is computed when it is read."""
    if sound.rate == rate:
        return sound
    return dataclasses.replace(sound, wave=_Resampled(sound.wave, sound.rate, rate), rate=rate)


class _Resampled(Sequence):
    """A waveform at another rate, as a sequence that gives slices.

    A slice is computed from the samples around it, starting at a time where samples of both rates coincide.
    It equals the same slice of the resampled waveform to 1e-6 (2e-5 at rates without a common factor, such
    as 22047 and 22050).
    """

    _MARGIN = 0.1  # seconds on both sides; the filter of soxr_hq is a tenth of that long

    def __init__(self, wave: Sequence, rate: int, target: int):
        shared = math.gcd(rate, target)
        self._wave, self._rate, self._target = wave, rate, target
        self._from, self._to = rate // shared, target // shared  # `_from` samples become `_to`

    def __len__(self) -> int:
        return math.ceil(len(self._wave) * self._to / self._from)

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        if end <= begin:
            return np.zeros(0, np.float32)
        import soxr  # librosa's resampling, which takes seconds to import

        margin = math.ceil(self._MARGIN * self._rate)
        block = max(0, begin * self._from // self._to - margin) // self._from
        last = end * self._from // self._to + 1 + margin
        piece = np.asarray(self._wave[block * self._from : last])
        wave = soxr.resample(piece, self._rate, self._target, quality="HQ")
        wave = wave[begin - block * self._to : end - block * self._to]
        return np.pad(wave, (0, end - begin - len(wave)))  # soxr may give a sample less at the end


def excerpt_bounds(first: int, last: int, rate: float, fps: float, samples: int) -> tuple[int, int]:
    """Returns the samples [begin, end) of frames `first`..`last`, counted from 1.

    A frame owns the samples nearer to its time than a frame apart; the end is inclusive in the public
    code, so `end` here is one more. Order of operations in float64 as there: (f - 1) * (1 / fps) * rate.

    Args:
      rate: samples per second; fps: frames per second; samples: length of the waveform.
    """
    return _bounds(
        (first - 1) * (1.0 / fps), last=(last - 1) * (1.0 / fps), rate=rate, fps=fps, samples=samples
    )


def _bounds(first: float, last: float, rate: float, fps: float, samples: int) -> tuple[int, int]:
    """The same for frames at `first` and `last` seconds."""
    half = rate / fps / 2
    begin = math.trunc(max(0.0, first * rate - half))
    end = math.trunc(min(float(samples), abs(last * rate + half)))
    return begin, min(end + 1, samples)


class ClipSound:
    """The sound of any clip of one video.

    A clip's sound extends from half a frame before the time of its first frame to half a frame after that of
    its last, where a frame lasts 1 / fps. Times are index / fps, or `times` if the rate varies. Each padding
    frame has silence of 1 / fps. If the sound is longer than the buffer, for example because the picture
    pauses, its middle is kept.

    Args:
      sound: the waveform; resampled to the rate of the front end, if it has one, and from a higher rate to
        its fallback where a clip would not fit.
      front_end: what the network takes.
      frames: T, frames of a clip.
      fps: frames per second of the video that the clips are cut from; the average, where it varies.
      video_start: seconds; presentation time of its first frame, on the clock of `sound.start`.
      times: presentation times of the frames, if the rate varies; they are added before their clip is read.

    `warning` is a line on what was changed, or None.
    """

    def __init__(
        self,
        sound: Sound,
        front_end: FrontEnd,
        frames: int,
        fps: float,
        video_start: float = 0.0,
        times: FrameTimes | None = None,
    ):
        self.warning, self.times, self._cut = None, times, 0
        self._length = front_end.length
        sound = resample(sound, front_end.rate or sound.rate)
        if front_end.fallback_rate is not None and frames * sound.rate / fps > self._length:
            sound, self.warning = _fitted(sound, frames=frames, fps=fps, front_end=front_end)
        self._wave, self._rate = sound.wave, sound.rate
        self._front_end, self._fps = front_end, fps
        # Samples before the first frame are cut, a late start is filled with silence.
        self._shift = round((video_start - sound.start) * sound.rate)
        self._regular = frames * sound.rate / fps  # samples of a clip at a constant rate

    @classmethod
    def of(
        cls,
        sound: Sound,
        spec: InputSpec,
        fps: float,
        video_start: float = 0.0,
        times: FrameTimes | None = None,
    ) -> ClipSound:
        """Returns the sound of the clips of `spec`, which has sound; other arguments as of the class."""
        return cls(
            sound,
            front_end=spec.audio,
            frames=spec.frames,
            fps=fps,
            video_start=video_start,
            times=times,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the sound of the clips so far, beyond `warning`, a line each."""
        if not self._cut:
            return ()
        return (
            f"pauses in the picture make the sound of clips ({self._cut}) longer than the network's input: "
            "only its middle is kept",
        )

    def clip(self, frames: list[int], count: int | None) -> np.ndarray:
        """Returns the sound of a clip, float32 [L] or [P, 96, 64] (`FrontEnd.shape`).

        The sound is reversed if the clip is.

        Args:
          frames: indices from 0 in the order of the clip, as from `inference.windows.window`. An index that
            repeats at an end marks padding frames; their sound is silence.
          count: number of frames of the video, or None while it is unknown.
        """
        backwards = frames[0] > frames[-1]
        ordered = frames[::-1] if backwards else frames
        before = _repeats(ordered) if ordered[0] == 0 else 0
        after = _repeats(ordered[::-1]) if count is not None and ordered[-1] == count - 1 else 0
        if before == len(ordered) - 1:  # a single frame; the rest is padding
            after = 0
        per_frame = self._rate / self._fps
        silence = round(before * per_frame), round(after * per_frame)
        length = max(0, len(self._wave) - self._shift)
        first, last = (self._time(index) for index in (ordered[0], ordered[-1]))
        begin, end = _bounds(first, last=last, rate=self._rate, fps=self._fps, samples=length)
        excerpt = self._amid_silence(begin, max(begin, end), silence)
        missing = self._length - len(excerpt)
        if self._front_end.takes_context and missing > 0 and not any(silence):
            excerpt = self._samples(begin - missing // 2, end + missing - missing // 2)
        return self._front_end.cut(excerpt, backwards)

    def _time(self, index: int) -> float:
        return index * (1.0 / self._fps) if self.times is None else self.times[index]

    def _amid_silence(self, begin: int, end: int, silence: tuple[int, int]) -> np.ndarray:
        """Returns samples with silence before and after; no more than the middle that the buffer holds."""
        length = silence[0] + end - begin + silence[1]
        skipped = max(0, length - self._length)
        self._cut += length > self._length >= self._regular + 1
        first, last = skipped // 2 - silence[0], length - (skipped - skipped // 2) - silence[0]
        zeros = [max(0, -first), max(0, last - (end - begin))]
        return np.pad(self._samples(begin + max(0, first), begin + min(end - begin, last)), zeros)

    def _samples(self, begin: int, end: int) -> np.ndarray:
        """Returns samples counted from the time of the first frame; silence outside the waveform."""
        begin, end = begin + self._shift, max(begin, end) + self._shift
        piece = np.asarray(self._wave[max(0, begin) : max(0, end)])
        before = min(max(0, -begin), end - begin)
        return np.pad(piece, (before, end - begin - before - len(piece)))


def _fitted(sound: Sound, frames: int, fps: float, front_end: FrontEnd) -> tuple[Sound, str]:
    """Returns a sound whose clips are too long for the front end at its fallback rate, and a warning."""
    rate, length = front_end.fallback_rate, front_end.length
    words = [f"{frames} frames at {fps:.3g} fps of {sound.rate} Hz sound do not fit {length} samples"]
    if sound.rate > rate:
        sound = resample(sound, rate)
        words.append(f"resampled to {rate} Hz")
    if frames * sound.rate / fps > length:
        words.append("only the middle of each clip's sound is kept")
    return sound, words[0] + ": " + ", and ".join(words[1:])


def _repeats(frames: list[int]) -> int:
    """Returns how often the first index comes again at once."""
    count = 0
    while count + 1 < len(frames) and frames[count + 1] == frames[0]:
        count += 1
    return count
