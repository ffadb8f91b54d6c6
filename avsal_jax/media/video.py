"""Video files as frames with their times, decoded in order of presentation."""

from __future__ import annotations

import collections
import dataclasses
import fractions
import functools
import itertools
import math
import pathlib
from collections.abc import Callable, Iterator

import av
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.media.color import ToneMapper, settle_matrix, tone_mapping_of
from avsal_jax.media.containers import is_whole
from avsal_jax.media.images import missing, over_black
from avsal_jax.media.orientation import Orientation, OrientationReader, read_orientation
from avsal_jax.media.streams import (
    CLOCK_LEAP_SECONDS,
    choose_stream,
    exact,
    frame_rate,
    may_leap,
    set_threads,
    time_of,
)

_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}  # which FFmpeg would show as pictures of letters
# Undecodable metadata must not fail a file: since PyAV 19 it never does, and the option was removed.
_METADATA = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_MAX_DAMAGED_RUN = 1000  # consecutive packets that fail before decoding stops
_MOST_PACKETS_AHEAD = 200  # of a file; its rate is usually measured from half as many


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, available before it is decoded.

    Attributes:
      path: the file or folder.
      rate: average frames per second.
      time_base: seconds per unit of `Frame.pts`.
      frames: number of frames that the container states, or an estimate; None if neither is available.
      sound: the file with the audio stream, or None.
      pixel_aspect: width over height of a pixel of the upright frame.
      start: seconds; presentation time of the first frame.
      promised: number of frames that the header states, or None; see `Video.cut_off`.
      notes: lines for the user on how it is read.
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


class Frame:
    """One decoded frame.

    Attributes:
      index: from 0.
      pts: presentation time in units of `VideoInfo.time_base`; strictly rising.

    Args:
      index, pts: as above.
      image: RGB uint8 [H, W, 3], upright; or a function that returns it.
      size: height and width of the picture; None to use those of `image`.
    """

    def __init__(
        self,
        index: int,
        pts: int,
        image: np.ndarray | Callable[[], np.ndarray],
        size: tuple[int, int] | None = None,
    ):
        self.index, self.pts, self._image, self._size = index, pts, image, size

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self._size or self.image.shape[:2]

    @property
    def image(self) -> np.ndarray:
        """RGB uint8 [H, W, 3], upright; converted when it is first used, since many frames are skipped.

        Raises:
          AvsalError: FFmpeg cannot convert it.
        """
        if callable(self._image):
            self._image = self._image()
        return self._image


class Video:
    """The frames of a video file, in order of presentation.

    `info` is available immediately; iterate for the frames. For the last iteration, `damaged` counts damaged
    packets and frames (undecodable data is skipped), and `cut_off` is whether the file is shorter than its
    container states, so that frames are missing. Frames are as in a player: oriented by the display matrix,
    HDR as SDR, transparent pixels over black. `stream` is the index of the stream.

    The file remains open until the first iteration ends, or until `close`. Later iterations open it again.

    Args:
      path: the file.
      stream: index of the video stream in the file; None for the stream that a player would choose.

    Raises:
      AvsalError: the file is missing, empty or not a video; it has no video stream (a cover does not count),
        no stream of this index, or no frame; or its frame size changes.
    """

    def __init__(self, path, stream: int | None = None):
        self.path = pathlib.Path(path)
        self.cut_off = False
        container = open_container(self.path)
        try:
            selected, notes = choose_stream(container, self.path, stream)
            self.stream = selected.index
            self._may_leap = may_leap(container)
            decoder = self._decoder = _Decoder(self.path, container, selected)
            decoder.times, frames = [], iter(decoder)
            first = next(frames, None)
            if first is None:
                raise AvsalError(f"{self.path} has no frame that can be decoded")
            rate, about_rate = frame_rate(
                decoder.ahead(), stream=selected, times=decoder.times, interlaced=first.interlaced_frame
            )
            count = selected.frames
            if not count and container.duration:
                count = round(container.duration / av.time_base * rate)
            settle_matrix(first, self.path)
            orientation = read_orientation(first)
            self._tone_mapping = tone_mapping_of(first)
            notes += [about_rate, orientation.note, self._tone_mapping and self._tone_mapping.note]
            aspect = exact(selected.sample_aspect_ratio) or fractions.Fraction(1)
            time_base = exact(selected.time_base) or 1 / rate
            self.info = VideoInfo(
                self.path,
                rate,
                time_base,
                frames=count or None,
                sound=self.path if container.streams.audio else None,
                pixel_aspect=1 / aspect if orientation.transposes else aspect,
                start=float((first.pts or 0) * time_base),
                promised=selected.frames or None,
                notes=tuple(f"{self.path}: {line}" for line in notes if line),
            )
        except BaseException:
            container.close()
            raise
        decoder.times = None
        self._frames: Iterator[av.VideoFrame] | None = itertools.chain([first], frames)
        if not decoder.is_complete:
            self.close()

    @property
    def damaged(self) -> int:
        """Packets and frames of the last iteration that were damaged."""
        return self._decoder.damaged

    def close(self) -> None:
        """Releases the file; the next iteration opens it again. Idempotent."""
        if self._frames is not None:
            self._decoder.container.close()
        self._frames = None

    def __iter__(self) -> Iterator[Frame]:
        frames, self._frames = self._frames, None
        if frames is None:
            container = open_container(self.path)
            self._decoder = _Decoder(self.path, container, container.streams[self.stream])
            frames = iter(self._decoder)
        self.cut_off = False
        clock, size, index = _Clock(self.info, self._may_leap), None, 0
        orientation_of = OrientationReader()
        mapping, mappers = self._tone_mapping, {}
        with self._decoder.container:
            for decoded in frames:
                mapping = tone_mapping_of(decoded, mapping)
                if mapping and mapping not in mappers:
                    mappers[mapping] = ToneMapper(mapping)
                orientation, mapper = orientation_of(decoded), mappers.get(mapping)
                height, width = orientation.upright_size(decoded.height, decoded.width)
                size = size or (height, width)
                if (height, width) != size:
                    raise AvsalError(
                        f"{self.path} changes its frame size from {size[1]}x{size[0]} to {width}x{height} "
                        f"at frame {index + 1}; split it there first"
                    )
                image = functools.partial(self._picture, decoded, orientation, mapper)
                yield Frame(index, clock.time(decoded.pts), image=image, size=size)
                index += 1
        self.cut_off = self._ends_early(index, clock)

    def _picture(
        self, decoded: av.VideoFrame, orientation: Orientation, mapper: ToneMapper | None
    ) -> np.ndarray:
        settle_matrix(decoded, self.path)
        try:
            return orientation.upright(mapper(decoded) if mapper else _rgb(decoded))
        except AvsalError:
            raise
        except (OSError, ValueError) as error:  # av's errors are these too
            raise AvsalError(
                f"{self.path}: FFmpeg cannot convert pictures of the format {decoded.format.name}: {error}"
            ) from error

    def _ends_early(self, count: int, clock: _Clock) -> bool:
        """Returns whether frames are missing at the end of the file.

        The frame count of the header may include frames that a camera dropped or an edit list hides.
        Therefore the length of the file decides.
        """
        promised = self.info.promised
        if promised is not None and count + self.damaged >= promised:
            return False
        is_complete = is_whole(self.path)
        if is_complete is None and promised is not None:
            return clock.frames() + self.damaged + 1 < promised
        return is_complete is False


