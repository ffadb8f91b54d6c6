"""Maps of every frame of a video by windows that share their temporal layers, with O(window) memory.

`models.time_steps` evaluates the layers; this module feeds it the frames in the order of `windows.window`.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.inference.batches import chunks, filled
from avsal_jax.inference.windows import window
from avsal_jax.models.network import SALIENCY, Network
from avsal_jax.models.time_steps import SlidingWindows

# (frames of each clip of a batch, number of frames of the video or None) -> their sound, or None
Audio = Callable[[list[list[int]], int | None], np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class _Run:
    """Windows that slide in one direction over frames.

    Attributes:
      frames: uint8 [height, width, 3], in the order in which they are pushed.
      position: of the first one.
      direction: of the positions: 1, or -1 for reversed windows.
      targets: indices of the maps, rising; each window is complete one frame after the one before.
      start: index of a map -> position of the first frame of its window.
    """

    frames: Iterable[np.ndarray]
    position: int
    direction: int
    targets: Iterable[int]
    start: Callable[[int], int]


class SharedWindows:
    """Compiled functions for windows of consecutive frames.

    Args:
      network, variables: of the model; the network has `time_steps`.
      batch: windows per call.
      medium: as `Clip.medium`.
      to_maps: logits -> maps.

    `compile_seconds` is the duration of tracing and compiling.
    """

    def __init__(self, network: Network, variables: dict, batch: int, medium: str, to_maps: Callable):
        spec, self._variables, self._batch = network.input, variables, batch
        self._frames, self._label_frame = spec.frames, spec.label_frame
        # A batch of windows may wait while the next batch of frames arrives; the last one is filled up.
        self._windows = SlidingWindows(network, ahead=3 * batch)
        started = time.perf_counter()
        self._shapes = self._windows.rings(variables)
        images = jax.ShapeDtypeStruct((batch, spec.height, spec.width, 3), jnp.uint8)
        number, starts = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((batch,), jnp.int32)
        push = jax.jit(self._windows.push, donate_argnums=1)
        self._push = push.lower(variables, self._shapes, images, number, number).compile()

        def maps(variables, rings, starts, audio):
            levels = self._windows.window_levels(variables, rings, starts)
            return to_maps(network.run_levels(variables, levels, audio, medium=medium).logits[SALIENCY])

        audio = spec.audio and jax.ShapeDtypeStruct((batch, *spec.audio.shape), jnp.float32)
        self._maps = jax.jit(maps).lower(variables, self._shapes, starts, audio).compile()
        self.compile_seconds = time.perf_counter() - started

    def batches(self, frames: Iterable[np.ndarray], audio: Audio) -> Iterator[tuple[list[int], jax.Array]]:
        """Yields (indices, maps on the device) a batch at a time; rows beyond the indices are padding.

        Args:
          frames: uint8 [height, width, 3].
          audio: the sound of a batch of clips, or None; see `WindowEngine`.
        """
        stream = _CountingIterator(frames)
        for run in self._runs(stream):
            yield from self._run(run, stream, audio)

    def _runs(self, frames: _CountingIterator) -> Iterator[_Run]:
        """Yields the runs of a video; see `windows.window` for the frames of each window."""
        length = self._frames
        if self._label_frame == "middle":
            before = length // 2
            feed = _repeated_ends(frames, before, length - 1 - before)
            yield _Run(feed, -before, 1, targets=itertools.count(), start=lambda index: index - before)
            return
        head = list(itertools.islice(frames, 2 * length - 1))
        reverse = max(0, min(length - 1, len(head) - length))  # number of maps of reversed windows
        if reverse:
            yield _Run(
                head[: reverse + length - 1], 0, -1, targets=range(reverse), start=lambda i: -(i + length - 1)
            )
        missing = length - 1 - reverse  # frames before the first one, which repeats there
        feed = _repeated_ends(itertools.chain(head, frames), missing, 0)
        yield _Run(
            feed, -missing, 1, targets=itertools.count(reverse), start=lambda index: index - length + 1
        )

    def _run(
        self, run: _Run, frames: _CountingIterator, audio: Audio
    ) -> Iterator[tuple[list[int], jax.Array]]:
        rings = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._shapes)
        targets, waiting = iter(run.targets), []
        first_of = next(targets, None)
        position = run.position
        for chunk in chunks(run.frames, self._batch):
            rings = self._push(
                self._variables,
                rings,
                filled(chunk, self._batch),
                np.int32(position),
                np.int32(run.direction),
            )
            position += run.direction * len(chunk)
            while first_of is not None and self._is_complete(run, first_of, position):
                waiting.append(first_of)
                first_of = next(targets, None)
                if len(waiting) == self._batch:
                    yield self._evaluated(run, waiting, rings=rings, frames=frames, audio=audio)
                    waiting = []
        if waiting:
            yield self._evaluated(run, waiting, rings=rings, frames=frames, audio=audio)

    def _is_complete(self, run: _Run, target: int, position: int) -> bool:
        """Whether all frames of a window were pushed; `position` is that of the next frame."""
        if run.direction > 0:
            return run.start(target) + self._frames <= position
        return run.start(target) > position

    def _evaluated(self, run: _Run, targets: list[int], rings, frames: _CountingIterator, audio: Audio):
        starts = filled(np.array([run.start(target) for target in targets], np.int32), self._batch)
        clips = [
            window(target, count=frames.count, frames=self._frames, label_frame=self._label_frame)
            for target in targets
        ]
        inputs = rings, starts, audio(clips, frames.count)
        return targets, self._maps(self._variables, *inputs)


class _CountingIterator:
    """An iterator of frames; `count` is their number, and None before it is exhausted."""

    def __init__(self, frames: Iterable[np.ndarray]):
        self._frames, self._read, self.count = iter(frames), 0, None

    def __iter__(self) -> _CountingIterator:
        return self

    def __next__(self) -> np.ndarray:
        try:
            frame = next(self._frames)
        except StopIteration:
            self.count = self._read
            raise
        self._read += 1
        return frame


def _repeated_ends(frames: Iterable[np.ndarray], before: int, after: int) -> Iterator[np.ndarray]:
    """Yields the first frame `before` times more, and the last one `after` times more."""
    frame = None
    for frame in frames:
        yield from itertools.repeat(frame, before)
        before = 0
        yield frame
    if frame is not None:
        yield from itertools.repeat(frame, after)
