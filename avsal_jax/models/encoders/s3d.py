"""S3D, the separable 3-D Inception (kylemin/S3D @ecd3786), as the visual encoder of every system.

Arrays are [B, T, H, W, C]. There is no feature gating; batch norm comes before ReLU.
"""

from __future__ import annotations

from typing import Annotated, Literal

import flax.linen as nn
import jax

from avsal_jax.errors import AvsalError
from avsal_jax.models.importance_pooling import LocalImportancePool
from avsal_jax.models.layers import Conv3D, ConvNorm, Runtime, SeparableConv, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.models.time_steps import TimeStep
from avsal_jax.ops.pooling import avg_pool3d, max_pool3d
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

# Mixed blocks: widths of branch 0 | branch 1 reduce, out | branch 2 reduce, out | branch 3.
MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
_STAGES = {2: ("mixed_3b", "mixed_3c"), 3: tuple(f"mixed_4{c}" for c in "bcdef"), 4: ("mixed_5b", "mixed_5c")}
# Pooling before the second half of stage 1, and before stages 2 to 4: window, stride, padding.
_POOLS = {
    1: ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    2: ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    3: ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    4: ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
}


class Mixed(nn.Module):
    """Four parallel branches, concatenated on channels in their order."""

    widths: tuple[int, int, int, int, int, int]
    runtime: Runtime = Runtime()

    def setup(self):
        b0, r1, b1, r2, b2, b3 = self.widths
        pointwise = (1, 1, 1)
        self.branch0 = ConvNorm(b0, pointwise, runtime=self.runtime)
        self.branch1_reduce = ConvNorm(r1, pointwise, runtime=self.runtime)
        self.branch1 = SeparableConv(b1, size=3, stride=1, padding=1, runtime=self.runtime)
        self.branch2_reduce = ConvNorm(r2, pointwise, runtime=self.runtime)
        self.branch2 = SeparableConv(b2, size=3, stride=1, padding=1, runtime=self.runtime)
        self.branch3 = ConvNorm(b3, pointwise, runtime=self.runtime)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.over_time(self.of_frames(x, train), train)

    def of_frames(self, x: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """Returns what each branch makes of single frames."""
        return (
            self.branch0(x, train),
            self.branch1.spatial(self.branch1_reduce(x, train), train),
            self.branch2.spatial(self.branch2_reduce(x, train), train),
            max_pool3d(x, window=(1, 3, 3), stride=(1, 1, 1), padding=(0, 1, 1)),
        )

    def over_time(self, branches: tuple[jax.Array, ...], train: bool, pads_time: bool = True) -> jax.Array:
        """Returns the block's output from `of_frames`; without pads, of 3 frames one remains."""
        first, second, third, pooled = branches
        pooled = max_pool3d(pooled, window=(3, 1, 1), stride=(1, 1, 1), padding=(int(pads_time), 0, 0))
        outputs = (
            first if pads_time else first[:, 1:-1],
            self.branch1.temporal(second, train, pads_time),
            self.branch2.temporal(third, train, pads_time),
            self.branch3(pooled, train),
        )
        return jax.numpy.concatenate(outputs, -1)


@register("visual_encoder", "s3d")
class S3D(Part):
    """Frames -> pyramid of four levels, each taken before the pooling that follows it.

    Fields:
      width: multiplier of all channel counts.
      classes: outputs of the action classifier (Kinetics: 400), or None for no classifier. Its
        logits [B, classes] are recorded as the feature `class_logits`.
      pool: what reduces the resolution between stages: `max`, or `lip`, local importance pooling in space
        (AVRSP's papers name it, not where it stands), where time is still reduced by maxima.
      runtime: see `layers.Runtime`.

    `__call__(frames [B, T, H, W, 3])` returns levels finest first, for width 1:
    (T/2, H/4, W/4, 192), (T/2, H/8, W/8, 480), (T/4, H/16, W/16, 832), (T/8, H/32, W/32, 1024).
    It is `trunk(stem(frames))`: `stem` works on each frame alone, so that sliding windows share it. They also
    share the layers of `time_steps`. In `mixed_4b`, with 32 frames, one output in 8 would be shared, and one
    is new with each frame: nothing to gain.
    """

    width: Width = 1.0
    classes: Annotated[int, Range(1, 100_000)] | None = None
    pool: Literal["max", "lip"] = "max"
    runtime: Runtime = Runtime()

    def setup(self):
        if self.pool == "lip":
            for number, (window, stride, padding) in _POOLS.items():
                pool = LocalImportancePool(
                    window[1], stride=stride[1], padding=padding[1], runtime=self.runtime
                )
                setattr(self, f"pool{number}", pool)
        self.conv1 = SeparableConv(scaled(64, self.width), size=7, stride=2, padding=3, runtime=self.runtime)
        self.conv2 = ConvNorm(scaled(64, self.width), (1, 1, 1), runtime=self.runtime)
        self.conv3 = SeparableConv(scaled(192, self.width), size=3, stride=1, padding=1, runtime=self.runtime)
        for name, widths in MIXED.items():
            narrowed = tuple(scaled(c, self.width) for c in widths)
            setattr(self, name, Mixed(narrowed, runtime=self.runtime))
        if self.classes is not None:
            self.classifier = Conv3D(self.classes, (1, 1, 1), use_bias=True, runtime=self.runtime)

    def __call__(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        return self.trunk(self.stem(frames, train), train)

    def stem(self, frames: jax.Array, train: bool = False) -> jax.Array:
        """[B, T, H, W, 3] -> [B, T, H/2, W/2, 64]: the first spatial convolution, frame by frame."""
        height, width = frames.shape[2:4]
        if height % 32 or width % 32:
            raise AvsalError(f"S3D takes frames whose height and width divide by 32; got {height}x{width}")
        return self.conv1.spatial(frames, train)

    def trunk(self, stem: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        """[B, T, H/2, W/2, 64] -> pyramid, finest level first."""
        if stem.shape[1] % 8:
            raise AvsalError(f"S3D takes clips whose number of frames divides by 8; got {stem.shape[1]}")
        finest = self._staged(1, stem, train)
        return self.from_levels((finest, self._staged(2, finest, train)), train)

    @property
    def time_steps(self) -> tuple[TimeStep, ...]:
        """The temporal layers that sliding windows share; see `models.time_steps`."""
        return TimeStep(kernel=7, stride=2), TimeStep(3), TimeStep(3), TimeStep(3)

    def time_step(self, number: int, taps) -> tuple[jax.Array | None, object]:
        """Evaluates a step of `time_steps` for single frames, and what follows it in each frame alone.

        Args:
          number: from 1.
          taps: what the step before returned second (or the stem), for the frames under the step's kernel:
            arrays [N, kernel, H, W, C].

        Returns:
          A level of the pyramid [N, 1, H, W, C] or None, and what the next step takes.
        """
        if number == 1:
            x = self._pooled(1, self.conv1.temporal(taps, False, pads_time=False))
            return None, self.conv3.spatial(self.conv2(x, False), False)
        if number == 2:
            x = self.conv3.temporal(taps, False, pads_time=False)
            return x, self.mixed_3b.of_frames(self._pooled(2, x), False)
        if number == 3:
            x = self.mixed_3b.over_time(taps, False, pads_time=False)
            return None, self.mixed_3c.of_frames(x, False)
        return self.mixed_3c.over_time(taps, False, pads_time=False), ()

    def from_levels(self, levels: tuple[jax.Array, jax.Array], train: bool = False) -> tuple[jax.Array, ...]:
        """The two finest levels -> pyramid, finest level first."""
        pyramid = list(levels)
        for number in (3, 4):
            pyramid.append(self._staged(number, pyramid[-1], train))
        if self.classes is not None:
            self.sow("intermediates", "class_logits", self._classify(pyramid[-1]))
        self.sow("intermediates", "taps", tuple(pyramid))
        return tuple(pyramid)

    def _staged(self, number: int, x, train):
        stage = S3D._stage
        if self.runtime.remat:
            stage = nn.remat(stage, static_argnums=(1, 3))
        return stage(self, number, x, train)

    def _stage(self, number: int, x, train):
        if number == 1:
            x = self.conv1.temporal(x, train)
            x = self._pooled(1, x)
            return self.conv3(self.conv2(x, train), train)
        x = self._pooled(number, x)
        for name in _STAGES[number]:
            x = getattr(self, name)(x, train)
        return x

    def _pooled(self, number: int, x):
        window, stride, padding = _POOLS[number]
        if self.pool == "max":
            return max_pool3d(x, window=window, stride=stride, padding=padding)
        x = max_pool3d(x, window=(window[0], 1, 1), stride=(stride[0], 1, 1), padding=(padding[0], 0, 0))
        return getattr(self, f"pool{number}")(x)

    def _classify(self, x):
        x = avg_pool3d(x, (2, x.shape[2], x.shape[3]), (1, 1, 1))
        return self.classifier(x).mean((1, 2, 3))
