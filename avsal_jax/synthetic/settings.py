"""The settings of a synthetic set, with their checks, and the presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Literal

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import Range, Share, check_fields
from avsal_jax.spec.parsing import parse_setting

# Grade -> default number of objects; `visual` is silent, and its number counts moving objects.
GRADES = {"position": 2, "identity": 3, "synchrony": 3, "visual": 3}
DOMAINS = ("a", "b")
CLASSES = 4  # of appearance, and of timbre
WEIGHTS = ("sound_weight", "motion_weight", "contrast_weight", "centre_weight")
PRESETS: dict[str, dict] = {
    "tiny": {"videos": 10, "frames": 24, "height": 32, "width": 48, "observers": 20},
    "experiment": {"videos": 400, "frames": 40, "height": 64, "width": 96, "observers": 30},
    "avsal_mini": {"grade": "visual", "videos": 4000, "frames": 20, "height": 64, "width": 96},
}
_MAX_PIXELS = 30_000_000  # of all frames of a video, which is rendered in memory: about 1.5 GB


@dataclasses.dataclass(frozen=True)
class SyntheticSettings:
    """The settings of a set; a video is a pure function of them and its number.

    Attributes:
      videos: of all splits; 70 % train, 10 % val, 20 % test.
      frames: of each video.
      height, width: pixels.
      fps: frames per second.
      objects: number in each scene, 2 to 4; None for the grade's default. `position` has one object on each
        side; `visual` has between one and this number of moving objects.
      grade: what links the sound to an object: `position`, `identity` or `synchrony`; `visual` has no sound.
      inconsistent: share of videos with narration or music that nothing on the screen makes.
      domain: `a` or `b`: palettes, textures and timbres.
      observers: number per video.
      sample_rate: of the sound, Hz.
      seed: of everything.
      sound_weight, motion_weight, contrast_weight, centre_weight: shares of fixations; their sum is 1. In
        `visual` the first is the share of the moving objects.

    Raises:
      AvsalError: a value is out of its range, or values contradict each other.
    """

    videos: Annotated[int, Range(3, 100_000)] = PRESETS["experiment"]["videos"]
    frames: Annotated[int, Range(2, 10_000)] = PRESETS["experiment"]["frames"]
    height: Annotated[int, Range(32, 960)] = PRESETS["experiment"]["height"]  # raw gaze is on DIEM's screen
    width: Annotated[int, Range(32, 1_280)] = PRESETS["experiment"]["width"]
    fps: Annotated[float, Range(5, 120)] = 25.0
    objects: Annotated[int, Range(2, CLASSES)] | None = None
    grade: Literal[*GRADES] = "identity"
    inconsistent: Share = 0.0
    domain: Literal[*DOMAINS] = "a"
    observers: Annotated[int, Range(2, 1_000)] = PRESETS["experiment"]["observers"]
    sample_rate: Annotated[int, Range(16_000, 48_000)] = 22_050
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    sound_weight: Share = 0.7
    motion_weight: Share = 0.1
    contrast_weight: Share = 0.1
    centre_weight: Share = 0.1

    def __post_init__(self):
        check_fields(self, "")  # 25 and 25.0 are the same setting
        if self.objects is None:
            object.__setattr__(self, "objects", GRADES[self.grade])
        self._check_together()

    def _check_together(self) -> None:
        if self.grade == "position" and self.objects != 2:
            raise AvsalError(
                f"the grade position has 2 objects, one on each side; leave out objects={self.objects}"
            )
        if self.grade == "visual" and (self.inconsistent or self.domain != "a"):
            raise AvsalError(
                "the grade visual is silent and draws its looks; leave out inconsistent and domain"
            )
        if not math.isclose(sum(self.weights), 1.0, abs_tol=1e-6):
            raise AvsalError(f"{' + '.join(WEIGHTS)} must be 1; got {sum(self.weights):g}")
        if self.inconsistent and self.sound_weight >= 1:
            raise AvsalError(
                "where sound may be inconsistent, sound_weight must be below 1; something else is seen then"
            )
        if self.frames * self.height * self.width > _MAX_PIXELS:
            raise AvsalError(
                f"{self.frames} frames of {self.height}x{self.width} are too many for one video, which is "
                f"rendered in memory; frames x height x width is at most {_MAX_PIXELS}"
            )

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """Of the sounding (or moving) object, motion, contrast and the centre."""
        return tuple(getattr(self, name) for name in WEIGHTS)

    @property
    def duration(self) -> float:
        """Seconds of a video."""
        return self.frames / self.fps


def settings_from(pairs: Mapping[str, str]) -> SyntheticSettings:
    """Returns the settings of `key=value` pairs, which override a preset.

    Args:
      pairs: `preset` (one of PRESETS; `experiment` is the default) and fields of SyntheticSettings.

    Raises:
      AvsalError: an unknown key or preset, or a value that is not allowed.
    """
    fields = [field.name for field in dataclasses.fields(SyntheticSettings)]
    preset = pairs.get("preset", "experiment")
    if preset not in PRESETS:
        raise AvsalError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    values = dict(PRESETS[preset])
    for key, text in pairs.items():
        if key == "preset":
            continue
        if key not in fields:
            raise AvsalError(f"a synthetic set has no setting {key!r}; it has preset, {', '.join(fields)}")
        values[key] = parse_setting(text)
    return SyntheticSettings(**values)
