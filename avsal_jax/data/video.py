"""Video files and folders of images as streams of frames: decoding, times, resizing for a network."""

from __future__ import annotations

import contextlib
import dataclasses
import fractions
import pathlib
import re
import warnings
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image, ImageOps

from avsal_jax.errors import AvsalError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_MAX_DAMAGED_RUN = 1000  # packets that fail one after the other before the file is given up


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    Attributes:
      path: the file or folder.
      rate: average frames per second.
      time_base: seconds per unit of `Frame.pts`.
      frames: number of frames that the container promises, or an estimate; None if it says nothing.
      sound: the file whose audio stream goes with the picture, or None.
      pixel_aspect: width over height of a pixel of the upright frame.
      start: seconds; presentation time of the first frame.
      promised: number of frames that the header states, or None; a file that is cut off has fewer.
      notes: what a user should know of how it is read, a line each.
    """

    path: pathlib.Path
    rate: fractions.Fraction
    time_base: fractions.Fraction
    frames: int | None
    sound: pathlib.Path | None
    pixel_aspect: fractions.Fraction = fractions.Fraction(1)
    start: float = 0.0
    promised: int | None = None
    notes: tuple[str, ...] = ()


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

    `info` is known at once; iterate for the frames. `damaged` counts packets and frames of the last
    iteration that were damaged: what cannot be decoded is passed over.

    Raises:
      AvsalError: the file is missing, empty, no video, without a video stream, without a frame, or
        changes its frame size on the way.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.damaged = 0
        with open_container(self.path) as container:
            stream = _video_stream(container, self.path)
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
            if not rate or not stream.time_base:
                raise AvsalError(f"{self.path} states no frame rate")
            count = stream.frames
            if not count and container.duration:
                count = round(container.duration / av.time_base * rate)
            sound = self.path if container.streams.audio else None
            aspect = stream.sample_aspect_ratio or fractions.Fraction(1)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise AvsalError(f"{self.path} has no frame that can be decoded")
            self.info = VideoInfo(
                self.path,
                rate,
                stream.time_base,
                count or None,
                sound,
                1 / aspect if _turns(first) % 2 else aspect,
                float((first.pts or 0) * stream.time_base),
                stream.frames or None,
            )

    def __iter__(self) -> Iterator[Frame]:
        self.damaged = 0
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

    def _decoded(self, container, stream):
        """Yields frames; restarts the demuxer behind what it cannot read."""
        run = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
                run = 0
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self.damaged += 1
                run += 1
                if run > _MAX_DAMAGED_RUN:
                    raise AvsalError(f"{self.path} is damaged beyond reading: {error.strerror}") from error
                packets = container.demux(stream)
                continue
            for frame in frames:
                self.damaged += bool(frame.is_corrupt)
                yield frame

    def _pts_after(self, last: int | None) -> int:
        step = 1 / (self.info.rate * self.info.time_base)
        return 0 if last is None else last + max(1, round(step))


class ImageFolder:
    """A folder of images as one video, in the order of the numbers in their names.

    Args:
      path: the folder; it holds images of one size and nothing else (hidden files are passed over).
      rate: frames per second.

    Raises:
      AvsalError: no image, something that is no image, or images of several sizes.
    """

    damaged = 0

    def __init__(self, path, rate: float = 25):
        self.path = pathlib.Path(path)
        self._files = sorted(visible_files(self.path), key=natural_order)
        others = [p.name for p in self._files if p.suffix.lower() not in IMAGE_SUFFIXES]
        if others:
            raise AvsalError(f"{self.path} is read as a folder of images, but {others[0]} is none")
        if not self._files:
            raise AvsalError(f"{self.path} holds no images")
        rate = fractions.Fraction(rate).limit_denominator(1001)
        self.info = VideoInfo(self.path, rate, 1 / rate, len(self._files), None)

    def __iter__(self) -> Iterator[Frame]:
        size = None
        for index, path in enumerate(self._files):
            image = read_image(path)
            size = size or image.shape
            if image.shape != size:
                raise AvsalError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}, but the images before it are "
                    f"{size[1]}x{size[0]}; one video has one size"
                )
            yield Frame(index, index, image)


@contextlib.contextmanager
def open_image(path: pathlib.Path) -> Iterator[Image.Image]:
    """Opens an image with Pillow; AvsalError with one line where that, or what is done with it, fails."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield image
    except AvsalError:
        raise
    except FileNotFoundError as error:
        raise AvsalError(f"there is no file {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombWarning) as error:
        raise AvsalError(f"{path} is no image that can be read: {error}") from error
    except Image.DecompressionBombError as error:
        raise AvsalError(f"{path} is too large: {error}") from error


def read_image(path: pathlib.Path) -> np.ndarray:
    """Returns an image file as RGB uint8 [H, W, 3], upright; AvsalError where it cannot be read."""
    with open_image(path) as image:
        if image.mode.startswith(("I", "F")):  # which Pillow would cut at 255
            raise AvsalError(f"{path} is an image of mode {image.mode}; frames have 8 bits per channel")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def visible_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the entries of a folder that are not hidden."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


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


def _turns(frame) -> int:
    """Quarter turns, counter-clockwise, that the display matrix asks for."""
    return round(frame.rotation / 90) % 4


def _upright(frame) -> np.ndarray:
    image = frame.to_ndarray(format="rgb24")
    turns = _turns(frame)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def natural_order(path: pathlib.Path) -> list:
    """A sorting key that puts img2 before img10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
