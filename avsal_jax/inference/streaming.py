"""Sliding windows over a stream of frames with O(window) memory.

What works on one frame alone (the encoder's stem, where it has one) runs once per frame. Its result, one
array or several, is kept on the device in rings of fixed size, from which every window gathers its frames.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.inference.windows import oldest_needed, window
from avsal_jax.models.network import SALIENCY, Network

_IN_FLIGHT = 2
# (frames of a clip, number of frames of the video or None) -> float32 [L]; see `data.clip_sound.ClipSound`.
SoundOfClip = Callable[[list[int], int | None], np.ndarray]


class WindowEngine:
    """Compiled functions that turn a stream of resized frames into maps.

    Args:
      network, variables: of the model.
      batch: windows per call.
      source: as `Clip.source`, of the clips that it is compiled for first. Where the network sees the source,
        clips of the other source compile another program when the first of them comes.

    `compile_seconds` is what tracing and compiling took.
    """

    def __init__(self, network: Network, variables: dict, batch: int, source: str = "video"):
        self._network, self._variables, self._spec, self.batch = network, variables, network.input, batch
        spec = network.input
        # Before its first window a stream holds 2T-1 frames rounded up to a batch; later a batch of
        # windows may wait while the next batch of frames arrives.
        self._slots = 2 * spec.frames - 1 + 2 * batch
        started = time.perf_counter()
        push = functools.partial(_push, network)
        frames = jax.ShapeDtypeStruct((batch, spec.height, spec.width, 3), jnp.uint8)
        slots = jax.ShapeDtypeStruct((batch,), jnp.int32)
        shared = jax.eval_shape(network.frame_features, variables, frames)
        self._ring = jax.tree.map(
            lambda feature: jax.ShapeDtypeStruct((self._slots, *feature.shape[1:]), feature.dtype), shared
        )
        self._push = jax.jit(push, donate_argnums=1).lower(variables, self._ring, frames, slots).compile()
        self.compile_seconds = time.perf_counter() - started
        self._programs: dict[str, Callable] = {}
        self._program(source)

    def _program(self, source: str) -> Callable:
        """Returns the compiled function of clips of a source; one for both where the network sees none."""
        source = source if self._network.sees_source else "video"
        if source not in self._programs:
            started, spec = time.perf_counter(), self._spec
            indices = jax.ShapeDtypeStruct((self.batch, spec.frames), jnp.int32)
            audio = spec.audio and jax.ShapeDtypeStruct((self.batch, *spec.audio.shape), jnp.float32)
            run = jax.jit(functools.partial(_run, self._network, source))
            self._programs[source] = run.lower(self._variables, self._ring, indices, audio).compile()
            self.compile_seconds += time.perf_counter() - started
        return self._programs[source]

    def maps(
        self, frames: Iterable[np.ndarray], sound: SoundOfClip | None = None, source: str = "video"
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, map float32 [H, W]) for every frame, in order.

        Args:
          frames: uint8 [height, width, 3] at the size of the `InputSpec`.
          sound: gives the sound of a clip, for a network that hears; None is silence.
          source: as `Clip.source`.

        Raises:
          AvsalError: the network gives values that are not finite (with the frame).
        """
        in_flight: collections.deque = collections.deque()
        for indices, maps in self._batches(frames, sound, self._program(source)):
            in_flight.append((indices, maps))
            if len(in_flight) > _IN_FLIGHT:
                yield from _numbered(*in_flight.popleft())
        while in_flight:
            yield from _numbered(*in_flight.popleft())

    def stills(self, pictures: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, map float32 [H, W]) for pictures of which each is repeated to a clip, in silence.

        Pictures are as the frames of `maps`. A picture is pushed once. Maps are not checked: they may hold
        values that are not finite.
        """
        return stills_of_sizes(pictures, lambda height, width: self)

    def still_maps(self) -> Callable[[np.ndarray], jax.Array]:
        """Returns a function of up to `batch` pictures [n, height, width, 3] -> maps on the device."""
        run, ring = self._program("still"), self._empty_ring()
        slots = np.arange(self.batch, dtype=np.int32)
        indices = np.repeat(slots[:, None], self._spec.frames, 1)

        def maps(pictures):
            nonlocal ring
            ring = self._push(self._variables, ring, _filled(pictures, self.batch), slots)
            return run(self._variables, ring, indices, self._audio([], None, None))

        return maps

    def _empty_ring(self):
        return jax.tree.map(lambda slots: jnp.zeros(slots.shape, slots.dtype), self._ring)

    def _batches(self, frames, sound, run):
        """Yields (indices, maps on the device) a batch at a time."""
        ring = self._empty_ring()
        needed, done, read = 2 * self._spec.frames - 1, 0, 0
        chunks = _chunks(frames, self.batch)
        count = None
        while count is None or done < count:
            chunk = next(chunks, None)
            if chunk is None:
                count = read
            else:
                slots = np.arange(read, read + self.batch, dtype=np.int32)
                slots = np.minimum(slots, read + len(chunk) - 1) % self._slots
                ring = self._push(self._variables, ring, _filled(chunk, self.batch), slots)
                read += len(chunk)
                if read < needed:
                    continue
            while done < read:
                ready = self._ready(done, read, count)
                if not ready:
                    break
                indices = _filled(np.array(ready, np.int32) % self._slots, self.batch)
                audio = self._audio(ready, sound, count)
                yield range(done, done + len(ready)), run(self._variables, ring, indices, audio)
                done += len(ready)

    def _audio(self, windows, sound, count):
        """Returns the sound of a batch of windows for a network that hears, else None."""
        if self._spec.audio is None:
            return None
        if sound is None:
            return np.stack([self._spec.audio.silence] * self.batch)
        return _filled(np.stack([sound(one, count) for one in windows]), self.batch)

    def _ready(self, done: int, read: int, count: int | None) -> list[list[int]]:
        """Returns the next batch of windows whose frames are all there; [] if it is not full yet."""
        spec = self._spec
        last = min(done + self.batch, read)
        windows = [
            window(i, count=count, frames=spec.frames, label_frame=spec.label_frame)
            for i in range(done, last)
        ]
        if count is None and (len(windows) < self.batch or max(map(max, windows)) >= read):
            return []
        assert oldest_needed(done, spec.frames, spec.label_frame) >= read - self._slots
        return windows


def stills_of_sizes(
    pictures: Iterable[np.ndarray], engine: Callable[[int, int], WindowEngine]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, map) as `WindowEngine.stills` for pictures of several sizes; batches have one size.

    Where a batch is more than one picture, maps of different sizes may come out of order.

    Args:
      pictures: uint8 [height, width, 3].
      engine: (height, width) -> the engine of that size, asked once for each.
    """
    in_flight: collections.deque = collections.deque()
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    batches: dict[tuple[int, int], int] = {}
    functions: dict[tuple[int, int], Callable] = {}

    def launch(size):
        indices, images = zip(*waiting.pop(size), strict=True)
        in_flight.append((indices, functions[size](np.stack(images))))

    for index, picture in enumerate(pictures):
        size = picture.shape[:2]
        if size not in functions:
            size_engine = engine(*size)
            batches[size], functions[size] = size_engine.batch, size_engine.still_maps()
        waiting.setdefault(size, []).append((index, picture))
        if len(waiting[size]) == batches[size]:
            launch(size)
        if len(in_flight) > _IN_FLIGHT:
            yield from _rows(*in_flight.popleft())
    for size in tuple(waiting):
        launch(size)
    while in_flight:
        yield from _rows(*in_flight.popleft())


