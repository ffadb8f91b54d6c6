"""Small parts for tests, an encoder and a decoder of a few convolutions, and how to make them known."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import flax.linen as nn
import jax

from avsal_jax import registry
from avsal_jax.models.initial import BEFORE_RELU, ZEROS
from avsal_jax.models.layers import ConvNorm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear

SMALL = {"visual_encoder": "small"}  # in place of S3D; see `small_parts`


class SmallEncoder(Part):
    """A visual encoder with the pyramid of S3D out of five convolutions: it compiles in seconds.

    Its convolutions are 3-D ones on every backend, which trace and compile fastest.

    Fields:
      width: multiplier of the channel counts.
    """

    width: Width = 1.0
    runtime: Runtime = Runtime()

    def setup(self):
        levels = ((192, (2, 2, 2)), (480, (1, 2, 2)), (832, (2, 2, 2)), (1024, (2, 2, 2)))
        self.first = self._unit(64, kernel=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.levels = [
            self._unit(channels, kernel=(3, 3, 3), stride=stride, padding=(1, 1, 1))
            for channels, stride in levels
        ]

    def _unit(self, channels, **shape):
        direct = dataclasses.replace(self.runtime, lowering="direct")
        return ConvNorm(scaled(channels, self.width), **shape, runtime=direct)

    def __call__(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        return self.trunk(self.stem(frames, train), train)

    def stem(self, frames: jax.Array, train: bool = False) -> jax.Array:
        return self.first(frames, train)

    def trunk(self, stem: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        pyramid = []
        for level in self.levels:
            stem = level(stem, train)
            pyramid.append(stem)
        return tuple(pyramid)


class SmallDecoder(Part):
    """A decoder that weighs the channels of every level, and adds the levels at the size of the frames."""

    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        size = tuple(4 * side for side in pyramid[0].shape[2:4])

        def weighed(number, level):
            dense = nn.Dense(1, kernel_init=BEFORE_RELU, bias_init=ZEROS, name=f"level{number}")
            return dense(level.mean(1))

        maps = [weighed(number, level) for number, level in enumerate(pyramid)]
        return sum(resize_linear(level, size) for level in maps)[..., 0]  # [B, H, W]


@contextlib.contextmanager
def small_parts() -> Iterator[None]:
    """Makes the visual encoder `small` and the head `small` known parts within itself."""
    kinds = {"visual_encoder": SmallEncoder, "head": SmallDecoder}
    for kind in kinds:
        registry.table(kind)
    with registry.restored():
        for kind, cls in kinds.items():
            if registry.name_of(kind, cls) is None:
                registry.register(kind, "small")(cls)
        yield
