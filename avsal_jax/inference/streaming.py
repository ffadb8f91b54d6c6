"""Sliding windows over a stream of frames with O(window) memory.

The part of the encoder that works on single frames (its stem, if it has one) runs once per frame. Its
results are kept on the device in ring buffers of fixed size, from which every window gathers its frames.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.inference.batches import chunks, filled
from avsal_jax.inference.selected_clips import selected_clips
from avsal_jax.inference.shared_windows import SharedWindows
from avsal_jax.inference.smoothing import smoothed, within
from avsal_jax.inference.windows import oldest_needed, possible_frames, window
from avsal_jax.models.network import SALIENCY, Network
from avsal_jax.spec.input import MOST_FPS

_IN_FLIGHT = 2
# (frames of a clip, number of frames of the video or None) -> float32 [L]; see `media.clip_sound.ClipSound`.
SoundOfClip = Callable[[list[int], int | None], np.ndarray]


class WindowEngine:
    """Compiled functions that turn a stream of resized frames into maps.

    Args:
      network, variables: of the model.
      batch: windows per call.
      medium: as `Clip.medium`, of the clips for which it is compiled first. If the network depends on the
        medium, the first clip of the other medium compiles a second program.

    `compile_seconds` is the duration of tracing and compiling.
    """

    def __init__(self, network: Network, variables: dict, batch: int, medium: str = "video"):
        self._network, self._variables, self._spec, self.batch = network, variables, network.input, batch
        spec = network.input
        # Before its first window a stream buffers 2T-1 frames rounded up to a batch, or with an interval the
        # frames of a clip. Later a batch of windows may wait while the next batch of frames arrives.
        spacing = spec.spacing(MOST_FPS)
        frames_of_clip = 2 * spec.frames - 1 if spacing is None else (spec.frames - 1) * spacing + 1
        self._slots = frames_of_clip + 2 * batch
        self._stem = jax.jit(network.frame_features)  # its trace, which takes long, serves both uses below
        self._push: Callable | None = None
        self._programs: dict[str, Callable] = {}
        self._shared_windows: dict[str, SharedWindows] = {}
        self.compile_seconds = 0.0
        if not network.time_steps:
            self._program(medium)

    @functools.cached_property
    def _ring(self):
        """The shapes of the ring buffers."""
        spec = self._spec
        frames = jax.ShapeDtypeStruct((self.batch, spec.height, spec.width, 3), jnp.uint8)
        return jax.tree.map(
            lambda feature: jax.ShapeDtypeStruct((self._slots, *feature.shape[1:]), feature.dtype),
            jax.eval_shape(self._stem, self._variables, frames),
        )

    def _program(self, medium: str) -> Callable:
        """Returns the compiled function for clips of a medium; shared if the network ignores the medium."""
        medium = medium if self._network.sees_medium else "video"
        spec, started = self._spec, time.perf_counter()
        if self._push is None:
            frames = jax.ShapeDtypeStruct((self.batch, spec.height, spec.width, 3), jnp.uint8)
            slots = jax.ShapeDtypeStruct((self.batch,), jnp.int32)
            push = jax.jit(functools.partial(_push, self._stem), donate_argnums=1)
            self._push = push.lower(self._variables, self._ring, frames, slots).compile()
        if medium not in self._programs:
            indices = jax.ShapeDtypeStruct((self.batch, spec.frames), jnp.int32)
            audio = spec.audio and jax.ShapeDtypeStruct((self.batch, *spec.audio.shape), jnp.float32)
            run = jax.jit(functools.partial(_run, self._network, medium))
            self._programs[medium] = run.lower(self._variables, self._ring, indices, audio).compile()
            self.compile_seconds += time.perf_counter() - started
        return self._programs[medium]

    def _sharing(self, medium: str) -> SharedWindows:
        """Returns the compiled functions of windows that share their temporal layers."""
        medium = medium if self._network.sees_medium else "video"
        if medium not in self._shared_windows:
            self._shared_windows[medium] = SharedWindows(
                self._network, self._variables, batch=self.batch, medium=medium, to_maps=saliency_of
            )
            self.compile_seconds += self._shared_windows[medium].compile_seconds
        return self._shared_windows[medium]

    def maps(
        self,
        frames: Iterable[np.ndarray | None],
        sound: SoundOfClip | None = None,
        fps: float | None = None,
        selection: Collection[int] | None = None,
        medium: str = "video",
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, map float32 [H, W]) for every frame, in order.

        Args:
          frames: uint8 [height, width, 3] at the size of the `InputSpec`. Those that are not `encoded` may be
            None.
          sound: returns the sound of a clip, for an audio-visual network; None for silence.
          fps: frames per second, for a network with an interval or smoothing.
          selection: indices of the frames whose maps are yielded; None for all. The maps do not change.
            Frames on which they do not depend are not encoded.
          medium: as `Clip.medium`.

        Raises:
          AvsalError: fps is missing although it is needed; the network's output is not finite (with the
            frame).
        """
        spacing, radius = self._spacing_and_radius(fps, medium)
        if selection is None and spacing is None and self._network.time_steps:
            batches = self._sharing(medium).batches(
                frames, lambda clips, count: self._audio(clips, sound, count)
            )
        elif selection is None:
            program = self._program(medium)
            batches = self._batches(frames, sound=sound, program=program, spacing=spacing)
        else:
            program, targets = self._program(medium), within(selection, radius)
            batches = self._selected_batches(
                frames, sound=sound, program=program, spacing=spacing, targets=targets
            )
        maps = _finite(_rows(batches))
        return maps if not radius and selection is None else smoothed(maps, radius, selection)

    def encoded(
        self, selection: Collection[int] | None, fps: float | None, medium: str = "video"
    ) -> set[int] | None:
        """Returns the frames that `maps` may need for a selection; None for all."""
        if selection is None:
            return None
        (spacing, radius), spec = self._spacing_and_radius(fps, medium), self._spec
        return set().union(
            *(
                possible_frames(target, spec.frames, label_frame=spec.label_frame, spacing=spacing)
                for target in within(selection, radius)
            )
        )

    def _spacing_and_radius(self, fps: float | None, medium: str) -> tuple[int | None, int]:
        """Returns (distance between frames of a clip, averaged frames on each side)."""
        spec = self._spec
        if medium == "still":  # a photograph is one frame
            return (1 if spec.interval else None), 0
        if fps is None and spec.needs_rate:
            raise AvsalError(
                "a model with an interval or smoothing needs fps: frames per second of the video"
            )
        return (spec.spacing(fps), spec.smoothing_frames(fps)) if spec.needs_rate else (None, 0)

    def stills(self, pictures: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, map float32 [H, W]) of pictures, each repeated to a clip with silence.

        Pictures are like the frames of `maps`. A picture is encoded once. Maps are not checked: they may have
        values that are not finite.
        """
        return stills_of_sizes(pictures, lambda height, width: self)

    def still_maps(self) -> Callable[[np.ndarray], jax.Array]:
        """Returns a function of up to `batch` pictures [n, height, width, 3] -> maps on the device."""
        program, ring = self._program("still"), self._empty_ring()
        slots = np.arange(self.batch, dtype=np.int32)
        indices = np.repeat(slots[:, None], self._spec.frames, 1)

        def maps(pictures):
            nonlocal ring
            ring = self._push(self._variables, ring, filled(pictures, self.batch), slots)
            return program(self._variables, ring, indices, self._audio([], None, None))

        return maps

    def _empty_ring(self):
        return jax.tree.map(lambda slots: jnp.zeros(slots.shape, slots.dtype), self._ring)

    def _batches(self, frames, sound, program, spacing):
        """Yields (indices, maps on the device) a batch at a time."""
        ring = self._empty_ring()
        least, first, read = 2 * self._spec.frames - 1 if spacing is None else 1, 0, 0
        arriving = chunks(frames, self.batch)
        count = None
        while count is None or first < count:
            chunk = next(arriving, None)
            if chunk is None:
                count = read
            else:
                slots = np.arange(read, read + self.batch, dtype=np.int32)
                slots = np.minimum(slots, read + len(chunk) - 1) % self._slots
                ring = self._push(self._variables, ring, filled(chunk, self.batch), slots)
                read += len(chunk)
                if read < least:
                    continue
            while first < read:
                ready = self._ready(first, read, count=count, spacing=spacing)
                if not ready:
                    break
                indices = filled(np.array(ready, np.int32) % self._slots, self.batch)
                audio = self._audio(ready, sound, count)
                yield range(first, first + len(ready)), program(self._variables, ring, indices, audio)
                first += len(ready)

    def _audio(self, windows, sound, count):
        """Returns the sound of a batch of windows for an audio-visual network, else None."""
        if self._spec.audio is None:
            return None
        if sound is None:
            return np.stack([self._spec.audio.silence] * self.batch)
        return filled(np.stack([sound(clip, count) for clip in windows]), self.batch)

    def _ready(self, first: int, read: int, count: int | None, spacing: int | None) -> list[list[int]]:
        """Returns the next batch of windows with complete frames; [] if the batch is not full yet."""
        spec = self._spec
        last = min(first + self.batch, read)
        windows = [
            window(i, count=count, frames=spec.frames, label_frame=spec.label_frame, spacing=spacing)
            for i in range(first, last)
        ]
        if count is None and (len(windows) < self.batch or max(map(max, windows)) >= read):
            return []
        assert (
            oldest_needed(first, spec.frames, label_frame=spec.label_frame, spacing=spacing)
            >= read - self._slots
        )
        return windows

    def _selected_batches(self, frames, sound, program, spacing, targets):
        """Yields like `_batches`, for the rising indices `targets`; encodes only frames of their clips."""
        ring, slot_of = self._empty_ring(), {}
        options = {"spec": self._spec, "spacing": spacing, "batch": self.batch, "capacity": self._slots}
        for group in selected_clips(frames, targets, **options):
            images = group.images
            missing = [index for index in images if index not in slot_of]
            free = sorted(set(range(self._slots)) - set(slot_of.values()))
            for index in sorted(set(slot_of) - set(images))[: max(0, len(missing) - len(free))]:
                free.append(slot_of.pop(index))
            slot_of |= zip(missing, free, strict=False)
            for first in range(0, len(missing), self.batch):
                chunk = missing[first : first + self.batch]
                pictures = filled(np.stack([images[index] for index in chunk]), self.batch)
                slots = filled(np.array([slot_of[index] for index in chunk], np.int32), self.batch)
                ring = self._push(self._variables, ring, pictures, slots)
            clips = list(group.clips.values())
            indices = np.array([[slot_of[index] for index in clip] for clip in clips], np.int32)
            audio = self._audio(clips, sound, group.count)
            yield list(group.clips), program(self._variables, ring, filled(indices, self.batch), audio)


def stills_of_sizes(
    pictures: Iterable[np.ndarray], engine: Callable[[int, int], WindowEngine]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, map) as `WindowEngine.stills` for pictures of several sizes; batches have one size.

    If a batch is larger than one picture, maps of different sizes may be out of order.

    Args:
      pictures: uint8 [height, width, 3].
      engine: function (height, width) -> engine of that size; called once for each size.
    """
    return _rows(_batches_of_sizes(pictures, engine))


