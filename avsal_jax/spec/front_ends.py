"""Audio front ends: which part of a clip's sound a network takes, and in which form. Without jax.

A front end cuts its array out of the waveform of a clip, and knows its shape and what silence is in it.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.registry import register
from avsal_jax.spec import log_mel
from avsal_jax.spec.fields import Range, build, check_fields

SOUNDNET_SCALE = 256.0  # SoundNet was trained on 24-bit samples times 2^-23 read as 32-bit: +-256


@dataclasses.dataclass(frozen=True)
class Silence:
    """What a network takes where there is no sound: an array of one value. `np.asarray` gives it as float32.

    Attributes:
      shape: of the sound of one clip.
      level: the value of every element.
    """

    shape: tuple[int, ...]
    level: float

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.full(self.shape, self.level, dtype or np.float32)


class FrontEnd(abc.ABC):
    """The base of front ends, which are frozen dataclasses.

    Attributes:
      rate: Hz of the waveform that it is given, or None for the file's own.
      fallback_rate: Hz that a faster waveform is brought to where a clip does not fit, or None to cut it.
      takes_context: whether a clip too short for it is given the sound around it, as far as there is any.
    """

    rate: int | None = None
    fallback_rate: ClassVar[int | None] = None

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the sound of one clip."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """Samples of the longest waveform that it takes; of a longer one the middle is kept."""

    @property
    def takes_context(self) -> bool:
        return False

    @property
    def silence(self) -> Silence:
        """What the network takes where there is no sound."""
        return Silence(self.shape, 0.0)

    @abc.abstractmethod
    def cut(self, excerpt: np.ndarray, backwards: bool = False) -> np.ndarray:
        """Returns float32 `shape`: the sound of a clip.

        Args:
          excerpt: its waveform, float32 [samples] in [-1, 1].
          backwards: whether the clip runs backwards, and its sound too.
        """


@register("front_end", "waveform")
@dataclasses.dataclass(frozen=True)
class Waveform(FrontEnd):
    """The waveform amid silence, times 256: SoundNet's.

    The Hann window has the excerpt's own length. An even excerpt of N samples lies at [c - N/2, c + N/2)
    around c = samples // 2, an odd one at [c - N//2, c + N//2 + 1). The arithmetic is that of STAViS
    (atsiami/STAViS @71fd51f) and ViNet (samyak0210/ViNet @2a52666), which agree.

    Attributes:
      samples: of the buffer.
      window: `hann` or `none`, applied to the excerpt before it is put into the buffer.
      rate: Hz, or None for the file's own.
    """

    samples: Annotated[int, Range(1, 10_000_000)]
    window: Literal["hann", "none"] = "hann"
    rate: Annotated[int, Range(1_000, 768_000)] | None = None

    fallback_rate: ClassVar[int | None] = 22_050  # SoundNet's own; the published buffers are sized for it

    def __post_init__(self):
        check_fields(self, "audio.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples,)

    @property
    def length(self) -> int:
        return self.samples

    def cut(self, excerpt: np.ndarray, backwards: bool = False) -> np.ndarray:
        excerpt = in_the_middle(excerpt, min(len(excerpt), self.samples))
        window = _hann(len(excerpt)) if self.window == "hann" else 1.0
        buffer = in_the_middle(excerpt * window * SOUNDNET_SCALE, self.samples).astype(np.float32)
        return buffer[::-1] if backwards else buffer


@register("front_end", "logmel")
@dataclasses.dataclass(frozen=True)
class LogMel(FrontEnd):
    """VGGish's log-mel patches (`spec.log_mel`): [patches, 96, 64], natural logarithms.

    Attributes:
      patches: of 96 frames x 64 bands, 0.96 s each.
      hop: seconds between patches.
      pad: how a clip too short for its patches is filled: `centre` puts its sound in the middle of silence;
        `context` takes the sound around it, as far as there is any.
    """

    patches: Annotated[int, Range(1, 1_000)] = 1
    hop: Annotated[float, Range(0.01, 60)] = 0.96
    pad: Literal["centre", "context"] = "centre"

    rate: ClassVar[int] = log_mel.RATE

    def __post_init__(self):
        check_fields(self, "audio.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.patches, log_mel.PATCH, log_mel.BANDS)

    @property
    def length(self) -> int:
        return log_mel.samples_for(self.patches, self.hop)

    @property
    def takes_context(self) -> bool:
        return self.pad == "context"

    @property
    def silence(self) -> Silence:
        return Silence(self.shape, math.log(log_mel.OFFSET))

    def cut(self, excerpt: np.ndarray, backwards: bool = False) -> np.ndarray:
        wave = in_the_middle(excerpt, self.length)
        return log_mel.log_mel_patches(wave[::-1] if backwards else wave, self.patches, self.hop)


_BEFORE = {"kind": "name", "sample_rate": "rate", "pad_rule": "pad"}  # names of the first version


def front_end_of(values: Mapping) -> FrontEnd:
    """Returns the front end of {"name": registered or a class, field: value}.

    Raises:
      AvsalError: an unknown name or field, or a value that a field does not take.
    """
    fields = dict(values)
    name = fields.pop("name", None)
    if isinstance(name, type) and issubclass(name, FrontEnd):
        return build(name, fields, "audio")
    for field in fields:
        if field in _BEFORE:
            raise AvsalError(f"'audio.{field}' is now 'audio.{_BEFORE[field]}'")
    cls = registry.lookup("front_end", name)
    if cls is None:
        names = registry.table("front_end")
        raise AvsalError(f"audio.name {name!r} is not one of {', '.join(names)}{did_you_mean(name, names)}")
    return build(cls, values=fields, path="audio", owner=f"audio {name!r}")


def front_end_to_dict(front_end: FrontEnd) -> dict:
    """Returns what `front_end_of` takes again; a class that is not registered stands for its name."""
    cls = type(front_end)
    return {"name": registry.name_of("front_end", cls) or cls, **dataclasses.asdict(front_end)}


def in_the_middle(wave: np.ndarray, length: int) -> np.ndarray:
    """Returns `length` samples: `wave` amid silence, or the middle of a longer one."""
    if len(wave) > length:
        spare = len(wave) - length
        return wave[spare // 2 : spare // 2 + length]
    buffer = np.zeros(length, wave.dtype)
    at = length // 2 - len(wave) // 2
    buffer[at : at + len(wave)] = wave
    return buffer


@functools.lru_cache(maxsize=256)
def _hann(length: int) -> np.ndarray:
    return np.hanning(length)
