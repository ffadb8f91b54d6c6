"""Video files as streams of frames: decoding (PyAV), times, resizing for a network."""

from __future__ import annotations

import dataclasses
import fractions
import pathlib
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image

from avsal_jax.errors import AvsalError


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a container says of its video stream, before decoding.

    Attributes:
      path: the file.
      rate: average frames per second.
      time_base: seconds per unit of `Frame.pts`.
      frames: number of frames that the container promises, or an estimate; None if it says nothing.
      has_sound: whether there is an audio stream.
    """

    path: pathlib.Path
    rate: fractions.Fraction
    time_base: fractions.Fraction
    frames: int | None
    has_sound: bool


@dataclasses.dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
      index: from 0.
      pts: presentation time in units of `VideoInfo.time_base`; strictly rising.
      image: RGB uint8 [H, W, 3], upright.
    """

    index: int
    pts: int
    image: np.ndarray


class Video:
    """The frames of a video file, in order of presentation.

    `info` is known at once; iterate it once for the frames. `damaged` counts packets that could not
    be decoded and were passed over.

    Raises:
      AvsalError: the file is missing, empty, no video, without a video stream, or without a frame.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.damaged = 0
        container = open_container(self.path)
        try:
            stream = _video_stream(container, self.path)
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
            if not rate or not stream.time_base:
                raise AvsalError(f"{self.path} states no frame rate")
            count = stream.frames
            if not count and container.duration:
                count = round(container.duration / av.time_base * rate)
            self.info = VideoInfo(
                self.path, rate, stream.time_base, count or None, bool(container.streams.audio)
            )
        finally:
            container.close()

    def __iter__(self) -> Iterator[Frame]:
        index, last, size = 0, None, None
        with open_container(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            for decoded in self._decoded(container, stream):
                image = _upright(decoded)
                size = size or image.shape
                if image.shape != size:
                    raise AvsalError(
                        f"{self.path} changes its frame size from {size[1]}x{size[0]} to "
                        f"{image.shape[1]}x{image.shape[0]} at frame {index + 1}; split it there first"
                    )
                pts = decoded.pts if decoded.pts is not None else self._pts_after(last)
                last = pts if last is None or pts > last else last + 1
                yield Frame(index, last, image)
                index += 1
        if index == 0:
            raise AvsalError(f"{self.path} has no frame that can be decoded")

    def _decoded(self, container, stream):
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                raise AvsalError(f"{self.path} cannot be read to its end: {error.strerror}") from error
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            yield from frames

    def _pts_after(self, last: int | None) -> int:
        step = 1 / (self.info.rate * self.info.time_base)
        return 0 if last is None else last + max(1, round(step))


def open_container(path: pathlib.Path):
    """Opens a media file with PyAV; AvsalError with one line where that fails."""
    if not path.exists():
        raise AvsalError(f"there is no file {path}")
    if path.is_dir():
        raise AvsalError(f"{path} is a folder, not a video file")
    if path.stat().st_size == 0:
        raise AvsalError(f"{path} is empty")
    try:
        return av.open(str(path.resolve()), metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise AvsalError(
            f"{path} is not a video that can be read, or is cut off: {error.strerror}"
        ) from error
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error


def resize_frame(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns RGB uint8 [height, width, 3] by Pillow's bilinear filter with antialiasing.

    This is what torchvision's Resize did on PIL images in the public code; the aspect ratio is lost.
    """
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _video_stream(container, path):
    stream = container.streams.best("video")
    if stream is None:
        raise AvsalError(f"{path} has no video stream")
    return stream


def _upright(frame) -> np.ndarray:
    """RGB with the rotation of the display matrix (counter-clockwise degrees) applied."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
