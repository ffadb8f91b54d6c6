"""Sound: reading a stream as a mono waveform, and cutting the excerpt that goes with a clip.

The arithmetic is that of STAViS (atsiami/STAViS @71fd51f) and ViNet (samyak0210/ViNet @2a52666), which
agree. Rates in Hz; waveforms are float32 in [-1, 1].
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator, Sequence

import av
import numpy as np

from avsal_jax.data import log_mel
from avsal_jax.data.video import open_container
from avsal_jax.errors import AvsalError
from avsal_jax.specs import AudioSpec

SOUNDNET_SCALE = 256.0  # SoundNet was trained on 24-bit samples times 2^-23 read as 32-bit: +-256
_SHORTEST_GAP, _LONGEST_GAP = 0.02, 600.0  # seconds; times in Matroska are rounded to 0.001
FALLBACK_RATE = 22_050  # SoundNet's own; the published buffers are sized for it


@dataclasses.dataclass(frozen=True)
class Sound:
    """A mono waveform.

    Attributes:
      wave: float32 [samples] in [-1, 1]; or what has a length and gives such samples for a slice, so that
        a long sound need not be in memory.
      rate: Hz.
      start: seconds; presentation time of the first sample, on the clock of its file.
    """

    wave: Sequence
    rate: int
    start: float = 0.0


def read_sound(path) -> Sound:
    """Reads the audio stream of a file once, as the mean of its channels at its own rate.

    Raises:
      AvsalError: the file cannot be read, or has no sound.
    """
    pieces = list(mono_pieces(path))
    if not pieces:
        raise AvsalError(f"{path} has an audio stream without sound")
    _, rate, start = pieces[0]
    return Sound(np.concatenate([piece for piece, _, _ in pieces]), rate, start)


def has_sound(path) -> bool:
    """Returns whether a file has a sample of sound; reads no further than the first.

    Raises:
      AvsalError: the file cannot be read.
    """
    with open_container(pathlib.Path(path)) as container:
        if container.streams.best("audio") is None:
            return False
    return next(mono_pieces(path), None) is not None


def envelope(path, points_per_second: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Returns (times in seconds, largest absolute value around each) of a file's sound.

    Reads the stream piece by piece: memory grows by the points alone.
    """
    peaks: list[float] = []
    left, rate, start = np.zeros(0, np.float32), 1, 0.0
    for piece, rate, start in mono_pieces(path):  # noqa: B007
        step = max(1, rate // points_per_second)
        wave = np.concatenate([left, np.abs(piece)])
        whole = len(wave) // step * step
        peaks += wave[:whole].reshape(-1, step).max(1).tolist()
        left = wave[whole:]
    if len(left):
        peaks.append(float(left.max()))
    step = max(1, rate // points_per_second)
    return start + np.arange(len(peaks)) * step / rate, np.array(peaks)


def is_silent(path) -> bool:
    """Returns whether every sample of a file's sound is zero; reads no further than the first that is not.

    Raises:
      AvsalError: the file cannot be read, or has no sound.
    """
    return not any(piece.any() for piece, _, _ in mono_pieces(path))


def mono_pieces(path) -> Iterator[tuple[np.ndarray, int, float]]:
    """Yields a file's sound piece by piece: (float32 samples, rate in Hz, time of the file's first sample).

    Samples are the mean of the channels, as VGGish takes; pieces are as the file has them, some thousand
    samples long. Where its times leave a gap, as a damaged packet does, there is silence, so that what
    follows keeps its time; a jump of over ten minutes is taken for another clock and leaves none.

    Raises:
      AvsalError: the file cannot be read, or has no audio stream.
    """
    path = pathlib.Path(path)
    with open_container(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise AvsalError(f"{path} has no sound")
        rate, start, count = stream.codec_context.sample_rate, None, 0
        resampler = av.AudioResampler(format="fltp", rate=rate)
        packets = container.demux(stream)
        while True:
            try:
                decoded = next(packets).decode()
            except (StopIteration, av.error.EOFError):
                break
            except av.error.FFmpegError:
                packets = container.demux(stream)
                continue
            for frame in decoded:
                start = float(frame.time or 0.0) if start is None else start
                missing = round((frame.time - start) * rate) - count if frame.time is not None else 0
                if max(frame.samples / 2, _SHORTEST_GAP * rate) < missing < _LONGEST_GAP * rate:
                    yield np.zeros(missing, np.float32), rate, start
                    count += missing
                count += frame.samples
                for planar in resampler.resample(frame):
                    yield planar.to_ndarray().mean(0), rate, start
        for planar in resampler.resample(None):
            yield planar.to_ndarray().mean(0), rate, start or 0.0


def resample(sound: Sound, rate: int) -> Sound:
    """Returns `sound` at another rate, by librosa's `soxr_hq`; computed where its samples are asked for."""
    if sound.rate == rate:
        return sound
    return Sound(_Resampled(sound.wave, sound.rate, rate), rate, sound.start)


class _Resampled(Sequence):
    """A waveform at another rate, as a sequence that gives slices.

    A slice is computed from the samples around it, from a moment on at which samples of both rates fall
    together; it equals the same slice of the whole waveform's resampling to 1e-6 (2e-5 at rates that share
    no factor, as 22047 and 22050).
    """

    _MARGIN = 0.1  # seconds on both sides; the filter of soxr_hq is a tenth of that long

    def __init__(self, wave: Sequence, rate: int, target: int):
        shared = math.gcd(rate, target)
        self._wave, self._rate, self._target = wave, rate, target
        self._from, self._to = rate // shared, target // shared  # so many samples become so many

    def __len__(self) -> int:
        return math.ceil(len(self._wave) * self._to / self._from)

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        if end <= begin:
            return np.zeros(0, np.float32)
        import librosa  # slow to import

        margin = math.ceil(self._MARGIN * self._rate)
        block = max(0, begin * self._from // self._to - margin) // self._from
        last = end * self._from // self._to + 1 + margin
        piece = np.asarray(self._wave[block * self._from : last])
        wave = librosa.resample(piece, orig_sr=self._rate, target_sr=self._target, res_type="soxr_hq")
        return wave[begin - block * self._to : end - block * self._to]


def excerpt_bounds(first: int, last: int, rate: float, fps: float, samples: int) -> tuple[int, int]:
    """Returns the samples [begin, end) of frames `first`..`last`, counted from 1.

    A frame owns the samples nearer to its time than a frame apart; the end is inclusive in the public
    code, so `end` here is one more. Order of operations in float64 as there: (f - 1) * (1 / fps) * rate.

    Args:
      rate: samples per second; fps: frames per second; samples: length of the waveform.
    """
    half = rate / fps / 2
    begin = math.trunc(max(0.0, (first - 1) * (1.0 / fps) * rate - half))
    end = math.trunc(min(float(samples), abs((last - 1) * (1.0 / fps) * rate + half)))
    return begin, min(end + 1, samples)


def centred(excerpt: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Returns float32 [spec.samples]: the windowed excerpt in the middle of a silent buffer, times 256.

    The Hann window has the excerpt's own length. An even excerpt of N samples lies at
    [c - N/2, c + N/2) around c = samples // 2, an odd one at [c - N//2, c + N//2 + 1). Of an excerpt
    longer than the buffer the middle is kept.
    """
    if len(excerpt) > spec.samples:
        excerpt = _in_the_middle(excerpt, spec.samples)
    window = _hann(len(excerpt)) if spec.window == "hann" else 1.0
    return _in_the_middle(excerpt * window * SOUNDNET_SCALE, spec.samples).astype(np.float32)


def silence(spec: AudioSpec) -> np.ndarray:
    """Returns float32 [L] or [P, 96, 64]: what a network hears where there is no sound."""
    nothing = Sound(np.zeros(0, np.float32), spec.sample_rate or FALLBACK_RATE)
    return ClipSound(nothing, spec, frames=1, fps=25.0).clip([0], 1)


def _in_the_middle(wave: np.ndarray, length: int) -> np.ndarray:
    """Returns `length` samples: `wave` amid silence, or the middle of a longer one."""
    if len(wave) > length:
        spare = len(wave) - length
        return wave[spare // 2 : spare // 2 + length]
    buffer = np.zeros(length, wave.dtype)
    at = length // 2 - len(wave) // 2
    buffer[at : at + len(wave)] = wave
    return buffer


@functools.lru_cache(maxsize=256)
def _hann(length: int) -> np.ndarray:
    return np.hanning(length)


class ClipSound:
    """The sound of any clip of one video.

    Args:
      sound: the waveform; resampled to 16,000 Hz for log-mel, from a higher rate to 22,050 Hz where a clip
        would not fit the buffer of a waveform.
      spec: the buffer that the network takes, and the rate that it takes it at, if it names one.
      frames: T, frames of a clip.
      fps: frames per second of the video that the clips are cut from.
      video_start: seconds; presentation time of its first frame, on the clock of `sound.start`.

    `warning` says in one line what had to be changed, or is None.
    """

    def __init__(self, sound: Sound, spec: AudioSpec, frames: int, fps: float, video_start: float = 0.0):
        self.warning = None
        self._length = spec.samples
        if spec.kind == "logmel":
            sound = resample(sound, log_mel.RATE)
            self._length = log_mel.samples_for(spec.patches, spec.hop)
        else:
            sound = resample(sound, spec.sample_rate or sound.rate)
            if frames * sound.rate / fps > spec.samples:
                sound, self.warning = _fitted(sound, frames, fps, spec.samples)
        self._wave, self._rate = sound.wave, sound.rate
        self._spec, self._fps = spec, fps
        # Samples before the first frame are cut, a late start is filled with silence.
        self._shift = round((video_start - sound.start) * sound.rate)

    def clip(self, frames: list[int], count: int | None) -> np.ndarray:
        """Returns float32 [L] or [P, 96, 64] (`AudioSpec.shape`): the sound of a clip, reversed where it is.

        Args:
          frames: indices from 0 in the order of the clip, as `inference.windows.window` gives them. Runs
            of one index at an end are frames that padding invented; their sound is silence.
          count: number of frames of the video, or None while it is unknown.
        """
        backwards = frames[0] > frames[-1]
        ordered = frames[::-1] if backwards else frames
        before = _repeats(ordered) if ordered[0] == 0 else 0
        after = _repeats(ordered[::-1]) if count is not None and ordered[-1] == count - 1 else 0
        if before == len(ordered) - 1:  # one frame alone, all the others are invented
            after = 0
        per_frame = self._rate / self._fps
        silence = round(before * per_frame), round(after * per_frame)
        length = len(self._wave) - self._shift
        begin, end = excerpt_bounds(ordered[0] + 1, ordered[-1] + 1, self._rate, self._fps, max(0, length))
        excerpt = np.concatenate(
            [np.zeros(silence[0], np.float32), self._samples(begin, end), np.zeros(silence[1], np.float32)]
        )
        if self._spec.kind == "waveform":
            buffer = centred(excerpt, self._spec)
            return buffer[::-1] if backwards else buffer
        missing = self._length - len(excerpt)
        if self._spec.pad_rule == "context" and missing > 0 and not any(silence):
            excerpt = self._samples(begin - missing // 2, end + missing - missing // 2)
        wave = _in_the_middle(excerpt, self._length)
        wave = wave[::-1] if backwards else wave
        return log_mel.log_mel_patches(wave, self._spec.patches, self._spec.hop)

    def _samples(self, begin: int, end: int) -> np.ndarray:
        """Samples counted from the time of the first frame; silence where there are none."""
        begin, end = begin + self._shift, max(begin, end) + self._shift
        piece = np.asarray(self._wave[max(0, begin) : max(0, end)])
        before = min(max(0, -begin), end - begin)
        return np.pad(piece, (before, end - begin - before - len(piece)))


def _fitted(sound: Sound, frames: int, fps: float, samples: int) -> tuple[Sound, str]:
    """Returns a sound whose clips are too long for the buffer at the fallback rate, and what to say of it."""
    words = [f"{frames} frames at {fps:.3g} fps of {sound.rate} Hz sound do not fit {samples} samples"]
    if sound.rate > FALLBACK_RATE:
        sound = resample(sound, FALLBACK_RATE)
        words.append(f"resampled to {FALLBACK_RATE} Hz")
    if frames * sound.rate / fps > samples:
        words.append("only the middle of each clip's sound is kept")
    return sound, words[0] + ": " + ", and ".join(words[1:])


def _repeats(frames: list[int]) -> int:
    """Returns how often the first index comes again at once."""
    count = 0
    while count + 1 < len(frames) and frames[count + 1] == frames[0]:
        count += 1
    return count
