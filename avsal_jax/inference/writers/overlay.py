"""`--save overlay`: heat colours over the picture, as a video with sound, or as a picture."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from avsal_jax.inference.output import GREY, IMAGE, Item, Output
from avsal_jax.registry import register

if TYPE_CHECKING:
    import numpy as np

    from avsal_jax.media.video import VideoInfo

_VIDEO, _STEM, _FOLDER = "overlay.mp4", "overlay", "overlays"
_LARGEST_JPEG = 65_500  # pixels each way
_QUALITY = 90


@register("output", "overlay")
class Overlay(Output):
    """overlay.mp4: heat colours over the picture, with the times and the sound of the video."""

    files = (_VIDEO, f"{_STEM}.jpg", f"{_STEM}.png", _FOLDER)
    needs = frozenset({GREY, IMAGE})
    is_default = True
    every_frame = True
    has_file_per_picture = True

    def __init__(self, context):
        super().__init__(context)
        self._writer: OverlayWriter | None = None

    def add(self, item: Item) -> list[str] | None:
        """Adds a frame, or writes the picture of a photograph."""
        from avsal_jax.pictures import overlay

        picture = overlay(item.image, item.grey)
        if self.context.info is None:
            return [self._write_picture(item.name, picture)]
        if self._writer is None:
            path, (height, width) = self.path(_VIDEO), item.size
            self._writer = OverlayWriter(
                path, self.context.info, sound=self.context.sound, height=height, width=width
            )
        self._writer.write(item.pts, picture)
        return None

    def _write_picture(self, name: str, picture: np.ndarray) -> str:
        from PIL import Image

        suffix = "png" if max(picture.shape) > _LARGEST_JPEG else "jpg"
        file = f"{_STEM}.{suffix}" if self.context.is_single else f"{_FOLDER}/{name}.{suffix}"
        Image.fromarray(picture).save(self.path(file), quality=_QUALITY)
        return file

    def close(self, ok: bool) -> None:
        """Completes the video, or releases it."""
        if self._writer is not None:
            self._writer.close() if ok else self._writer.abort()

    @property
    def figures(self) -> Mapping[str, int]:
        """Packets of sound that could not be read; complete after `close`."""
        return {} if self._writer is None else {"damaged_sound": self._writer.damaged_sound}

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on changes of the sound; complete after `close`."""
        if self._writer is None:
            return ()
        count, path = self._writer.damaged_sound, self.context.info.path
        lacks = (f"{path}: the overlay lacks {count} damaged packets of sound",) if count else ()
        return (*self._writer.notes, *lacks)


class OverlayWriter:
    """Encodes frames as H.264 in MP4, with the times and the sound of their source.

    Args:
      path: the file to write.
      source: of the video that the frames come from.
      sound: the file with its sound, or None; the sound of a separate file begins with the video.
      height, width: of the frames; an odd size is padded by a pixel, because the encoder needs even sizes.
    """

    def __init__(
        self, path: pathlib.Path, source: VideoInfo, sound: pathlib.Path | None, height: int, width: int
    ):
        import av

        from avsal_jax.inference.sound_track import open_track

        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._time_base = source.time_base
        self._out = av.open(str(path), "w", format="mp4")
        self._video = self._out.add_stream("libx264", rate=source.rate)
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"preset": "superfast", "crf": "20"}
        self._video.codec_context.time_base = source.time_base
        self._video.codec_context.sample_aspect_ratio = source.pixel_aspect
        self._sound = open_track(sound, self._out, sound != source.path) if sound else None
        self._shift = None

    def write(self, pts: int, image: np.ndarray) -> None:
        """Adds a frame: RGB uint8 [H, W, 3], `pts` in the time base of the source."""
        import av
        import numpy as np

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
        """Writes the rest of picture and sound, and the index."""
        self._out.mux(self._video.encode(None))
        if self._sound:
            self._sound.write_until(None)
        self._out.close()

    @property
    def damaged_sound(self) -> int:
        """Number of packets of sound that could not be read and are skipped."""
        return self._sound.damaged if self._sound else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on changes of the sound; complete after `close`."""
        return self._sound.notes if self._sound else ()

    def abort(self) -> None:
        """Releases the file, which is not complete."""
        self._out.close()
        if self._sound:
            self._sound.close()
