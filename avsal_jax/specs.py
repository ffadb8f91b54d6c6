"""What a network takes as input: plain frozen dataclasses, without jax."""

from __future__ import annotations

import dataclasses
import fractions
import json
import math
import re

from avsal_jax.errors import AvsalError

PIXEL_NORMS = ("imagenet", "signed")
RESIZES = ("pil_bilinear",)
LABEL_FRAMES = ("last", "middle")
AUDIO_KINDS = ("waveform", "logmel")
_MAX_FRAMES, _MAX_SIDE = 512, 4096  # a model file from outside cannot ask for absurd buffers
_SAMPLE_RATES = 1_000, 768_000  # Hz


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

    kind: str
    samples: int = 0
    sample_rate: int | None = None
    window: str = "hann"
    patches: int = 1
    hop: float = 0.96
    pad_rule: str = "centre"

    def __post_init__(self):
        _one_of("audio.kind", self.kind, AUDIO_KINDS)
        _one_of("audio.window", self.window, ("hann", "none"))
        _one_of("audio.pad_rule", self.pad_rule, ("centre", "context"))
        _in_range("audio.samples", self.samples, 0 if self.kind == "logmel" else 1, 10_000_000)
        _in_range("audio.patches", self.patches, 1, 1_000)
        if self.sample_rate is not None:
            _in_range("audio.sample_rate", self.sample_rate, *_SAMPLE_RATES)
        if not isinstance(self.hop, int | float) or not 0.01 <= self.hop <= 60:
            raise AvsalError(f"audio.hop must be a number of seconds from 0.01 to 60; got {self.hop!r}")

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

    frames: int = 32
    height: int = 224
    width: int = 384
    pixel_norm: str = "imagenet"
    resize: str = "pil_bilinear"
    label_frame: str = "last"
    audio: AudioSpec | None = None

    def __post_init__(self):
        _one_of("pixel_norm", self.pixel_norm, PIXEL_NORMS)
        _one_of("resize", self.resize, RESIZES)
        _one_of("label_frame", self.label_frame, LABEL_FRAMES)
        if not isinstance(self.audio, AudioSpec | None):
            raise AvsalError(f"audio is an AudioSpec, set by its fields as audio.samples; got {self.audio!r}")
        _in_range("frames", self.frames, 1, _MAX_FRAMES)
        for name in ("height", "width"):
            _in_range(name, getattr(self, name), 32, _MAX_SIDE)
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


def _one_of(name, value, allowed):
    if value not in allowed:
        raise AvsalError(f"{name} {value!r} is none of {', '.join(map(str, allowed))}")


def _in_range(name, value, low, high):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise AvsalError(f"{name} must be a whole number from {low} to {high}; got {value!r}")


def spec_to_dict(spec: InputSpec) -> dict:
    """Returns `spec` as plain JSON values."""
    return dataclasses.asdict(spec)


def spec_from_dict(values: dict) -> InputSpec:
    """Returns the spec that `spec_to_dict` wrote; refuses unknown fields and wrong values."""
    if isinstance(values, dict) and values.get("audio") is not None:
        values = {**values, "audio": _build(AudioSpec, values["audio"])}
    return _build(InputSpec, values)


def _build(cls, values: dict):
    if not isinstance(values, dict):
        raise AvsalError(f"an {cls.__name__} is an object with fields; got {type(values).__name__}")
    fields = dataclasses.fields(cls)
    known = [field.name for field in fields]
    if unknown := sorted(set(values) - set(known)):
        raise AvsalError(f"unknown field {unknown[0]!r} of {cls.__name__}; it has {', '.join(known)}")
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in values]:
        raise AvsalError(f"an {cls.__name__} needs the field {missing[0]!r}")
    return cls(**values)
