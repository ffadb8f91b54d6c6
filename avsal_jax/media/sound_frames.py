"""The decoded audio of a file, frame by frame, as arrays: any codec, any layout; damaged packets are skipped.

PyAV's frames do not leave this module. PyAV reads beyond the planes of planar frames with eight or more
channels, and frees the channel names of a custom order (such as FR before FL in CAF and MOV) twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import mmap
import pathlib
import re
from collections.abc import Iterator

import av
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.media.streams import may_leap
from avsal_jax.media.video import open_container

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # Hz
_MAX_DAMAGED_RUN = 1000  # consecutive packets that fail before decoding stops
_GENERIC_INDEX = 0x100  # AVFMT_GENERIC_INDEX: formats without timestamps, such as mp3, adts, flac and wav
_MOST_PLANES = 7  # of a frame that PyAV reads correctly
# Type -> (zero, full scale); floats have neither.
INTEGER_SAMPLES = {"uint8": (128, 2**7), "int16": (0, 2**15), "int32": (0, 2**31)}
_INTEGERS = {"u8": "uint8", "s16": "int16", "s32": "int32"}
_FLOATS = ("flt", "dbl")


@dataclasses.dataclass(frozen=True)
class SoundFrame:
    """Some thousand samples.

    Attributes:
      samples: [n, channels]; floats unchanged, integers as float32 in [-1, 1].
      rate: Hz.
      time: seconds on the file's clock, or None.
      channels: their names, such as FL or LFE.
    """

    samples: np.ndarray
    rate: int
    time: float | None
    channels: tuple[str, ...]


class SoundFrames:
    """The frames of a file's audio stream; may be iterated more than once.

    The file remains open until the first iteration ends. Later iterations open it again.

    Args:
      path: the file.
      container: the file, opened by PyAV and not yet read; None to open it. The first iteration closes it.

    Attributes:
      damaged: packets of the last iteration that could not be decoded.
      skipped: a line if the container's best audio stream has no decoder and a different stream is read, or
        None.
      untimed: whether the format has no timestamps, so that times are computed from sample counts.
      may_leap: whether timestamps of the format may restart anywhere (`streams.may_leap`).
      stores_floats: whether samples are uncompressed or lossless floats, which may have any value.

    Raises:
      AvsalError: the file cannot be read, or has no audio stream that can be decoded.
    """

    def __init__(self, path, container=None):
        self._path, self.damaged = pathlib.Path(path), 0
        container = container or open_container(self._path)
        try:
            stream, self.skipped = audio_stream(container, self._path)
        except BaseException:
            container.close()
            raise
        context = stream.codec_context
        self.untimed = bool(container.format.flags & _GENERIC_INDEX)
        self.may_leap = may_leap(container)
        form = context.format and _packed(context.format)
        self.stores_floats = form in _FLOATS and context.codec.lossless
        self._container = container  # for the first iteration

    def __iter__(self) -> Iterator[SoundFrame]:
        self.damaged = 0
        samples, layout, names = _Samples(), None, ()
        for frame in self._decoded():
            if not frame.samples or not frame.layout.nb_channels:
                continue
            if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
                raise AvsalError(
                    f"the sound of {self._path} cannot be decoded: it states {frame.sample_rate} Hz; "
                    f"{LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz are supported"
                )
            if frame.layout.name != layout:
                layout, names = frame.layout.name, tuple(channel.name for channel in frame.layout.channels)
            yield SoundFrame(samples(frame), rate=frame.sample_rate, time=frame.time, channels=names)

    def _decoded(self):
        """Yields PyAV's frames. Chained Ogg files are read one by one if FFmpeg stops at a format change."""
        container, self._container = self._container or open_container(self._path), None
        with container:
            try:
                yield from self._of(container)
                return
            except av.error.PatchWelcomeError:
                if container.format.name != "ogg":
                    return
        for begin, end in _links(self._path)[1:]:
            part = f"subfile,,start,{begin},end,{end},,:{self._path.resolve()}"
            with contextlib.suppress(av.error.FFmpegError), av.open(part, format="ogg") as container:
                yield from self._of(container)

    def _of(self, container):
        """Yields frames; restarts the demuxer after data that it cannot read."""
        stream, _ = audio_stream(container, self._path)
        decoder, packets, run = stream.codec_context, container.demux(stream), 0
        while run <= _MAX_DAMAGED_RUN:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.PatchWelcomeError:
                raise
            except av.error.FFmpegError:
                packets, run, self.damaged = container.demux(stream), run + 1, self.damaged + 1
                continue
            try:
                frames = decoder.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                decoder, frames = self._decode_retried(decoder, packet)
            run = 0 if frames else run + 1
            yield from frames

    def _decode_retried(self, decoder, packet) -> tuple:
        """Returns (decoder, frames) of a packet that failed, with a new decoder if its codec differs."""
        name = _named_codec(bytes(packet)[:8], decoder.name.removesuffix("float"))
        if name is not None:
            with contextlib.suppress(av.error.FFmpegError):
                other = av.CodecContext.create(name, "r")
                return other, other.decode(packet)
        self.damaged += 1
        return decoder, []


