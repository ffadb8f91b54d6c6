"""Temporal layers that the windows of a stream share: each output is computed once for each frame.

A window of T frames begins and ends with zeros, so an output near its ends depends on where the window lies.
All other outputs depend only on the frames under their kernels. Windows that contain these frames share them.

Positions number the frames of a stream. `push` takes new frames and evaluates the shared outputs that they
complete. Rings of fixed size hold what each layer returned for a position. `window_levels` evaluates the
other outputs of each window, and gathers the levels of the pyramid from both. In a stream of falling
positions (`direction=-1`) a window has its newest frame first, as the reversed windows at the beginning of a
video.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from avsal_jax.models.network import Network

Rings = tuple[object, ...]  # for the stem and each shared step, arrays [slots, H, W, C]


@dataclasses.dataclass(frozen=True)
class TimeStep:
    """A temporal layer: an odd kernel, padded so that output t is centred on input `stride` * t."""

    kernel: int
    stride: int = 1

    @property
    def padding(self) -> int:
        """Zeros before the first and after the last input."""
        return self.kernel // 2


@dataclasses.dataclass(frozen=True)
class Level:
    """The outputs of a time step in a window.

    Attributes:
      step: None for the stem.
      number: of the step, from 1; 0 for the stem.
      count: of the outputs.
      spacing: distance of neighbouring outputs in frames; output t is centred on frame t * `spacing`.
      shared: the outputs that depend on no zeros.
      lag: frames between the centre of an output and the last frame that it depends on.
    """

    step: TimeStep | None
    number: int
    count: int
    spacing: int
    shared: range
    lag: int

    @property
    def span(self) -> int:
        """Frames from the centre of the first shared output to that of the last, including both."""
        return (len(self.shared) - 1) * self.spacing + 1

    @property
    def unshared(self) -> tuple[int, ...]:
        """The outputs that each window evaluates for itself."""
        return tuple(t for t in range(self.count) if t not in self.shared)

    def taps(self, output: int) -> range:
        """Returns the inputs under the kernel of an output; some may be before or after the window."""
        first = self.step.stride * output - self.step.padding
        return range(first, first + self.step.kernel)

    def after(self, step: TimeStep) -> Level:
        """Returns the level of the next step."""
        count = (self.count - 1) // step.stride + 1
        level = Level(
            step,
            number=self.number + 1,
            count=count,
            spacing=self.spacing * step.stride,
            shared=range(0),
            lag=self.lag + step.padding * self.spacing,
        )
        shared = [t for t in range(count) if set(level.taps(t)) <= set(self.shared)]
        return dataclasses.replace(level, shared=range(shared[0], shared[-1] + 1) if shared else range(0))


def levels_of(frames: int, steps: tuple[TimeStep, ...]) -> tuple[Level, ...]:
    """Returns the levels of windows of T `frames`: the stem, then each step."""
    levels = [Level(None, number=0, count=frames, spacing=1, shared=range(frames), lag=0)]
    for step in steps:
        levels.append(levels[-1].after(step))
    return tuple(levels)


class SlidingWindows:
    """The functions of a stream, pure, to be jitted by their caller.

    Args:
      network: with `time_steps`.
      ahead: frames that may be pushed after the last one of a window, before it is evaluated.
    """

    def __init__(self, network: Network, ahead: int):
        self._network, self._ahead = network, ahead
        self._levels = levels_of(network.input.frames, network.time_steps)
        self._shared = tuple(level for level in self._levels if level.shared)

    def rings(self, variables: dict) -> Rings:
        """Returns the shapes of the rings: ShapeDtypeStructs [slots, H, W, C]."""
        spec = self._network.input
        frames = jax.ShapeDtypeStruct((1, spec.height, spec.width, 3), jnp.uint8)
        rings = [(None, jax.eval_shape(self._network.frame_features, variables, frames))]
        for level in self._shared[1:]:
            taps = _shapes(rings[-1][1], 1, level.step.kernel)
            rings.append(jax.eval_shape(functools.partial(self._outputs, level), variables, taps))
        return tuple(
            _shapes(ring, level.span + self._ahead) for ring, level in zip(rings, self._shared, strict=True)
        )

    def push(
        self, variables: dict, rings: Rings, frames: jax.Array, first: jax.Array, direction: jax.Array
    ) -> Rings:
        """Returns the rings with new frames and with the shared outputs that these complete.

        Args:
          frames: uint8 [N, H, W, 3].
          first: position of the first one; the others follow in the direction.
          direction: 1 or -1.
        """
        positions = first + direction * jnp.arange(len(frames))
        features = self._network.frame_features(variables, frames)
        updated = [_written(rings[0], (None, features), positions)]
        for level, ring in zip(self._shared[1:], rings[1:], strict=True):
            centres = positions - direction * level.lag
            offsets = self._levels[level.number - 1].spacing * jnp.array(level.taps(0))
            taps = _read(updated[-1][1], centres[:, None] + offsets[None])
            updated.append(_written(ring, self._outputs(level, variables, taps), centres))
        return tuple(updated)

    def _outputs(self, level: Level, variables: dict, taps):
        """Returns what a step returns for single frames, as arrays [N, H, W, C]."""
        outputs = self._network.time_step(variables, level.number, taps)
        return jax.tree.map(lambda x: x[:, 0], outputs)

    def window_levels(self, variables: dict, rings: Rings, starts: jax.Array) -> tuple[jax.Array, ...]:
        """Returns the levels of the pyramid that time steps return, [B, T, H, W, C], of whole windows.

        Args:
          starts: positions [B] of the first frames of windows whose frames are in the rings.
        """
        pyramid, unshared = [], None
        for before, level in zip(self._levels, self._levels[1:], strict=False):
            ring = rings[before.number][1] if before.shared else None
            inputs = self._inputs(before, level, ring=ring, unshared=unshared, starts=starts)
            outputs = self._network.time_step(variables, level.number, inputs)
            sizes = len(starts), len(level.unshared)
            level_output, unshared = jax.tree.map(
                lambda x, sizes=sizes: x.reshape(*sizes, *x.shape[2:]), outputs
            )
            if level_output is not None:
                ring = rings[level.number][0] if level.shared else None
                pyramid.append(self._joined(level, ring, unshared=level_output, starts=starts))
        return tuple(pyramid)

    def _inputs(self, before: Level, level: Level, ring, unshared, starts):
        """Returns the taps [B * unshared outputs, kernel, H, W, C] of the outputs of single windows."""

        def frame(number, *arrays):
            if number in before.shared:
                return _read(arrays[0], starts + number * before.spacing)
            if number in before.unshared:
                return arrays[-1][:, before.unshared.index(number)]
            any_number = before.shared.start if before.shared else before.unshared[0]
            return jnp.zeros_like(frame(any_number, *arrays))

        def stacked(*arrays):
            numbers = [tap for output in level.unshared for tap in level.taps(output)]
            frames = {number: frame(number, *arrays) for number in set(numbers)}
            taps = jnp.stack([frames[number] for number in numbers], 1)
            return taps.reshape(-1, level.step.kernel, *taps.shape[2:])

        return jax.tree.map(stacked, *(tree for tree in (ring, unshared) if tree is not None))

    def _joined(self, level: Level, ring, unshared, starts):
        """Returns the outputs of whole windows [B, count, H, W, C]."""
        if not level.shared:
            return unshared
        positions = starts[:, None] + level.spacing * jnp.array(level.shared)[None]
        left = level.shared.start  # unshared outputs before the shared ones
        return jnp.concatenate([unshared[:, :left], _read(ring, positions), unshared[:, left:]], 1)


def _shapes(tree, *sizes: int):
    """Returns the shapes of arrays [n, ...] with other first axes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*sizes, *x.shape[1:]), x.dtype), tree)


def _read(ring, positions):
    """Returns what a ring, or a tree of rings, holds for positions."""
    return jax.tree.map(lambda array: array[positions % len(array)], ring)


def _written(ring, values, positions):
    return jax.tree.map(lambda array, value: array.at[positions % len(array)].set(value), ring, values)
