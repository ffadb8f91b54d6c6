"""What a network takes as input: plain frozen dataclasses, without jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import Range, build, check_fields
from avsal_jax.spec.sound import FrontEnd, front_end_of, front_end_to_dict

# A model file from outside cannot ask for absurd buffers.
Side = Annotated[int, Range(1, 4096)]


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How 8-bit RGB becomes what a network was trained on: (value / scale - mean) / deviation.

    Attributes:
      mean, deviation: of red, green and blue.
      scale: 255 where these are about values in [0, 1].
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # ImageNet's, as ViNet feeds S3D
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    scale: Annotated[float, Range(0, 65_535, above=True)] = 255.0

    def __post_init__(self):
        check_fields(self, "pixels.")
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) != 3:
                raise AvsalError(
                    f"pixels.{name} has a number for red, green and blue; got {getattr(self, name)}"
                )
        if min(self.deviation) <= 0:
            raise AvsalError(f"pixels.deviation must be above 0; got {self.deviation}")


SIGNED = Pixels((127.5,) * 3, (127.5,) * 3, 1.0)  # to [-1, 1], as S3D was trained
MEAN_127 = Pixels((127.0,) * 3, (128.0,) * 3, 1.0)  # as EfficientNet-Lite was trained


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """The clip that a network takes.

    Attributes:
      frames: T, frames of a clip.
      height, width: pixels, both divisible by `divisor`.
      divisor: of sizes; the encoder's.
      pixels: how their values are normalised.
      resize: Pillow's filter with antialiasing that brings a picture to this size.
      fit: `stretch` (as in the papers), or `pad`: a picture of another aspect keeps it, amid the mean colour,
        and maps show the picture alone.
      label_frame: the frame whose saliency the map shows: `last` (index T-1) or `middle` (T//2).
      audio: the sound, or None for a network on picture alone.
    """

    frames: Annotated[int, Range(1, 512)] = 32
    height: Side = 224
    width: Side = 384
    divisor: Annotated[int, Range(1, 512)] = 32
    pixels: Pixels = Pixels()
    resize: Literal["pil_bilinear", "pil_bicubic"] = "pil_bilinear"
    fit: Literal["stretch", "pad"] = "stretch"
    label_frame: Literal["last", "middle"] = "last"
    audio: FrontEnd | None = None

    def __post_init__(self):
        if not isinstance(self.audio, FrontEnd | None):
            raise AvsalError(f"audio is a front end, as Waveform(samples=70_560); got {self.audio!r}")
        check_fields(self, "")
        for name in ("height", "width"):
            if getattr(self, name) % self.divisor:
                raise AvsalError(f"{name} must be divisible by {self.divisor}; got {getattr(self, name)}")

    @property
    def label_index(self) -> int:
        """Which frame of a clip, from 0, the map shows."""
        return self.frames - 1 if self.label_frame == "last" else self.frames // 2


def input_to_dict(spec: InputSpec) -> dict:
    """Returns `spec` as plain values."""
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    audio = None if spec.audio is None else front_end_to_dict(spec.audio)
    return values | {"pixels": dataclasses.asdict(spec.pixels), "audio": audio}


def input_from_dict(values: Mapping) -> InputSpec:
    """Returns the spec that `input_to_dict` wrote; refuses unknown fields and wrong values."""
    if not isinstance(values, Mapping):
        fields = ", ".join(field.name for field in dataclasses.fields(InputSpec))
        raise AvsalError(f"the input of a model has fields {fields}; got {values!r}")
    audio = values.get("audio")
    if not isinstance(audio, Mapping | FrontEnd | None):
        raise AvsalError(f"audio is a front end with its name and fields, as waveform; got {audio!r}")
    sound = front_end_of(audio) if isinstance(audio, Mapping) else audio
    return build(InputSpec, {**values, "audio": sound}, owner="the input of a model")
