"""Sound of a file or in memory as a mono waveform, float32 in [-1, 1]."""

from __future__ import annotations

import numbers
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.media.clip_sound import Sound
from avsal_jax.media.sound_frames import HIGHEST_RATE, INTEGER_SAMPLES, LOWEST_RATE, SoundMissingError
from avsal_jax.media.sound_levels import Levels
from avsal_jax.media.sound_stream import SoundStream

_IN_MEMORY = 1 << 26  # samples; 23 minutes at 48,000 Hz
_PIECE = 1 << 20  # samples


def read_sound(path) -> Sound:
    """Decodes the audio stream of a file once, as the mean of its channels at its own rate.

    Samples stored as floats are decoded twice, because their scale is determined from all of them.

    `SoundStream` documents how changes within a stream are handled. The samples of a long sound are in a
    temporary file.

    Raises:
      SoundMissingError: the file has no audio stream, or one without a sample.
      AvsalError: the file cannot be read, or its sound cannot be decoded.
    """
    stream = SoundStream(path)
    with tempfile.TemporaryFile() as file:
        blocks, buffered, count = [], 0, 0
        for block in stream:
            blocks.append(np.ascontiguousarray(block, np.float32))
            buffered, count = buffered + len(block), count + len(block)
            if buffered > _IN_MEMORY:
                file.writelines(blocks)
                blocks, buffered = [], 0
        if not count:
            raise _empty_stream_error(stream)
        wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        if file.tell():
            file.write(wave)
            file.flush()
            wave = np.memmap(file, np.float32, "r", shape=(count,))
    return Sound(wave, rate=stream.rate, start=stream.start, notes=stream.notes)


def _empty_stream_error(stream: SoundStream) -> AvsalError:
    if stream.damaged:
        return AvsalError(f"the sound of {stream.path} cannot be decoded: it is damaged or encrypted")
    return SoundMissingError(f"{stream.path} has an audio stream without sound")


def envelope(sound, points_per_second: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Returns (times in seconds, largest absolute value around each) of a sound.

    Args:
      sound: a `Sound`, or a file, which is decoded in pieces, so that memory grows only with the points.
    """
    peaks: list[float] = []
    rest, step = np.zeros(0, np.float32), 1
    stream = _Pieces(sound) if isinstance(sound, Sound) else SoundStream(sound)
    for piece in stream:
        step = max(1, stream.rate // points_per_second)
        wave = np.concatenate([rest, np.abs(piece)])
        full_end = len(wave) // step * step
        peaks += wave[:full_end].reshape(-1, step).max(1).tolist()
        rest = wave[full_end:]
    if len(rest):
        peaks.append(float(rest.max()))
    return stream.start + np.arange(len(peaks)) * step / max(1, stream.rate), np.array(peaks)


class _Pieces:
    """Yields the samples of a `Sound` in blocks, as `SoundStream` does for a file."""

    def __init__(self, sound: Sound):
        self._wave, self.rate, self.start = sound.wave, sound.rate, sound.start

    def __iter__(self) -> Iterator[np.ndarray]:
        for begin in range(0, len(self._wave), _PIECE):
            yield np.asarray(self._wave[begin : begin + _PIECE])


def is_silent(path) -> bool:
    """Returns whether every sample of a file's sound is zero. Reading stops after the first other sample.

    Raises:
      AvsalError: the file cannot be read, or has no sound.
    """
    return not any(piece.any() for piece in SoundStream(path))


def read_own_sound(
    path: pathlib.Path | None, read: Callable[[pathlib.Path], Sound] = read_sound
) -> tuple[Sound | None, str]:
    """Returns (sound of a picture, reason); the sound is None for silence.

    The reason is "" unless the sound cannot be decoded. One rule for all commands: a video does not fail
    because its sound is missing or cannot be decoded.

    Args:
      path: the file with the sound, or None where the picture has none.
      read: `read_sound`, or a function with the same contract.
    """
    try:
        return (None, "") if path is None else (read(path), "")
    except SoundMissingError:
        return None, ""
    except AvsalError as error:
        return None, str(error)


def clean_sound(wave, rate: float) -> Sound:
    """Returns a waveform in memory as `read_sound` would return it from a file.

    Args:
      wave: [samples]; floats in [-1, 1], or integers of 8 (unsigned), 16 or 32 bits at full scale.
      rate: 1,000 to 1,000,000 Hz, as of a file.

    Raises:
      AvsalError: another shape, type or rate.
    """
    wave = np.asarray(wave)
    if wave.ndim != 1 or not isinstance(rate, numbers.Real) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AvsalError(
            f"sound is a mono waveform [samples] with its rate, {LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz; got "
            f"shape {wave.shape} and rate {rate}"
        )
    if wave.dtype.name in INTEGER_SAMPLES:
        zero, scale = INTEGER_SAMPLES[wave.dtype.name]
        return Sound((wave.astype(np.float32) - zero) * np.float32(1 / scale), round(rate))
    if wave.dtype.kind != "f":
        raise AvsalError(f"sound is float in [-1, 1], or uint8, int16 or int32; got {wave.dtype.name}")
    levels = Levels()
    levels.look(wave)
    levels.decide()
    wave = levels.apply(wave)
    return Sound(wave, round(rate), notes=tuple(f"the sound: {line}" for line in levels.notes))
