"""The frame pipeline: one pass that decodes, resizes, predicts and records, in overlapping threads."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fractions
import itertools
import math
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from avsal_jax.inference.streaming import SoundOfClip, WindowEngine
from avsal_jax.media.fitting import fitted_frame, fitted_map
from avsal_jax.media.frame_times import FrameTimes
from avsal_jax.media.video import Frame, VideoInfo
from avsal_jax.runtime.threads import prefetched
from avsal_jax.spec.input import InputSpec

if TYPE_CHECKING:
    from avsal_jax.inference.features import FeatureRecorder
    from avsal_jax.inference.inputs import Source
    from avsal_jax.inference.predictor import Model

_AHEAD = 4  # frames by which decoding may be ahead of resizing, and resizing ahead of the network


@dataclasses.dataclass
class FrameMap:
    """A frame of a source, with its map.

    Attributes:
      index: from 0, in the source.
      pts: in the time base of the source.
      time: seconds.
      size: (height, width) of the frame in pixels.
      image: RGB uint8 [height, width, 3]; None if it was not requested.
      saliency: float32 [H, W] in [0, 1] at the size of the model; None for a frame between those of `step`,
        or if maps were not requested.
    """

    index: int
    pts: int
    time: float
    size: tuple[int, int]
    image: np.ndarray | None = None
    saliency: np.ndarray | None = None


class Images:
    """Arrays as a source of frames: a video in memory, a video of a data set, or photographs.

    Args:
      images: RGB uint8 [height, width, 3], of any size.
      fps: frames per second; None if times are not needed.
    """

    def __init__(self, images: Iterable[np.ndarray], fps: float | None):
        self._images = images
        rate = fractions.Fraction(float(fps)) if fps and math.isfinite(fps) else None
        self.info = VideoInfo(
            pathlib.Path(),
            rate,
            time_base=1 / rate if rate else fractions.Fraction(1),
            frames=None,
            sound=None,
        )

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(index, index, image) for index, image in enumerate(self._images))


class FrameStream:
    """The frames of a source with their maps: an iterator of `FrameMap`.

    Attributes:
      compile_seconds: duration of tracing and compiling for this stream; 0 if the model did so before.
    """

    def __init__(self, frames: Iterator[FrameMap], compile_seconds: float):
        self._frames, self.compile_seconds = frames, compile_seconds

    def __iter__(self) -> Iterator[FrameMap]:
        return self

    def __next__(self) -> FrameMap:
        return next(self._frames)

    def close(self) -> None:
        """Stops the threads. Idempotent."""
        self._frames.close()


def stream(
    model: Model,
    source: Source | Images,
    *,
    sound: SoundOfClip | None = None,
    times: FrameTimes | None = None,
    step: int = 1,
    batch: int | None = None,
    selection: Collection[int] | None = None,
    medium: str = "video",
    has_images: bool = False,
    recorder: FeatureRecorder | None = None,
    has_maps: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> FrameStream:
    """Returns the frames of a source in order; decodes it once; memory is O(T), not O(N).

    The network is compiled before this returns. With several sizes, the first frame determines the size.

    Args:
      source: a video file, a folder of images, a picture file, or `Images`.
      sound: returns the sound of a clip (`media.clip_sound.ClipSound.clip`); None for silence.
      times: of `sound`; the times of decoded frames are added to it.
      step: every `step`-th frame is used; frames in between have no map.
      batch: windows per call; by default 1 on CPU, 8 elsewhere.
      selection: numbers of the frames to yield, counting only used frames (index // step); None for all.
        Frames on which their maps do not depend are neither resized nor encoded.
      medium: as `Clip.medium`, `video` or `still`.
      has_images: whether to keep the pictures in `FrameMap.image`.
      recorder: receives the frames of `step` in order.
      has_maps: whether to compute maps.
      say: called with a line before the network is compiled.

    Raises:
      AvsalError: the source has no rate, and the model has an interval or smoothing. During iteration: a
        frame cannot be read, or the network's output is not finite.
    """
    frames = iter(source) if isinstance(source, Images) else prefetched(source, _AHEAD)
    spec, first = model.spec, []
    if len(spec.sizes) > 1:
        first = list(itertools.islice(frames, 1))
        spec = spec.for_picture(*first[0].size) if first else spec
    engine, earlier = None, None
    if has_maps:
        earlier = model.earlier_compile_seconds(batch, spec)
        if earlier is None:
            say("compiling the model ...")
        engine = model.engine(batch, spec, medium)
    rate = source.info.rate
    fps = None if rate is None else float(rate) / step
    single_pass = _Pass(
        frames, first=first, spec=spec, step=step, time_base=source.info.time_base, times=times,
        selection=selection, has_images=has_images, recorder=recorder,
        encoded=_encoded(engine, selection=selection, fps=fps, medium=medium, recorder=recorder),
    )  # fmt: skip
    if engine is None:
        return FrameStream(single_pass.frames(), 0.0)
    maps = engine.maps(single_pass.fitted(), sound=sound, fps=fps, selection=selection, medium=medium)
    return FrameStream(single_pass.frames(maps), engine.compile_seconds - (earlier or 0.0))


def _encoded(
    engine: WindowEngine | None,
    selection: Collection[int] | None,
    fps: float | None,
    medium: str,
    recorder: FeatureRecorder | None,
) -> Collection[int] | None:
    """Returns the indices of the frames of `step` to resize; None for all."""
    if engine is not None:
        return engine.encoded(selection, fps, medium)
    return recorder.frame_indices if recorder is not None else ()


class _Pass:
    """One pass over the frames of a source; `stream` documents the arguments.

    `frames` asks the engine for the next map, and the engine asks `fitted` for the network's inputs. `fitted`
    appends each frame that is to be yielded to `_waiting`, in order, before it yields the frame's input, so a
    frame is there when its map arrives. `frames` then takes frames from the left: those without a map before
    the frame of this map, then that frame; after the last map, the rest. Both generators run in the thread of
    the caller; only `_resize` runs in another one.
    """

    def __init__(
        self,
        frames: Iterator[Frame],
        first: list[Frame],
        spec: InputSpec,
        step: int,
        time_base: fractions.Fraction,
        times: FrameTimes | None,
        selection: Collection[int] | None,
        has_images: bool,
        recorder: FeatureRecorder | None,
        encoded: Collection[int] | None,
    ):
        self._decoded, self._first = frames, first
        self._spec, self._step, self._time_base, self._times = spec, step, time_base, times
        self._selection, self._encoded = selection, encoded
        self._has_images, self._recorder = has_images, recorder
        self._resized = prefetched(self._resize(), _AHEAD)
        self._waiting: collections.deque[FrameMap] = collections.deque()  # their maps are being computed

    def _resize(self) -> Iterator[tuple[FrameMap, Frame | None, np.ndarray | None]]:
        """Yields (frame, input of the recorder, input of the network); runs in a thread."""
        while self._first:
            yield self._prepared(self._first.pop())
        for frame in self._decoded:
            yield self._prepared(frame)

    def _prepared(self, frame: Frame) -> tuple[FrameMap, Frame | None, np.ndarray | None]:
        number, offset = divmod(frame.index, self._step)
        image = frame.image if self._has_images else None
        time, size = float(frame.pts * self._time_base), frame.size
        item = FrameMap(frame.index, frame.pts, time=time, size=size, image=image)
        if offset:
            return item, None, None
        if self._times is not None:
            self._times.add(time)
        is_encoded = self._encoded is None or number in self._encoded
        recorded = None if self._recorder is None else frame
        return item, recorded, fitted_frame(frame.image, self._spec) if is_encoded else None

    def fitted(self) -> Iterator[np.ndarray | None]:
        """Yields the network's input for each frame of `step`; None for frames that it does not need."""
        for item, recorded, fitted in self._resized:
            number, offset = divmod(item.index, self._step)
            if recorded is not None:
                self._recorder.add(number, frame=recorded, time=item.time, fitted=fitted, spec=self._spec)
            if self._selection is None or (not offset and number in self._selection):
                self._waiting.append(item)
            if not offset:
                yield fitted

    def frames(self, maps: Iterator[tuple[int, np.ndarray]] | None = None) -> Iterator[FrameMap]:
        """Yields the frames; those of `step` with their maps, if maps are computed."""
        with contextlib.closing(self._decoded), contextlib.closing(self._resized):
            if maps is None:
                for _ in self.fitted():
                    yield from self._ready()
            else:
                for number, saliency in maps:
                    while self._waiting[0].index < number * self._step:
                        yield self._waiting.popleft()
                    item = self._waiting.popleft()
                    item.saliency = fitted_map(saliency, item.size, self._spec)
                    yield item
            yield from self._ready()

    def _ready(self) -> Iterator[FrameMap]:
        while self._waiting:
            yield self._waiting.popleft()
