"""Multi-scale regulator gates (AVRSP, Yu et al. 2024, Eqs. 13 to 15) after any fusion, or after none."""

from __future__ import annotations

from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.models.layers import Conv3D, Runtime
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

GateOrder = Literal["sigmoid_average", "average_sigmoid"]


@register("regulator", "gates")
class RegulatorGates(Part):
    """Hands what a fusion made of the coarsest level to the finer ones, through a gate on each.

    F^0 is the coarsest level that the fusion returned (without a fusion, or without sound, the visual one);
    for l = 1, 2, 3, F^l is F^{l-1} resized to level l, and gated there if l is one of the `gates` finest
    levels. With four gates F^0 is gated by the visual X^0, without resizing. A gated level returns F^l
    concatenated with X^l, any other level what the fusion returned. X^l is the visual feature; of a fusion
    that works on finer levels too (CASP-Net's) it is what that returned there.

    Fields:
      gates: how many of the finest levels are gated (paper: 3).
      order: see `RegulatorGate`.
      returns: what a gated level returns: `gated_and_visual`, or `gated` alone. The paper names the inputs
        of its decoder by symbols that it does not define.

    `__call__(pyramid, fused, train)`: the visual pyramid and the one that the fusion returned, both finest
    level first.
    """

    gates: Annotated[int, Range(1, 4)] = 3
    order: GateOrder = "sigmoid_average"
    returns: Literal["gated_and_visual", "gated"] = "gated_and_visual"
    runtime: Runtime = Runtime()

    def setup(self):
        gate = nn.remat(RegulatorGate) if self.runtime.remat else RegulatorGate
        for level in range(4 - self.gates, 4):
            setattr(self, f"gate{level}", gate(self.order, self.runtime))

    def __call__(
        self, pyramid: tuple[jax.Array, ...], fused: tuple[jax.Array, ...], train: bool = False
    ) -> tuple[jax.Array, ...]:
        visual = (*fused[:-1], pyramid[-1])
        feature, levels = fused[-1], []
        for level in range(4):
            visual_level = visual[3 - level]
            if level > 0:
                feature = resize_linear(feature, visual_level.shape[1:4])  # Eq. 13
            if level >= 4 - self.gates:
                feature = getattr(self, f"gate{level}")(feature, visual_level)
                joined = self.returns == "gated_and_visual"
                levels.append(jnp.concatenate([feature, visual_level], -1) if joined else feature)
            else:
                levels.append(fused[3 - level])
        return tuple(reversed(levels))


class RegulatorGate(nn.Module):
    """Eqs. 14 and 15: weighs the channels of `fused` by what it and `visual` show together.

    Fields:
      order: `sigmoid_average`, the literal Eq. 14 (the mean of sigmoids), or `average_sigmoid` (the sigmoid
        of the mean).

    `__call__(fused [B, T, H, W, C], visual [B, T, H, W, D])` returns [B, T, H, W, C]. Both convolutions are
    3x3x3 with a bias (not stated in the paper).
    """

    order: GateOrder = "sigmoid_average"
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, fused: jax.Array, visual: jax.Array) -> jax.Array:
        score = self._conv("select", fused.shape[-1], jnp.concatenate([fused, visual], -1))
        score = score.astype(jnp.promote_types(score.dtype, jnp.float32))
        literal = self.order == "sigmoid_average"
        first, last = (jax.nn.sigmoid, _average) if literal else (_average, jax.nn.sigmoid)
        gate = last(first(score)).astype(fused.dtype)
        return self._conv("output", fused.shape[-1], gate * fused)

    def _conv(self, name, channels, x):
        pad, runtime = (1, 1, 1), self.runtime
        return Conv3D(channels, (3, 3, 3), padding=pad, use_bias=True, runtime=runtime, name=name)(x)


def _average(x):
    return x.mean((1, 2, 3), keepdims=True)