def _numbered(indices, maps):
    for index, saliency in _rows(indices, maps):
        check_finite(saliency, f"frame {index + 1}")
        yield index, saliency


def _rows(indices, maps):
    """Yields (index, map) of a batch; rows beyond the indices only fill it up."""
    yield from zip(indices, np.asarray(maps), strict=False)


def _chunks(frames, size):
    chunk = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row up to `size` rows, so that one compiled shape serves all batches."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) if missing else rows


def _push(network, variables, ring, frames, slots):
    features = network.frame_features(variables, frames)
    return jax.tree.map(lambda slot_array, feature: slot_array.at[slots].set(feature), ring, features)


def _run(network, source, variables, ring, indices, audio):
    windows = jax.tree.map(lambda slot_array: slot_array[indices], ring)
    outputs = network.run_windows(variables, windows, audio, source=source)
    return saliency_of(outputs.logits[SALIENCY])  # [B, H, W]


def saliency_of(logits: jax.Array) -> jax.Array:
    """Returns maps in [0, 1]; NaN where a logit is infinite, of which the sigmoid would make 0 or 1."""
    return jnp.where(jnp.isfinite(logits), jax.nn.sigmoid(logits), jnp.nan)


def check_finite(maps: np.ndarray, where: str) -> None:
    """Raises AvsalError for maps with values that are not finite; `where` is the frame in words."""
    if not np.isfinite(maps).all():
        raise AvsalError(
            f"the model gives values that are not finite ({where}), so there is no map: its weights are too "
            "large, or damaged; train or convert it again"
        )
