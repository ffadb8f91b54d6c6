"""The sound of an overlay video: packets of its source if mp4 supports them, else re-encoded as AAC."""

from __future__ import annotations

import contextlib
import fractions
import pathlib

import av
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.media.sound_frames import audio_stream
from avsal_jax.media.sound_stream import STEP_BACK, SoundStream
from avsal_jax.media.video import open_container

# Codecs that mp4 supports, from containers whose packets have exact times.
_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
_EXACT_CONTAINERS = ("mov,mp4", "matroska")
_ENCODER, _LAYOUT = "aac", "stereo"
_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz, of AAC in any player
_KEPT_RATES = (7_350, *_RATES, 64_000, 88_200, 96_000)  # Hz, which AAC also supports


def open_track(source: pathlib.Path, out, separate: bool) -> SoundTrack:
    """Adds the audio stream of a file to an open mp4 file, to be written interleaved with its picture.

    Args:
      source: the file with the sound.
      out: PyAV's container.
      separate: whether it is a separate file, whose sound begins with the picture.
    """
    try:
        container = open_container(source)
        try:
            kind = _Copied if _copies(container, source) else _Encoded
            return kind(container, source, out=out, separate=separate)
        except BaseException:
            container.close()
            raise
    except AvsalError as error:
        return SoundTrack(f"the overlay has no sound: {error}")


class SoundTrack:
    """The sound of an overlay while it is written; this base class is an overlay without sound.

    Args:
      notes: lines on why there is no sound.

    Attributes:
      damaged: number of packets that could not be read and are skipped.
      notes: lines on changes; complete when all is written.
    """

    damaged = 0
    _start: fractions.Fraction | None = None  # seconds; of the first sample in its file
    _shift = fractions.Fraction(0)  # seconds; the time in the source that the new file begins at
    _separate = False

    def __init__(self, *notes: str):
        self.notes = notes

    def align(self, first_frame: fractions.Fraction) -> fractions.Fraction:
        """Returns the time (seconds in the source) of the start of the new file: that of the earlier stream.

        Sound from a separate file is shifted to begin with the first frame.
        """
        if self._start is None:
            return first_frame
        if self._separate:
            self._shift = self._start
            return first_frame
        self._shift = min(first_frame, self._start)
        return self._shift

    def write_until(self, time: fractions.Fraction | None) -> None:
        """Writes the sound that begins before `time` (seconds in the new file); None for all of the rest."""

    def close(self) -> None:
        """Releases the source."""


class _Copied(SoundTrack):
    """Copies packets without re-encoding."""

    def __init__(self, container, source: pathlib.Path, out, separate: bool):
        super().__init__()
        self._separate, self._out, self._container = separate, out, container
        self._stream, _ = audio_stream(self._container, source)
        self._target, self._trial = out.add_stream_from_template(self._stream), _Trial(self._stream)
        self._packets = self._container.demux(self._stream)
        self._due, self._joined = None, 0  # units: the end of the last packet; what joined files add to times
        self._next = self._following()
        first = self._next.pts if self._next is not None else None
        self._start = None if first is None else first * self._stream.time_base

    def write_until(self, time):
        while self._next is not None:
            begin = (self._next.pts + self._joined) * self._stream.time_base - self._shift
            if time is not None and begin > time:
                return
            self._write(self._next)
            self._next = self._following()
        self.close()

    def _following(self):
        """Returns the next packet with a time, on the clock of the first; None at the end."""
        try:
            packet = next((p for p in self._packets if p.dts is not None and p.pts is not None), None)
        except av.error.FFmpegError:  # the sound ends here; the picture continues
            self.damaged += 1
            return None
        if packet is None:
            return None
        if self._due is not None and _changes_form(packet):
            time = float(self._due * self._stream.time_base)
            self.notes = (
                f"the overlay's sound ends at {time:.2f} s, where that of the source changes its form",
            )
            return None
        if (
            self._due is not None
            and packet.dts + self._joined < self._due - STEP_BACK / self._stream.time_base
        ):
            self._joined = self._due - packet.dts
        return packet

    def _write(self, packet) -> None:
        self._due = packet.dts + self._joined + max(1, packet.duration or 0)
        shift = round(self._shift / self._stream.time_base) - self._joined
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if self._trial.takes(packet):
            packet.stream = self._target
            self._out.mux(packet)
        else:
            self.damaged += 1

    def close(self):
        self._container.close()
        self._trial.close()


