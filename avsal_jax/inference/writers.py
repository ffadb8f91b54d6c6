"""Files that a prediction leaves: numbered map images, an overlay video with sound, an npz of raw maps."""

from __future__ import annotations

import pathlib
import shutil
import zipfile
import zlib

import av
import numpy as np
from PIL import Image

from avsal_jax.data.video import VideoInfo
from avsal_jax.inference.sound_track import open_track


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
        self._sound = open_track(sound, self._out, sound != source.path) if sound else None
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
            self._sound.write_until(frame.pts * self._time_base)

    def close(self) -> None:
        """Writes what is left of picture and sound, and the index."""
        self._out.mux(self._video.encode(None))
        if self._sound:
            self._sound.write_until(None)
        self._out.close()

    @property
    def damaged_sound(self) -> int:
        """Packets of sound that could not be read, and are left out."""
        return self._sound.damaged if self._sound else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed about the sound, a line each; complete after `close`."""
        return self._sound.notes if self._sound else ()

    def abort(self) -> None:
        """Lets go of the file, which is not complete."""
        self._out.close()
        if self._sound:
            self._sound.close()
