r"""An audio front end with its encoder: the network takes the loudness of a clip in ten parts.

    avsal train --plugin loudness.py --config avinet_av --workdir runs/loudness \
        --config.model.audio_encoder=loudness
"""

import dataclasses
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
import numpy as np

from avsal_jax import register
from avsal_jax.models import Channels, Part
from avsal_jax.spec import FrontEnd, Range, check_fields

AVSAL_API = "1.0"


@register("front_end", "loudness")
@dataclasses.dataclass(frozen=True)
class Loudness(FrontEnd):
    """The level of each part of a clip's sound, in decibels over -60: [parts, 1].

    Attributes:
      parts: of equal length.
      rate: of the waveform, Hz.
    """

    parts: Annotated[int, Range(1, 1000)] = 10
    rate: Annotated[int, Range(1000, 768_000)] = 8_000

    def __post_init__(self):
        check_fields(self, "audio.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.parts, 1)

    @property
    def length(self) -> int:
        return 4 * self.rate  # seconds

    def cut(self, excerpt: np.ndarray, backwards: bool = False) -> np.ndarray:
        parts = np.array_split(excerpt[::-1] if backwards else excerpt, self.parts)
        power = np.array([np.mean(np.square(part)) if len(part) else 0.0 for part in parts])
        return np.maximum(0, 60 + 10 * np.log10(power + 1e-12)).astype(np.float32)[:, None]


@register("audio_encoder", "loudness")
class LoudnessEncoder(Part):
    """[B, parts, 1] -> tokens [B, parts, channels].

    Fields:
      channels: of a token.
    """

    channels: Channels = 8

    default_sound: ClassVar = Loudness()

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(self.channels)(audio / 60)