class _Encoded(SoundTrack):
    """Decodes the sound and encodes it in stereo."""

    def __init__(self, container, source: pathlib.Path, out, separate: bool):
        self._separate, self._out = separate, out
        self._stream = SoundStream(source, channels=2, container=container)
        blocks = iter(self._stream)
        self._next = next(blocks, None)
        if self._next is None:
            raise AvsalError(f"{source} has an audio stream without sound")
        self._blocks, self._sample_count, self._end_notes = blocks, 0, ()  # samples; a note
        self._rate = rate_for(self._stream.rate)
        if refusal := _refusal(self._rate):
            raise AvsalError(f"{_ENCODER} at {self._rate} Hz is refused: {refusal}")
        self._target = out.add_stream(_ENCODER, rate=self._rate, layout=_LAYOUT)
        self._start = fractions.Fraction(self._stream.start).limit_denominator(1_000_000)

    def write_until(self, time):
        rate = self._stream.rate
        while self._next is not None:
            begin = self._start - self._shift + fractions.Fraction(self._sample_count, rate)
            if time is not None and begin > time:
                return
            block = np.ascontiguousarray(np.clip(self._next, -1, 1), np.float32)
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout=_LAYOUT)
            frame.sample_rate, frame.time_base = rate, fractions.Fraction(1, rate)
            frame.pts = round(begin * rate)
            self._out.mux(self._target.encode(frame))
            self._sample_count += len(block)
            self._next = self._following()
            if self._next is None:
                self._out.mux(self._target.encode(None))

    def _following(self):
        try:
            return next(self._blocks, None)
        except AvsalError as error:
            self._end_notes = (
                f"the overlay's sound ends at {self._sample_count / self._stream.rate:.2f} s: {error}",
            )
            return None

    @property
    def damaged(self):
        return self._stream.damaged

    @property
    def notes(self):
        rate, resampled = self._stream.rate, ()
        if rate != self._rate:
            resampled = (f"the overlay's sound is at {self._rate} Hz; AAC has no {rate} Hz",)
        return (*self._stream.notes, *resampled, *self._end_notes)

    def close(self):
        self._blocks.close()


def rate_for(rate: int) -> int:
    """Returns the rate of AAC in Hz for sound of a rate: the same, or the next above, up to 48,000 Hz."""
    return rate if rate in _KEPT_RATES else min((r for r in _RATES if r >= rate), default=_RATES[-1])


def _changes_form(packet) -> bool:
    """Whether a packet has a new header; always False with PyAV before 16."""
    return hasattr(packet, "has_sidedata") and packet.has_sidedata("new_extradata")


def _copies(container, source: pathlib.Path) -> bool:
    """Whether the packets of a file's sound can be copied into mp4."""
    stream, _ = audio_stream(container, source)
    if stream.codec_context.name not in _COPIED_AUDIO:
        return False
    return container.format.name.startswith(_EXACT_CONTAINERS) and _fits(stream)


def _fits(stream) -> bool:
    """Whether mp4 accepts the header of a stream."""
    try:
        _Trial(stream).close()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


class _Trial:
    """Tests packets with an mp4 file that is discarded, since a refused packet would break the real file."""

    def __init__(self, stream):
        self._file = av.open(_Nowhere(), "w", format="mp4")
        self._target = self._file.add_stream_from_template(stream)
        self._file.start_encoding()

    def takes(self, packet) -> bool:
        """Returns whether the muxer accepts a packet; its times must rise."""
        copy = av.Packet(bytes(packet))
        copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
        copy.time_base, copy.stream = packet.time_base, self._target
        try:
            self._file.mux(copy)
        except av.error.FFmpegError:
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(av.error.FFmpegError):
            self._file.close()


class _Nowhere:
    """A writable file that discards its content."""

    def __init__(self):
        self._at, self._length = 0, 0

    def write(self, data) -> int:
        self._at += len(data)
        self._length = max(self._length, self._at)
        return len(data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._length)[whence]
        return self._at

    def seekable(self) -> bool:
        return True


def _refusal(rate: int) -> str | None:
    """Returns why there is no encoder for the sound, or None."""
    try:
        context = av.CodecContext.create(_ENCODER, "w")
        context.sample_rate, context.layout, context.format = rate, _LAYOUT, "fltp"
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        return str(error)
    return None