class _Decoder:
    """The frames of a stream as FFmpeg decodes them; the demuxer is restarted after data that it cannot read.

    Attributes:
      container: the caller closes it.
      damaged: number so far of packets that could not be decoded and of corrupt frames.
      times: of the packets so far, as from `time_of`; None if they are not recorded.
      is_complete: whether every packet so far was decoded or is queued.
    """

    def __init__(self, path: pathlib.Path, container, stream: av.VideoStream):
        set_threads(stream)
        self.container, self.damaged, self.is_complete = container, 0, True
        self.times: list[tuple[int | None, int | None]] | None = None
        self._path, self._stream, self._packets = path, stream, container.demux(stream)
        self._waiting: collections.deque[av.Packet] = collections.deque()

    def ahead(self) -> Iterator[av.Packet]:
        """Yields the next packets. They are queued for decoding, unless there are too many."""
        while True:
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.is_complete = False
                raise
            self.is_complete = self.is_complete and len(self._waiting) < _MOST_PACKETS_AHEAD
            if self.is_complete:
                self._waiting.append(packet)
            else:
                self._waiting.clear()
            yield packet

    def __iter__(self) -> Iterator[av.VideoFrame]:
        run = 0
        while True:
            try:
                packet = self._waiting.popleft() if self._waiting else next(self._packets)
                if self.times is not None:
                    self.times += time_of(packet)
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
                    raise AvsalError(f"{self._path} is damaged beyond reading: {error.strerror}") from error
                self._packets = self.container.demux(self._stream)
                continue
            for frame in frames:
                self.damaged += bool(frame.is_corrupt)
                yield frame


class _Clock:
    """Strictly rising times of frames, in units of `VideoInfo.time_base`.

    A missing time is set one frame after the previous one. If times step back, as in joined files, the clock
    continues one frame later. The same applies to a jump ahead by ten minutes or more, if the format allows
    restarting timestamps; in other formats it is a pause in the picture, as in a slide show.
    """

    def __init__(self, info: VideoInfo, may_leap: bool = False):
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._leap = CLOCK_LEAP_SECONDS / info.time_base if may_leap else math.inf
        self._first, self._last, self._shift = None, None, 0

    def time(self, pts: int | None) -> int:
        """Returns the time of the next frame."""
        if self._last is None:
            now = 0 if pts is None else pts
            self._first = now
        elif pts is None:
            now = self._last + self._step
        else:
            ahead = pts + self._shift - self._last
            if ahead < -2 * self._step or ahead >= self._leap:
                self._shift = self._last + self._step - pts
            now = max(pts + self._shift, self._last + 1)
        self._last = now
        return now

    def frames(self) -> int:
        """Returns the number of frames at the video's rate that would fill the time so far."""
        return 0 if self._last is None else round((self._last - self._first) / self._step) + 1


def open_container(path: pathlib.Path):
    """Opens a media file with PyAV; raises AvsalError with one line if that fails."""
    if not path.exists():
        raise AvsalError(missing(path))
    if path.is_dir():
        raise AvsalError(f"{path} is a folder, not a video file")
    if path.stat().st_size == 0:
        raise AvsalError(f"{path} is empty")
    try:
        container = av.open(str(path.resolve()), **_METADATA)
    except av.error.FFmpegError as error:
        raise AvsalError(
            f"{path} is not a video that can be read, or is cut off: {error.strerror}"
        ) from error
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise AvsalError(f"{path} is a text, not a video that can be read")
    return container


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """Returns RGB uint8 [H, W, 3] by the frame's stated matrix and range, by default BT.601, limited."""
    if any(component.is_alpha for component in frame.format.components):
        return over_black(frame.to_ndarray(format="rgba"))
    return frame.to_ndarray(format="rgb24")
