"""The frames of a video file, or of an animated picture, by their number."""

from __future__ import annotations

import collections
import functools
import pathlib
import threading
from collections.abc import Iterator

import numpy as np

from avsal_jax.data.containers import is_whole
from avsal_jax.data.image_videos import ImageFile, is_image
from avsal_jax.data.streams import time_of
from avsal_jax.data.video import Frame, Video, open_container
from avsal_jax.errors import AvsalError

_MAX_OPEN = 4  # decoders, each of which holds many frames in memory
_open: collections.OrderedDict[int, FrameReader] = collections.OrderedDict()
_open_lock = threading.Lock()


class FrameReader:
    """Gives frames by number; going forward decodes each once, a step back starts at the beginning.

    May be used by several threads.

    Attributes:
      video: the file.
      notes: how it is read, and what is missing, a line each.
      size: (height, width) of its upright frames in pixels.
      times: float64 [N], seconds from the first frame to each, as the file's packets state them; by the
        average rate where they state none.

    Raises:
      AvsalError: the file is missing, is not a video, or has no frame that can be read.
    """

    def __init__(self, path: pathlib.Path):
        self.video: Video | ImageFile
        if is_image(path):
            self.video = ImageFile(path)
            self.times = _decoded_times(self.video)
            is_cut_off = self.video.damaged > 0
        else:
            self.video = Video(path)
            is_cut_off = is_whole(path) is False
            self.times = _decoded_times(self.video) if is_cut_off else _packet_times(self.video)
        self.notes = self.video.info.notes
        if is_cut_off:
            self.notes += (f"its file is damaged or cut off: {len(self.times)} frames are there",)
        self._frames: Iterator[Frame] | None = None
        self._frame: Frame | None = None
        self._lock = threading.Lock()

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        return self.frame(0).shape[:2]

    def frame(self, index: int) -> np.ndarray:
        """Returns RGB uint8 [H, W, 3]; AvsalError where the file ends before that frame."""
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
                        f"{index + 1} of {len(self.times)} is missing"
                    )
                self._frame = frame
            return self._frame.image

    def close(self) -> None:
        """Releases the decoder; the next frame is decoded from the beginning."""
        with self._lock:
            self._frames = self._frame = None


def _keep_open(reader: FrameReader) -> None:
    """Closes the reader that was used longest ago, where too many are open."""
    with _open_lock:
        _open[id(reader)] = reader
        _open.move_to_end(id(reader))
        oldest = _open.popitem(last=False)[1] if len(_open) > _MAX_OPEN else None
    if oldest is not None:
        oldest.close()


def _decoded_times(video: Video | ImageFile) -> np.ndarray:
    """The last packet of a file that is cut off may not become a frame, so all frames are decoded."""
    ticks = np.array([frame.pts for frame in video], np.float64)
    if not len(ticks):
        raise AvsalError(f"{video.path} has no frame that can be decoded")
    return (ticks - ticks[0]) * float(video.info.time_base)


def _packet_times(video: Video) -> np.ndarray:
    with open_container(video.path) as container:
        packets = container.demux(container.streams[video.stream])
        times = [pts for packet in packets for _, pts in time_of(packet)]
    if not times:
        raise AvsalError(f"{video.path} has no frame with a place in time")
    if any(time is None for time in times) or len(set(times)) < len(times):
        return np.arange(len(times)) / float(video.info.rate)
    ordered = np.sort(np.array(times, np.float64))
    return (ordered - ordered[0]) * float(video.info.time_base)