class SoundMissingError(AvsalError):
    """A file has no audio stream, or one without a sample."""


def audio_stream(container, path) -> tuple:
    """Returns (audio stream to read, note or None): the best, or the first that has a decoder.

    Raises:
      SoundMissingError: the file has no audio stream.
      AvsalError: there is no decoder for any of its audio streams.
    """
    best = container.streams.best("audio")
    if best is None and not container.streams.audio:
        raise SoundMissingError(f"{path} has no sound")
    first = best if best is not None else container.streams.audio[0]
    for stream in (first, *container.streams.audio):
        if stream.codec_context is None:
            continue
        _forget_names(stream.codec_context)
        if stream is first or stream.index == first.index:
            return stream, None
        return stream, f"there is no decoder for stream {first.index}: stream {stream.index} is used"
    raise AvsalError(f"the sound of {path} cannot be decoded: there is no decoder for its codec")


def _forget_names(context) -> None:
    """Replaces a layout whose names PyAV would free twice by its channel count, before decoding starts."""
    layout = context.layout
    count, has_names = layout.nb_channels, " channels (" in layout.name
    del layout  # which frees the names that the context still points to
    if has_names:
        context.layout = f"{count} channels"


def _named_codec(data: bytes, codec: str) -> str | None:
    """Returns the codec of a packet that `codec` rejected, if its first bytes show another; else None.

    Joined transport streams may change their codec. For FLAC, a new decoder of the same codec is needed,
    because a decoder rejects a change of rate or channels.
    """
    if codec == "flac":
        return codec
    if len(data) < 6:
        return None
    name = None
    if data[:2] == b"\x0b\x77":
        name = "ac3" if data[5] >> 3 <= 10 else "eac3"
    elif data[0] == 0xFF and data[1] >> 4 == 0xF:
        name = {0: "aac", 1: "mp3", 2: "mp2"}.get(data[1] >> 1 & 3)
    return None if name == codec else name


def _links(path: pathlib.Path) -> list[tuple[int, int]]:
    """Returns the bytes [begin, end) of each of the files that a chained Ogg file is made of."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begins, after = [], -1
        for match in re.finditer(rb"OggS\x00\x02", data):  # a page that begins a stream
            begin = match.start()
            if begin != after:  # else the same file has several streams
                begins.append(begin)
            segments = data[begin + 26] if begin + 26 < len(data) else 0
            after = begin + 27 + segments + sum(data[begin + 27 : begin + 27 + segments])
        return list(itertools.pairwise([*begins, len(data)]))


def _packed(sample_format) -> str:
    return sample_format.name.removesuffix("p")


class _Samples:
    """PyAV's frames -> their samples."""

    def __init__(self):
        self._form, self._packer = None, None

    def __call__(self, frame) -> np.ndarray:
        channels, kind = frame.layout.nb_channels, _packed(frame.format)
        planar = frame.format.is_planar
        if (planar and channels > _MOST_PLANES) or kind not in (*_INTEGERS, *_FLOATS):
            return self._repacked(frame, channels)
        array = frame.to_ndarray()
        array = array.T if planar else array.reshape(-1, channels)
        if kind in _FLOATS:
            return array
        zero, scale = INTEGER_SAMPLES[_INTEGERS[kind]]
        return (array.astype(np.float32) - zero) * np.float32(1 / scale)

    def _repacked(self, frame, channels: int) -> np.ndarray:
        """Returns the samples through FFmpeg's resampler, which supports up to 64 channels."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            self._form, self._packer = form, av.AudioResampler(format="flt")
        try:
            packed = [piece.to_ndarray().reshape(-1, channels) for piece in self._packer.resample(frame)]
        except (av.error.FFmpegError, ValueError) as error:
            raise AvsalError(
                f"sound of {channels} channels of {frame.format.name} samples cannot be decoded"
            ) from error
        return np.concatenate([np.zeros((0, channels), np.float32), *packed])
