"""Atrous spatial pyramid pooling (Chen et al. 2017, DeepLab) of the levels of a visual pyramid."""

from __future__ import annotations

from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.models.layers import Channels, ConvNorm, Count, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

Rates = tuple[Annotated[int, Range(1, 1000)], ...]


class AtrousPyramidPooling(nn.Module):
    """Parallel convolutions of several dilations: [B, T, H, W, I] -> [B, T, H, W, features].

    A 1x1x1 convolution, one of (time, 3, 3) for each rate with that spatial dilation and the temporal one 1,
    and the mean over time and space through a 1x1x1 convolution; concatenated and projected by 1x1x1. Each
    convolution is followed by batch norm and ReLU.

    Fields:
      features: channels of the output; `branch`: of each branch.
      rates: dilations, at least one.
      fit: whether rates shrink, in proportion, on maps where the largest would reach beyond a map's middle:
        on 7x12 rates 6, 12, 18 become 1, 2, 3. As they are, all their outer taps would meet padding alone.
      time: temporal kernel: 1 (spatial) or another odd number.
      pooling: whether there is the branch of the mean.
    """

    features: int = 256
    branch: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    fit: bool = True
    time: int = 1
    pooling: bool = True
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def unit(name, features, **shape):
            return ConvNorm(features, **{"kernel": (1, 1, 1), **shape}, runtime=self.runtime, name=name)

        branches = [unit("point", self.branch)(x, train)]
        rates = fitted_rates(self.rates, x.shape[2:4]) if self.fit else self.rates
        for number, rate in enumerate(rates, start=1):
            size = {"kernel": (self.time, 3, 3), "padding": (self.time // 2, rate, rate)}
            branches.append(unit(f"atrous{number}", self.branch, **size, dilation=(1, rate, rate))(x, train))
        if self.pooling:
            mean = unit("pooled", self.branch)(x.mean((1, 2, 3), keepdims=True), train)
            branches.append(jnp.broadcast_to(mean, (*x.shape[:4], self.branch)))
        return unit("projection", self.features)(jnp.concatenate(branches, -1), train)


def fitted_rates(rates: tuple[int, ...], size: tuple[int, int]) -> tuple[int, ...]:
    """Returns dilations for a map of `size` (height, width): in proportion, none beyond the map's middle."""
    limit = max(1, (min(size) - 1) // 2)
    largest = max(rates)
    return (
        tuple(rates) if largest <= limit else tuple(max(1, round(rate * limit / largest)) for rate in rates)
    )


@register("neck", "aspp")
class ASPP(Part):
    """Atrous spatial pyramid pooling of each level: changes channels to `channels`, and keeps T, H, W.

    CASP-Net (Xiong et al. 2023, 3.2) states only C = 256; the rest is DeepLab's.

    Fields:
      channels: of every level, C.
      branch_channels: of every branch.
      rates: dilations, at least one.
      fit_rates, temporal, pooling: see `AtrousPyramidPooling` (`fit`, `time`, `pooling`).
      width: multiplier of both channel counts.

    Raises:
      AvsalError: no rate, or an even temporal kernel.
    """

    channels: Channels = 256
    branch_channels: Channels = 256
    rates: Rates = (6, 12, 18)
    fit_rates: bool = True
    temporal: Count = 1
    pooling: bool = True
    width: Width = 1.0
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> tuple[jax.Array, ...]:
        cls = (
            nn.remat(AtrousPyramidPooling, static_argnums=(2,))
            if self.runtime.remat
            else AtrousPyramidPooling
        )
        if not self.rates:
            raise AvsalError("neck.rates names at least one dilation, as (6, 12, 18); got ()")
        if self.temporal % 2 == 0:
            raise AvsalError(f"neck.temporal must be an odd number of frames; got {self.temporal}")
        pool = [
            cls(
                features=scaled(self.channels, self.width),
                branch=scaled(self.branch_channels, self.width),
                rates=self.rates,
                fit=self.fit_rates,
                time=self.temporal,
                pooling=self.pooling,
                runtime=self.runtime,
                name=f"level{number}",
            )
            for number in range(1, len(pyramid) + 1)
        ]
        return tuple(module(level, train) for module, level in zip(pool, pyramid, strict=True))
