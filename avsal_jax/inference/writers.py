"""Files that a prediction leaves: numbered map images, and an overlay video with the sound."""

from __future__ import annotations

import fractions
import pathlib

import av
import numpy as np
from PIL import Image

from avsal_jax.data.video import VideoInfo, open_container

_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}  # what mp4 holds as it is


class MapWriter:
    """Writes `%06d.png`, 8-bit grey, numbered from 1."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        folder.mkdir()

    def write(self, index: int, grey: np.ndarray) -> None:
        """Writes the map of frame `index` (from 0), uint8 [H, W]."""
        Image.fromarray(grey).save(self._folder / f"{index + 1:06d}.png", compress_level=1)


class OverlayWriter:
    """Encodes frames as H.264 in MP4, with the times and the sound of their source.

    Args:
      path: the file to write.
      source: of the video that the frames come from.
      height, width: of the frames; an odd size is extended by a pixel, as the encoder needs.
    """

    def __init__(self, path: pathlib.Path, source: VideoInfo, height: int, width: int):
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._time_base = source.time_base
        self._out = av.open(str(path), "w", format="mp4")
        self._video = self._out.add_stream("libx264", rate=source.rate)
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"preset": "veryfast", "crf": "20"}
        self._video.codec_context.time_base = source.time_base
        self._sound = _SoundCopy(source.path, self._out) if source.has_sound else None
        self._shift = None

    def write(self, pts: int, image: np.ndarray) -> None:
        """Adds a frame: RGB uint8 [H, W, 3], `pts` in the time base of the source."""
        if self._shift is None:
            first = pts * self._time_base
            start = min(first, self._sound.start) if self._sound and self._sound.start is not None else first
            self._shift = round(start / self._time_base)
            if self._sound:
                self._sound.shift = start
        if any(map(any, self._padding)):
            image = np.pad(image, self._padding, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = pts - self._shift, self._time_base
        self._out.mux(self._video.encode(frame))
        if self._sound:
            self._sound.copy_until(pts * self._time_base)

    def close(self) -> None:
        """Writes what is left of picture and sound, and the index."""
        self._out.mux(self._video.encode(None))
        if self._sound:
            self._sound.copy_until(None)
        self._out.close()

    def abort(self) -> None:
        """Lets go of the file, which is not complete."""
        self._out.close()
        if self._sound:
            self._sound.close()


class _SoundCopy:
    """Moves the audio stream of a file into another, in step with its picture."""

    def __init__(self, source: pathlib.Path, out):
        self._container = open_container(source)
        self._stream = self._container.streams.best("audio")
        name = self._stream.codec_context.name
        self._encode = name not in _COPIED_AUDIO
        if self._encode:
            self._target = out.add_stream("aac", rate=self._stream.codec_context.sample_rate)
        else:
            self._target = out.add_stream_from_template(self._stream)
        self._out = out
        self._packets = self._container.demux(self._stream)
        self._next = next(self._packets, None)
        first = self._next.pts if self._next is not None else None
        self.start = None if first is None else first * self._stream.time_base
        self.shift = fractions.Fraction(0)

    def copy_until(self, time: fractions.Fraction | None) -> None:
        """Writes the packets that begin before `time` (seconds in the source), or all that are left."""
        while self._next is not None:
            begin = self._next.pts
            if time is not None and begin is not None and begin * self._stream.time_base > time:
                return
            self._write(self._next)
            try:
                self._next = next(self._packets, None)
            except av.error.FFmpegError:  # the sound breaks off; the picture goes on
                self._next = None
        self.close()

    def close(self) -> None:
        self._container.close()

    def _write(self, packet) -> None:
        shift = round(self.shift / self._stream.time_base)
        if not self._encode:
            if packet.dts is None:  # the flush at the end of the stream
                return
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._target
            self._out.mux(packet)
            return
        for frame in packet.decode():
            frame.pts = None if frame.pts is None else frame.pts - shift
            self._out.mux(self._target.encode(frame))
        if packet.dts is None:
            self._out.mux(self._target.encode(None))
