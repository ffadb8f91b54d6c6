"""Means that can be merged: the same to the last digit however the values were grouped."""

from __future__ import annotations

import dataclasses
import math
import re
from fractions import Fraction

import numpy as np

from avsal_jax.errors import AvsalError

_HEX = re.compile(r"-?[0-9a-f]{1,1024}")
_MAX_SHIFT = 1074  # a double is a multiple of 2**-1074


@dataclasses.dataclass(frozen=True)
class MeanState:
    """The mean of one metric so far. `MeanState()` is the empty one.

    The total is kept as an exact fraction, so the order of frames, the size of batches, the number of
    processes and restarts change nothing; states of the same values are equal.

    Attributes:
      total: the exact sum of the values that count.
      weight: how many count.
      dropped: how many were NaN, which does not count.
    """

    total: Fraction = Fraction(0)
    weight: int = 0
    dropped: int = 0

    def add(self, values) -> MeanState:
        """Returns the state with `values` taken in: a number, or an array of any shape.

        Raises:
          AvsalError: the values are no real numbers, or infinite.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "buif":
            raise AvsalError(f"a mean takes real numbers; got {values.dtype}")
        values = values.astype(np.float64).ravel()
        if np.isinf(values).any():
            raise AvsalError("a mean takes finite numbers and NaN; got an infinite value: drop it first")
        kept = values[~np.isnan(values)].tolist()
        total = sum(map(Fraction, kept), self.total)
        return MeanState(total, self.weight + len(kept), self.dropped + values.size - len(kept))

    def merge(self, other: MeanState) -> MeanState:
        """Returns the state of the values of both."""
        return MeanState(self.total + other.total, self.weight + other.weight, self.dropped + other.dropped)

    def mean(self) -> float:
        """Returns the mean of the values that count, correctly rounded; NaN if there is none."""
        return float(self.total / self.weight) if self.weight else math.nan

    def to_json(self) -> dict:
        """Returns plain JSON values, from which `from_json` makes the same state."""
        shift = self.total.denominator.bit_length() - 1
        return {
            "total": f"{self.total.numerator:x}",
            "shift": shift,
            "weight": self.weight,
            "dropped": self.dropped,
        }

    @classmethod
    def from_json(cls, values: dict) -> MeanState:
        """Returns the state that `to_json` wrote.

        Raises:
          AvsalError: the values are none that it writes.
        """
        fields = {"total", "shift", "weight", "dropped"}
        if not isinstance(values, dict) or set(values) != fields:
            raise AvsalError(f"a stored mean has the fields {', '.join(sorted(fields))}; got {values!r:.80}")
        for name, limit in (("shift", _MAX_SHIFT), ("weight", 2**63), ("dropped", 2**63)):
            if type(values[name]) is not int or not 0 <= values[name] <= limit:
                raise AvsalError(
                    f"{name} of a stored mean must be from 0 to {limit}; got {values[name]!r:.80}"
                )
        total = values["total"]
        if not isinstance(total, str) or not _HEX.fullmatch(total):
            raise AvsalError(f"total of a stored mean must be hexadecimal digits; got {total!r:.80}")
        return cls(Fraction(int(total, 16), 2 ** values["shift"]), values["weight"], values["dropped"])