def _batches_of_sizes(pictures, engine):
    """Yields (indices, maps on the device) a batch at a time; arguments as of `stills_of_sizes`."""
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    batches: dict[tuple[int, int], int] = {}
    functions: dict[tuple[int, int], Callable] = {}

    def launched(size):
        indices, images = zip(*waiting.pop(size), strict=True)
        return indices, functions[size](np.stack(images))

    for index, picture in enumerate(pictures):
        size = picture.shape[:2]
        if size not in functions:
            size_engine = engine(*size)
            batches[size], functions[size] = size_engine.batch, size_engine.still_maps()
        waiting.setdefault(size, []).append((index, picture))
        if len(waiting[size]) == batches[size]:
            yield launched(size)
    for size in tuple(waiting):
        yield launched(size)


def _rows(batches) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, map) of batches (indices, maps on the device), with a few batches in flight.

    Rows of a batch beyond its indices are padding.
    """
    in_flight: collections.deque = collections.deque()
    for batch in batches:
        in_flight.append(batch)
        if len(in_flight) > _IN_FLIGHT:
            indices, maps = in_flight.popleft()
            yield from zip(indices, np.asarray(maps), strict=False)
    for indices, maps in in_flight:
        yield from zip(indices, np.asarray(maps), strict=False)


def _finite(maps: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, map); raises AvsalError for a map with values that are not finite."""
    for index, saliency in maps:
        check_finite(saliency, f"frame {index + 1}")
        yield index, saliency


def _push(stem, variables, ring, frames, slots):
    features = stem(variables, frames)
    return jax.tree.map(lambda slot_array, feature: slot_array.at[slots].set(feature), ring, features)


def _run(network, medium, variables, ring, indices, audio):
    windows = jax.tree.map(lambda slot_array: slot_array[indices], ring)
    outputs = network.run_windows(variables, windows, audio, medium=medium)
    return saliency_of(outputs.logits[SALIENCY])  # [B, H, W]


def saliency_of(logits: jax.Array) -> jax.Array:
    """Returns maps in [0, 1]; NaN for infinite logits, which the sigmoid would map to 0 or 1."""
    return jnp.where(jnp.isfinite(logits), jax.nn.sigmoid(logits), jnp.nan)


def check_finite(maps: np.ndarray, place: str) -> None:
    """Raises AvsalError for maps with values that are not finite; `place` describes the frame."""
    if not np.isfinite(maps).all():
        raise AvsalError(
            f"the model's output is not finite ({place}), so there is no map: its weights are too "
            "large, or damaged; train or convert it again"
        )
