"""What a network takes as input: plain frozen dataclasses, without jax."""

from __future__ import annotations

import dataclasses
import fractions
import json
import math
import re
from typing import Annotated, Literal

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import Range, build, checked, field_types

PixelNorm = Literal["imagenet", "signed"]
# A model file from outside cannot ask for absurd buffers.
Side = Annotated[int, Range(32, 4096)]


@dataclasses.dataclass(frozen=True)
class AudioSpec:
    """The sound that goes with one clip.

    `samples`, `sample_rate` and `window` say nothing of a `logmel`; `patches`, `hop` and `pad_rule` nothing
    of a `waveform`.

    Attributes:
      kind: `waveform` (SoundNet) or `logmel` (VGGish, always at 16,000 Hz).
      samples: length of the waveform buffer, in samples; 0 for `logmel`.
      sample_rate: Hz, or None for the file's own rate.
      window: `hann` or `none`, applied to the excerpt before it is centred in the buffer.
      patches: number of log-mel patches of 96 frames x 64 bands.
      hop: seconds between patches.
      pad_rule: how a clip too short for its patches is filled: `centre` puts its sound in the middle of
        silence; `context` takes the sound around it, as far as there is any.
    """

    kind: Literal["waveform", "logmel"]
    samples: Annotated[int, Range(0, 10_000_000)] = 0
    sample_rate: Annotated[int, Range(1_000, 768_000)] | None = None
    window: Literal["hann", "none"] = "hann"
    patches: Annotated[int, Range(1, 1_000)] = 1
    hop: Annotated[float, Range(0.01, 60)] = 0.96
    pad_rule: Literal["centre", "context"] = "centre"

    def __post_init__(self):
        _check(self, "audio.")
        if self.kind == "waveform" and not self.samples:
            raise AvsalError("audio.samples must be a whole number from 1 to 10000000; got 0")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sound of one clip: [L], or [P, 96, 64]."""
        return (self.samples,) if self.kind == "waveform" else (self.patches, 96, 64)

    @property
    def silence(self) -> float:
        """What every element is where there is no sound: 0, or VGGish's log(0 + 0.01)."""
        return 0.0 if self.kind == "waveform" else math.log(0.01)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """The clip that a network takes.

    Attributes:
      frames: T, frames of a clip.
      height, width: pixels, both divisible by 32.
      pixel_norm: `imagenet` or `signed` (see `avsal_jax.ops.pixels`).
      resize: `pil_bilinear`: Pillow's bilinear filter with antialiasing; the aspect ratio is not kept.
      label_frame: the frame whose saliency the map shows: `last` (index T-1) or `middle` (T//2).
      audio: the sound, or None for a network on picture alone.
    """

    frames: Annotated[int, Range(1, 512)] = 32
    height: Side = 224
    width: Side = 384
    pixel_norm: PixelNorm = "imagenet"
    resize: Literal["pil_bilinear"] = "pil_bilinear"
    label_frame: Literal["last", "middle"] = "last"
    audio: AudioSpec | None = None

    def __post_init__(self):
        if not isinstance(self.audio, AudioSpec | None):
            raise AvsalError(f"audio is an AudioSpec, set by its fields as audio.samples; got {self.audio!r}")
        _check(self, "")
        for name in ("height", "width"):
            if getattr(self, name) % 32:
                raise AvsalError(f"{name} must be divisible by 32; got {getattr(self, name)}")

    @property
    def label_index(self) -> int:
        """Which frame of a clip, from 0, the map shows."""
        return self.frames - 1 if self.label_frame == "last" else self.frames // 2


def parse_setting(text: str):
    """Returns the value of a setting: a number, also as 1/16; true, false or null; else the text itself."""
    if re.fullmatch(r"[0-9]+/[0-9]*[1-9][0-9]*", text):
        return float(fractions.Fraction(text))
    try:
        return json.loads({"None": "null", "True": "true", "False": "false"}.get(text, text))
    except (ValueError, RecursionError):
        return text


def _check(spec, path: str) -> None:
    hints = field_types(type(spec))
    checked({name: getattr(spec, name) for name in hints}, hints, type(spec).__name__, path)


def spec_to_dict(spec: InputSpec) -> dict:
    """Returns `spec` as plain JSON values."""
    return dataclasses.asdict(spec)


def spec_from_dict(values: dict) -> InputSpec:
    """Returns the spec that `spec_to_dict` wrote; refuses unknown fields and wrong values."""
    return build(InputSpec, values, owner="the input of a model")
