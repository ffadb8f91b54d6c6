"""Files that a prediction leaves: numbered map images, an overlay video with sound, an npz of raw maps."""

from __future__ import annotations

import fractions
import pathlib
import shutil
import zipfile
import zlib

import av
import numpy as np
from PIL import Image

from avsal_jax.data.video import VideoInfo, open_container

# Sound that mp4 holds as it is, from containers whose packets carry exact times; other sound is encoded
# anew.
_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
_EXACT_CONTAINERS = ("mov,mp4", "matroska")


class MapWriter:
    """Writes `%06d.png`, 8-bit grey, numbered from 1."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        folder.mkdir()

    def write(self, index: int, grey: np.ndarray) -> None:
        """Writes the map of frame `index` (from 0), uint8 [H, W]."""
        image = Image.fromarray(grey)
        image.save(self._folder / f"{index + 1:06d}.png", compress_level=1, compress_type=zlib.Z_RLE)


class NpzWriter:
    """Writes `maps.npz` with one array `maps`, float16 [N, H, W], a map at a time."""

    def __init__(self, path: pathlib.Path):
        self._path, self._raw = path, path.with_suffix(".raw")
        self._file = self._raw.open("wb")
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def write(self, saliency: np.ndarray) -> None:
        """Adds a map [H, W] at model size."""
        self._shape = saliency.shape
        self._file.write(np.ascontiguousarray(saliency, np.float16).tobytes())
        self._count += 1

    def close(self) -> None:
        """Puts the maps behind a header that says how many there are."""
        self._file.close()
        header = {"descr": "<f2", "fortran_order": False, "shape": (self._count, *self._shape)}
        with (
            zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("maps.npy", "w", force_zip64=True) as out,
            self._raw.open("rb") as raw,
        ):
            np.lib.format.write_array_header_1_0(out, header)
            shutil.copyfileobj(raw, out, 1 << 20)
        self._raw.unlink()

    def abort(self) -> None:
        """Lets go of the file, which is not complete."""
        self._file.close()


class OverlayWriter:
    """Encodes frames as H.264 in MP4, with the times and the sound of their source.

    Args:
      path: the file to write.
      source: of the video that the frames come from.
      sound: the file whose sound goes with it, or None; another file than the source begins with it.
      height, width: of the frames; an odd size is extended by a pixel, as the encoder needs.
    """

    def __init__(
        self, path: pathlib.Path, source: VideoInfo, sound: pathlib.Path | None, height: int, width: int
    ):
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._time_base = source.time_base
        self._out = av.open(str(path), "w", format="mp4")
        self._video = self._out.add_stream("libx264", rate=source.rate)
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"preset": "veryfast", "crf": "20"}
        self._video.codec_context.time_base = source.time_base
        self._video.codec_context.sample_aspect_ratio = source.pixel_aspect
        self._sound = _SoundCopy(sound, self._out, sound != source.path) if sound else None
        self._shift = None

    def write(self, pts: int, image: np.ndarray) -> None:
        """Adds a frame: RGB uint8 [H, W, 3], `pts` in the time base of the source."""
        if self._shift is None:
            first = start = pts * self._time_base
            if self._sound:
                start = self._sound.align(first)
            self._shift = round(start / self._time_base)
        if any(map(any, self._padding)):
            image = np.pad(image, self._padding, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = pts - self._shift, self._time_base
        self._out.mux(self._video.encode(frame))
        if self._sound:
            self._sound.copy_until(frame.pts * self._time_base)

    def close(self) -> None:
        """Writes what is left of picture and sound, and the index."""
        self._out.mux(self._video.encode(None))
        if self._sound:
            self._sound.copy_until(None)
        self._out.close()

    @property
    def damaged_sound(self) -> int:
        """Packets of sound that could not be read, and are left out."""
        return self._sound.damaged if self._sound else 0

    def abort(self) -> None:
        """Lets go of the file, which is not complete."""
        self._out.close()
        if self._sound:
            self._sound.close()


class _SoundCopy:
    """Moves the audio stream of a file into another, in step with its picture."""

    def __init__(self, source: pathlib.Path, out, separate: bool):
        self._separate, self.damaged = separate, 0
        self._container = open_container(source)
        self._stream = self._container.streams.best("audio")
        name = self._stream.codec_context.name
        exact = self._container.format.name.startswith(_EXACT_CONTAINERS)
        self._encode = name not in _COPIED_AUDIO or not exact
        if self._encode:
            self._target = out.add_stream("aac", rate=self._stream.codec_context.sample_rate)
        else:
            self._target = out.add_stream_from_template(self._stream)
        self._out = out
        self._packets = self._container.demux(self._stream)
        self._next = self._following()
        first = self._next.pts if self._next is not None else None
        self._start = None if first is None else first * self._stream.time_base
        self._shift = fractions.Fraction(0)

    def align(self, first_frame: fractions.Fraction) -> fractions.Fraction:
        """Returns the time (seconds in the source) that the new file begins at: the earlier stream's.

        Sound from a file of its own is moved to begin with the first frame.
        """
        if self._start is None:
            return first_frame
        if self._separate:
            self._shift = self._start
            return first_frame
        self._shift = min(first_frame, self._start)
        return self._shift

    def copy_until(self, time: fractions.Fraction | None) -> None:
        """Writes the packets that begin before `time` (seconds in the new file), or all that are left."""
        while self._next is not None:
            begin = self._next.pts
            if time is not None and begin is not None and begin * self._stream.time_base - self._shift > time:
                return
            self._write(self._next)
            self._next = self._following()
        self.close()

    def _following(self):
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:  # the sound breaks off; the picture goes on
            self.damaged += 1
            return None

    def _decoded(self, packet):
        try:
            return packet.decode()
        except av.error.FFmpegError:
            self.damaged += 1
            return []

    def close(self) -> None:
        self._container.close()

    def _write(self, packet) -> None:
        flush = packet.dts is None  # at the end of the stream
        if self._encode:
            for frame in self._decoded(packet):
                if frame.pts is not None:  # in samples: a container's own unit may be coarser than a frame
                    seconds = frame.pts * frame.time_base - self._shift
                    frame.pts = round(seconds * frame.sample_rate)
                    frame.time_base = fractions.Fraction(1, frame.sample_rate)
                self._out.mux(self._target.encode(frame))
            if flush:
                self._out.mux(self._target.encode(None))
        elif not flush and packet.pts is not None:
            shift = round(self._shift / self._stream.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._target
            self._out.mux(packet)
