"""Samples that are no sound: NaN, infinite, huge, or integers stored as floats. One rule for every reader.

Float formats store any number. Sound lies in [-1, 1]; a little beyond is headroom and is kept.

- A stream of integers stored as floats is divided by the smallest of 2^15, 2^23 and 2^31 that holds 99.9 %
  of its samples. It is taken for integers if more than 1 % of the samples that are not zero lie beyond +-8,
  or if all samples are whole numbers and some lie beyond +-1. This takes a look at the whole stream first,
  and only streams that store floats as they are can need it.
- Then NaN, infinite samples and samples beyond +-8 are set to zero, each channel by itself.
"""

from __future__ import annotations

import numpy as np

_HEADROOM_BITS = 3
LOUDEST = 2.0**_HEADROOM_BITS  # +18 dB over full scale: no mix has more headroom in use
_INTEGER_BITS = (15, 23, 31)
_INTEGER_SHARE, _OUTLIER_SHARE = 0.01, 0.001
_OCTAVES = 1100  # of float64, from 2^-1074 on


class Levels:
    """Puts the samples of one stream right, block by block.

    Attributes:
      divisor: what samples are divided by: 1, 2^15, 2^23 or 2^31.
      silenced: number of samples so far that were set to zero.
    """

    def __init__(self):
        self.divisor, self.silenced = 1.0, 0
        self._octaves = np.zeros(2 * _OCTAVES, np.int64)  # samples with 2^(i - 1 - _OCTAVES) < |x| <= 2^i
        self._whole = True

    def look(self, block: np.ndarray) -> None:
        """Takes a block of any shape into account for `divisor`; every block is looked at before `decide`."""
        finite = block[np.isfinite(block)]
        loud = np.abs(finite[finite != 0])
        self._whole = self._whole and bool((loud == np.rint(loud)).all())
        exponents = np.frexp(np.nextafter(loud, 0))[1]  # so that 2^15 itself fits 15 bits
        self._octaves += np.bincount(exponents + _OCTAVES, minlength=2 * _OCTAVES)

    def decide(self) -> None:
        """Sets `divisor` from what was looked at."""
        octaves = self._octaves[: _OCTAVES + _INTEGER_BITS[-1] + 1]
        sounding = octaves.sum()

        def beyond(bits):
            return octaves[_OCTAVES + bits + 1 :].sum()

        if (self._whole and beyond(0)) or beyond(_HEADROOM_BITS) > _INTEGER_SHARE * sounding:
            fits = (bits for bits in _INTEGER_BITS if beyond(bits) <= _OUTLIER_SHARE * sounding)
            self.divisor = 2.0 ** next(fits)

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Returns a float block of any shape as float32 without what is no sound."""
        if self.divisor == 1 and (not block.size or max(block.max(), -block.min()) <= LOUDEST):
            return block.astype(np.float32, copy=False)
        block = block / block.dtype.type(self.divisor)
        good = np.abs(block) <= LOUDEST  # False for NaN
        self.silenced += int(block.size - np.count_nonzero(good))
        return np.where(good, block, 0).astype(np.float32)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done so far, a line each."""
        lines = []
        if self.divisor != 1:
            bits = int(self.divisor).bit_length()
            lines.append(f"{bits}-bit integers stored as floats, divided by {self.divisor:.0f}")
        if self.silenced:
            count = "1 sample is" if self.silenced == 1 else f"{self.silenced} samples are"
            lines.append(f"{count} NaN, infinite or beyond {LOUDEST:g} times full scale, set to zero")
        return tuple(lines)
