"""What a network takes as input: plain frozen dataclasses, without jax."""

from __future__ import annotations

import dataclasses
import fractions
import functools
from collections.abc import Mapping
from typing import Annotated, Literal

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import Range, build, check_fields
from avsal_jax.spec.front_ends import FrontEnd, front_end_of, front_end_to_dict

# A model file from outside cannot ask for absurd buffers.
_MOST_PIXELS = 4096
Side = Annotated[int, Range(1, _MOST_PIXELS)]
MOST_SMOOTHING_SECONDS = 10
MOST_FPS = 120  # of videos for networks with an interval, whose sliding windows have room for this rate
_MOST_CLIP_SECONDS = 30
# Limits of the sizes of the fit `aspect`: area in percent of height * width, and longer over shorter side.
_LEAST_AREA, _MOST_AREA = 89, 109
_MOST_ASPECT = fractions.Fraction(16, 5)


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
BT601 = (0.299, 0.587, 0.114)  # luminance of red, green and blue (ITU-R BT.601)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """The clip that a network takes.

    Attributes:
      frames: T, frames of a clip.
      height, width: pixels, both divisible by `divisor`.
      divisor: of sizes; the encoder's.
      pixels: how their values are normalised.
      resize: Pillow's filter with antialiasing that brings a picture to this size.
      fit: `stretch` (as in the papers); `pad`: a picture of another aspect keeps it, amid the mean colour,
        and maps show the picture without the padding; or `aspect`: pictures are stretched to the size in
        `sizes` that is nearest to their aspect. At 224x384 and a divisor of 32 this changes the aspect of
        pictures from 1:3.2 to 3.2:1 by at most 9.6 %, that of 16:9 and 4:3 by less than 4 %. More extreme
        ones are stretched to 160x512 or 512x160. Maps have the size that was chosen.
      label_frame: the frame whose saliency the map shows: `last` (index T-1) or `middle` (T//2).
      interval: seconds between the frames of a clip; 0 for consecutive frames, as in the papers. With an
        interval a clip extends beyond the ends of a video by repeats of its first or last frame. Not for
        networks with sound.
      smoothing: seconds. The map of a frame of a video is the mean of the maps of all frames that are at most
        this far from it, before and after; 0 for its own map only.
      audio: the sound, or None for a network on picture alone.
    """

    frames: Annotated[int, Range(1, 512)] = 32
    height: Side = 224
    width: Side = 384
    divisor: Annotated[int, Range(1, 512)] = 32
    pixels: Pixels = Pixels()
    resize: Literal["pil_bilinear", "pil_bicubic"] = "pil_bilinear"
    fit: Literal["stretch", "pad", "aspect"] = "stretch"
    label_frame: Literal["last", "middle"] = "last"
    interval: Annotated[float, Range(0, 10)] = 0.0
    smoothing: Annotated[float, Range(0, MOST_SMOOTHING_SECONDS)] = 0.0
    audio: FrontEnd | None = None

    def __post_init__(self):
        if not isinstance(self.audio, FrontEnd | None):
            raise AvsalError(f"audio is a front end, as Waveform(samples=70_560); got {self.audio!r}")
        check_fields(self, "")
        for name in ("height", "width"):
            if getattr(self, name) % self.divisor:
                raise AvsalError(f"{name} must be divisible by {self.divisor}; got {getattr(self, name)}")
        if self.interval and self.audio is not None:
            raise AvsalError(
                f"a network with sound takes consecutive frames: set interval=0 (got {self.interval}), or "
                "leave out the audio encoder"
            )
        if (self.frames - 1) * self.interval > _MOST_CLIP_SECONDS:
            raise AvsalError(
                f"a clip lasts at most {_MOST_CLIP_SECONDS} s; {self.frames} frames at an interval of "
                f"{self.interval} s are longer"
            )

    @property
    def label_index(self) -> int:
        """Which frame of a clip, from 0, the map shows."""
        return self.frames - 1 if self.label_frame == "last" else self.frames // 2

    @property
    def needs_rate(self) -> bool:
        """Whether maps depend on the frames per second of a video."""
        return self.interval > 0 or self.smoothing > 0

    def spacing(self, fps: float) -> int | None:
        """Returns frames from one frame of a clip to the next; None for consecutive frames as in the papers.

        Raises:
          AvsalError: a video with an interval has more frames per second than sliding windows are made for.
        """
        if not self.interval:
            return None
        if fps > MOST_FPS:
            raise AvsalError(
                f"this model takes videos of at most {MOST_FPS} frames per second, since its clips have an "
                f"interval of {self.interval:g} s; got {fps:.4g}: use --frame-step"
            )
        return max(1, round(self.interval * fps))

    def smoothing_frames(self, fps: float) -> int:
        """Returns how many frames before and after a frame are averaged with it."""
        return round(self.smoothing * fps)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of all frames that the network is given: several with the fit `aspect`."""
        if self.fit != "aspect":
            return ((self.height, self.width),)
        return _sizes_of_area(self.height, self.width, self.divisor)

    def for_picture(self, height: int, width: int) -> InputSpec:
        """Returns the spec with the size for a picture of this height and width; itself without `aspect`.

        The size is that of `sizes` whose aspect is nearest, the first of equally near ones.
        """
        if self.fit != "aspect":
            return self
        size = _nearest_size(self.sizes, height, width)
        return dataclasses.replace(self, height=size[0], width=size[1], fit="stretch")


@functools.lru_cache
def _sizes_of_area(height: int, width: int, divisor: int) -> tuple[tuple[int, int], ...]:
    """Returns (height, width) itself, then all sizes of about its area that are not too long, rising."""
    area, longest = height * width // divisor**2, _MOST_PIXELS // divisor
    sizes = [(height, width)]
    for rows in range(1, longest + 1):
        least_columns = -(-_LEAST_AREA * area // (100 * rows))
        for columns in range(max(1, least_columns), min(longest, _MOST_AREA * area // (100 * rows)) + 1):
            if max(rows, columns) <= _MOST_ASPECT * min(rows, columns):
                sizes.append((rows * divisor, columns * divisor))
    return tuple(dict.fromkeys(sizes))


@functools.lru_cache
def _nearest_size(sizes: tuple[tuple[int, int], ...], height: int, width: int) -> tuple[int, int]:
    def nearness(size: tuple[int, int]) -> fractions.Fraction:
        aspects = size[1] * height, size[0] * width
        return fractions.Fraction(min(aspects), max(aspects))

    return max(sizes, key=nearness)


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
