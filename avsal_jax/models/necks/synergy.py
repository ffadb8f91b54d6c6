"""AVRSP's neck (Yu et al. 2024, III-A and III-C): ASPP, LIP, and multi-scale feature synergy."""

from __future__ import annotations

from typing import Annotated

import flax.linen as nn
import jax

from avsal_jax.errors import AvsalError
from avsal_jax.models.importance_pooling import LocalImportancePool
from avsal_jax.models.layers import Channels, ConvNorm, Count, Runtime, Width
from avsal_jax.models.necks.aspp import ASPP, Rates
from avsal_jax.models.part import Part
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range


@register("neck", "synergy")
class SynergyNeck(Part):
    """Pyramid, finest level (X^3) first -> pyramid of equal sizes with 256 channels on every level.

    Every level goes through ASPP and LIP. Then the `pairs` finest levels are replaced by the synergy of
    themselves and their neighbours, which are taken as they were before any synergy; levels without a
    neighbour on one side drop its terms. With 4 pairs the coarsest level is enhanced too, and a fusion reads
    that one where Eq. 1 has X^0.

    Fields:
      pairs: how many levels synergy works on, 0 to 4 (paper: 3, i.e. Eq. 8's i = 1, 2, 3).
      lip: whether LIP follows ASPP; off where the encoder pools by importance (`S3D(pool="lip")`).
      lip_size: side of LIP's window, in pixels of a level; odd, so that sizes do not change.
      branch_channels, rates, fit_rates, temporal, pooling: of ASPP, see there. None is stated in the paper,
        as the channels and LIP's window are not: these are those of CASP-Net's neck.
      width: multiplier of the channels of ASPP, 256. They decide what AVRSP
        costs: a clip of 32x224x384 takes 2,535 GMAC, with half the width 732.
    """

    pairs: Annotated[int, Range(0, 4)] = 3
    lip: bool = True
    lip_size: Count = 3
    branch_channels: Channels = ASPP.branch_channels
    rates: Rates = ASPP.rates
    fit_rates: bool = ASPP.fit_rates
    temporal: Count = ASPP.temporal
    pooling: bool = ASPP.pooling
    width: Width = 1.0
    runtime: Runtime = Runtime()

    def idle_fields(self) -> dict[str, str]:
        return {} if self.lip else {"lip_size": "lip=False"}

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> tuple[jax.Array, ...]:
        if self.pairs > len(pyramid):
            raise AvsalError(f"neck.pairs must be from 0 to {len(pyramid)}; got {self.pairs}")
        if self.lip_size % 2 == 0:
            raise AvsalError(f"neck.lip_size must be an odd number of pixels; got {self.lip_size}")
        last = len(pyramid) - 1
        aspp = ASPP(
            branch_channels=self.branch_channels, rates=self.rates, fit_rates=self.fit_rates,
            temporal=self.temporal, pooling=self.pooling, width=self.width, runtime=self.runtime, name="aspp",
        )  # fmt: skip
        levels = list(aspp(pyramid, train))
        if self.lip:
            window = {"size": self.lip_size, "padding": self.lip_size // 2, "runtime": self.runtime}
            pools = (LocalImportancePool(**window, name=f"lip{last - i}") for i in range(last + 1))
            levels = [pool(x) for pool, x in zip(pools, levels, strict=True)]
        cls = nn.remat(Synergy, static_argnums=(4,)) if self.runtime.remat else Synergy
        enhanced = list(levels)
        for i in range(self.pairs):
            high = levels[i - 1] if i > 0 else None
            low = levels[i + 1] if i < last else None
            synergy = cls(runtime=self.runtime, name=f"synergy{last - i}")
            enhanced[i] = synergy(high, levels[i], low, train)
        return tuple(enhanced)


class Synergy(nn.Module):
    """Multi-scale feature synergy of one level (AVRSP, Yu et al. 2024, Eqs. 9 to 12).

    C is a convolution 3x3x3 with batch norm and ReLU; U and D resize trilinearly to the size of the level
    that they lead to, in time too, and convolve (norm, activation and resizing are not stated in the
    paper). Every C, U and D has weights of its own.

    `__call__(high, middle, low, train)`: [B, T', H', W', C] each, from fine to coarse; `high` or `low` may
    be None. Returns the shape of `middle`.
    """

    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, high, middle, low, train: bool = False) -> jax.Array:
        scales = {"high": high, "middle": middle, "low": low}
        names = [name for name, x in scales.items() if x is not None]
        first = {
            n: self._conv(f"first_{n}", x=scales[n], like=scales[n], train=train) for n in names
        }  # Eq. 9
        second = {}
        for k, n in enumerate(names):  # Eq. 10
            near = names[max(0, k - 1) : k + 2]
            second[n] = sum(
                self._conv(f"second_{n}_of_{m}", x=first[m], like=scales[n], train=train) for m in near
            )
        third = sum(
            self._conv(f"third_of_{n}", x=second[n], like=middle, train=train) for n in names
        )  # Eq. 11
        return third + middle  # Eq. 12

    def _conv(self, name, x, like, train):
        """C, or U or D where `like` is larger or smaller than `x`."""
        conv = ConvNorm(x.shape[-1], (3, 3, 3), padding=(1, 1, 1), runtime=self.runtime, name=name)
        return conv(resize_linear(x, like.shape[1:4]), train)
