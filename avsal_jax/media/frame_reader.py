"""The frames of a video file, or of an animated picture, by their number."""

from __future__ import annotations

import collections
import functools
import pathlib
import threading
from collections.abc import Iterator

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.media.containers import is_whole
from avsal_jax.media.image_videos import ImageFile, is_image
from avsal_jax.media.streams import set_threads, time_of
from avsal_jax.media.video import Frame, Video, open_container

_MAX_OPEN = 4  # decoders, each of which holds many frames in memory
_open: collections.OrderedDict[int, FrameReader] = collections.OrderedDict()
_open_lock = threading.Lock()


class FrameReader:
    """Reads frames by number.

    Reading forward decodes each frame once; a step back starts again at the first frame. Thread-safe.

    Attributes:
      video: the file.
      notes: lines on how it is read and what is missing.
      count: number of frames.
      size: (height, width) of its upright frames in pixels.
      times: float64 [N], seconds from the first frame to each, from the decoder, or from the average rate if
        the decoder has no times. In a file without presentation times, such as an AVI with B-frames, they
        may be out of order by a few frames.

    Raises:
      AvsalError: the file is missing, is not a video, or has no frame that can be read.
    """

    def __init__(self, path: pathlib.Path):
        self.video: Video | ImageFile
        self._are_guessed = False
        if is_image(path):
            self.video = ImageFile(path)
            self._ticks = _frame_ticks(self.video)
            is_cut_off = self.video.damaged > 0
        else:
            self.video = Video(path)
            is_cut_off = is_whole(path) is False
            self._ticks = _frame_ticks(self.video) if is_cut_off else self._packet_ticks()
            self.video.close()  # a set has many videos; only `_MAX_OPEN` keep a decoder
        self.count = len(self._ticks)
        self.notes = self.video.info.notes
        if is_cut_off:
            self.notes += (f"its file is damaged or cut off: {self.count} frames can be read",)
        self._frames: Iterator[Frame] | None = None
        self._frame: Frame | None = None
        self._lock = threading.Lock()

    def _packet_ticks(self) -> list[int | None]:
        """Returns the presentation times of all packets in rising order; None for each if any is missing.

        In a container without presentation times, FFmpeg's times rise in decoding order. With B-frames, whose
        presentation order differs, these times are only a guess.
        """
        with open_container(self.video.path) as container:
            stream = container.streams[self.video.stream]
            demuxed = [pts for packet in container.demux(stream) for _, pts in time_of(packet)]
            has_b_frames = bool(stream.codec_context.has_b_frames)
        if not demuxed:
            raise AvsalError(f"{self.video.path} has no frame with a presentation time")
        is_unclear = None in demuxed or len(set(demuxed)) < len(demuxed)
        ticks = [None] * len(demuxed) if is_unclear else sorted(demuxed)
        self._are_guessed = has_b_frames and demuxed == ticks
        return ticks

    @functools.cached_property
    def times(self) -> np.ndarray:
        ticks = self._ticks
        if self._are_guessed:
            decoded = _decoder_ticks(self.video)
            ticks = decoded if len(decoded) == self.count else None
        if ticks is None or None in ticks:
            return np.arange(self.count) / float(self.video.info.rate)
        return (np.array(ticks, np.float64) - ticks[0]) * float(self.video.info.time_base)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        return self.frame(0).shape[:2]

    def frame(self, index: int) -> np.ndarray:
        """Returns RGB uint8 [H, W, 3]; raises AvsalError if the file ends before that frame."""
        _keep_open(self)
        with self._lock:
            if self._frame is None or index < self._frame.index:
                self._frames, self._frame = iter(self.video), None
                self._frame = next(self._frames, None)
                if self._frame is None:
                    raise AvsalError(f"{self.video.path} has no frame that can be decoded")
            while self._frame.index < index:
                frame = next(self._frames, None)
                if frame is None:
                    raise AvsalError(
                        f"{self.video.path} has {self._frame.index + 1} frames that can be decoded; frame "
                        f"{index + 1} of {self.count} is missing"
                    )
                self._frame = frame
            return self._frame.image

    def close(self) -> None:
        """Releases the decoder; the next frame is decoded from the beginning."""
        with self._lock:
            self._frames = self._frame = None


def _keep_open(reader: FrameReader) -> None:
    """Closes the least recently used reader if too many are open."""
    with _open_lock:
        _open[id(reader)] = reader
        _open.move_to_end(id(reader))
        oldest = _open.popitem(last=False)[1] if len(_open) > _MAX_OPEN else None
    if oldest is not None:
        oldest.close()


def _frame_ticks(video: Video | ImageFile) -> list[int]:
    """Decodes all frames, because the last packet of a truncated file may not yield one."""
    ticks = [frame.pts for frame in video]
    if not ticks:
        raise AvsalError(f"{video.path} has no frame that can be decoded")
    return ticks


def _decoder_ticks(video: Video) -> list[int | None]:
    """Returns the decoder's time for each frame, in the order of its output."""
    with open_container(video.path) as container:
        stream = container.streams[video.stream]
        set_threads(stream)
        return [frame.pts for frame in container.decode(stream)]
