"""Corrects samples outside the range of sound: NaN, infinite, huge, or integers stored as floats.

All readers use this rule. Float formats store any number. Sound is in [-1, 1]; values slightly beyond are
headroom and are kept.

- A stream of integers stored as floats is divided by the smallest of 2^15, 2^23 and 2^31 that holds 99.9 %
  of its samples. A stream counts as integers if more than 1 % of its nonzero samples are beyond +-8, or if
  all samples are whole numbers and some are beyond +-1. This needs a first pass over the whole stream, and
  is only done for streams that store floats without loss.
- Then NaN, infinite samples and samples beyond +-8 are set to zero, separately in each channel.
"""

from __future__ import annotations

import numpy as np

_HEADROOM_BITS = 3
LOUDEST = 2.0**_HEADROOM_BITS  # +18 dB over full scale: no mix has more headroom in use
_INTEGER_BITS = (15, 23, 31)
_INTEGER_SHARE, _OUTLIER_SHARE = 0.01, 0.001
_OCTAVES = 1100  # of float64, from 2^-1074 on


class Levels:
    """Corrects the samples of one stream, block by block.

    Attributes:
      divisor: what samples are divided by: 1, 2^15, 2^23 or 2^31.
      silenced: number of samples so far that were set to zero.
    """

    def __init__(self):
        self.divisor, self.silenced = 1.0, 0
        self._octaves = np.zeros(2 * _OCTAVES, np.int64)  # samples with 2^(i - 1 - _OCTAVES) < |x| <= 2^i
        self._integral = True

    def look(self, block: np.ndarray) -> None:
        """Adds a block of any shape to the statistics; call this with every block before `decide`."""
        finite = block[np.isfinite(block)]
        loud = np.abs(finite[finite != 0])
        self._integral = self._integral and bool((loud == np.rint(loud)).all())
        exponents = np.frexp(np.nextafter(loud, 0))[1]  # so that 2^15 itself fits 15 bits
        self._octaves += np.bincount(exponents + _OCTAVES, minlength=2 * _OCTAVES)

    def decide(self) -> None:
        """Sets `divisor` from the blocks of `look`."""
        octaves = self._octaves[: _OCTAVES + _INTEGER_BITS[-1] + 1]
        sounding = octaves.sum()

        def beyond(bits):
            return octaves[_OCTAVES + bits + 1 :].sum()

        if (self._integral and beyond(0)) or beyond(_HEADROOM_BITS) > _INTEGER_SHARE * sounding:
            fits = (bits for bits in _INTEGER_BITS if beyond(bits) <= _OUTLIER_SHARE * sounding)
            self.divisor = 2.0 ** next(fits)

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Returns a float block of any shape as corrected float32."""
        if self.divisor == 1 and (not block.size or max(block.max(), -block.min()) <= LOUDEST):
            return block.astype(np.float32, copy=False)
        block = block / block.dtype.type(self.divisor)
        good = np.abs(block) <= LOUDEST  # False for NaN
        self.silenced += int(block.size - np.count_nonzero(good))
        return np.where(good, block, 0).astype(np.float32)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on the corrections so far."""
        lines = []
        if self.divisor != 1:
            bits = int(self.divisor).bit_length()
            lines.append(f"{bits}-bit integers stored as floats, divided by {self.divisor:.0f}")
        if self.silenced:
            count = "1 sample is" if self.silenced == 1 else f"{self.silenced} samples are"
            lines.append(f"{count} NaN, infinite or beyond {LOUDEST:g} times full scale, set to zero")
        return tuple(lines)
