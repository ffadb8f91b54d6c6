"""All that a prediction writes, rendered and encoded in threads behind bounded queues."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib

import numpy as np

from avsal_jax.data.video import VideoInfo
from avsal_jax.inference.report import ReportCollector
from avsal_jax.inference.writers import MapWriter, NpzWriter, OverlayWriter
from avsal_jax.pictures import overlay, resize_map, to_grey
from avsal_jax.threads import Worker

_QUEUE = 4


@dataclasses.dataclass(frozen=True)
class Item:
    """A frame with its map.

    Attributes:
      index, pts: as in `data.video.Frame`.
      size: (height, width) of the frame.
      image: RGB uint8, or None where no output shows it.
      saliency: float32 [H, W] at model size; None for a frame that shows the map before it.
    """

    index: int
    pts: int
    size: tuple[int, int]
    image: np.ndarray | None
    saliency: np.ndarray | None


class Outputs:
    """Takes items in order; a context manager that completes its files, or lets go of them on an error.

    Args:
      folder: where the files go.
      save: some of `maps`, `overlay`, `npz`, `report`.
      postprocess: see `pictures.to_grey`.
      info: of the video.
      sound: the file whose sound the overlay carries, or None.

    After the items, `count` is the number of frames and `size` theirs.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        save: tuple[str, ...],
        postprocess: str,
        info: VideoInfo,
        sound: pathlib.Path | None,
    ):
        self._folder, self._postprocess, self._info, self._sound = folder, postprocess, info, sound
        self.shows_frames = "overlay" in save or "report" in save
        self._full_size = "maps" in save or "overlay" in save
        self._overlay_wanted, self._overlay = "overlay" in save, None
        self._maps = MapWriter(folder / "maps") if "maps" in save else None
        self._npz = NpzWriter(folder / "maps.npz") if "npz" in save else None
        self._report = ReportCollector() if "report" in save else None
        self._grey: np.ndarray | None = None
        self.count, self.size = 0, (0, 0)

    def __enter__(self) -> Outputs:
        encoding, storing = Worker(self._encode, _QUEUE), Worker(self._store, _QUEUE)
        self._encoding, self._storing = encoding, storing
        self._workers = (Worker(self._render, _QUEUE), encoding, storing)  # in the order of the work
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            for worker in self._workers:
                worker.close()
            for writer in (self._overlay, self._npz):
                if writer is not None:
                    writer.close()
            return
        for worker in self._workers:
            with contextlib.suppress(BaseException):
                worker.close(drop=True)
        for writer in (self._overlay, self._npz):
            if writer is not None:
                with contextlib.suppress(Exception):
                    writer.abort()

    @property
    def damaged_sound(self) -> int:
        """Packets of sound that the overlay had to leave out."""
        return 0 if self._overlay is None else self._overlay.damaged_sound

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about the files that were written, a line each."""
        return () if self._overlay is None else self._overlay.notes

    def put(self, item: Item) -> None:
        """Hands over the next frame; waits while the writers are behind."""
        self._workers[0].put(item)

    def finish(self, summary: dict, card: dict) -> None:
        """Writes the report, where one is wanted."""
        if self._report is not None:
            self._report.write(self._folder / "report.html", summary=summary, card=card, sound=self._sound)

    def _render(self, item: Item) -> None:
        self.count, self.size = self.count + 1, item.size
        if item.saliency is not None:
            if self._full_size:
                self._grey = to_grey(resize_map(item.saliency, *item.size), self._postprocess)
            if self._npz is not None:
                self._npz.write(item.saliency)
            if self._report is not None:
                self._report.add(float(item.pts * self._info.time_base), item.image, item.saliency)
        if self._overlay_wanted:
            self._encoding.put((item, self._grey))
        if self._maps is not None and item.saliency is not None:
            self._storing.put((item.index, self._grey))

    def _store(self, work) -> None:
        index, grey = work
        self._maps.write(index, grey)

    def _encode(self, work) -> None:
        item, grey = work
        if self._overlay is None:
            path = self._folder / "overlay.mp4"
            self._overlay = OverlayWriter(path, self._info, self._sound, *item.size)
        self._overlay.write(item.pts, overlay(item.image, grey))
