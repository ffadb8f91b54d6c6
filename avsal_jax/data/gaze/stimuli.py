"""A set of recorded gaze in memory: its stimuli with their fixations, and the options it is read with."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Annotated, Literal

from avsal_jax.data.gaze.fixation_table import FixationTable
from avsal_jax.errors import AvsalError
from avsal_jax.media.frame_reader import FrameReader
from avsal_jax.media.images import open_image, upright_size
from avsal_jax.spec.fields import NotNegative, Range, check_fields

_Above0 = Annotated[float, Range(0, above=True)]
_UNITS = {"%": "percent of the height", "px": "pixels", "deg": "degrees of visual angle"}


@dataclasses.dataclass(frozen=True)
class Blur:
    """The standard deviation of the Gaussian that makes a density of fixations.

    Attributes:
      value: how much.
      unit: `%` of the stimulus' height, `px` of the stimulus, or `deg` of visual angle.
    """

    value: Annotated[float, Range(0, 10_000, above=True)] = 5.0
    unit: Literal["%", "px", "deg"] = "%"

    def __post_init__(self):
        check_fields(self, "sigma.")

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"

    @classmethod
    def parse(cls, text: str) -> Blur:
        """Returns the blur of `5%`, `30px` or `1deg`; AvsalError for anything else."""
        unit = next((unit for unit in _UNITS if text.endswith(unit)), None)
        try:
            return cls(float(text.removesuffix(unit)), unit)
        except (TypeError, ValueError) as error:
            allowed = ", ".join(f"{example} ({_UNITS[unit]})" for example, unit in _EXAMPLES)
            raise AvsalError(f"a blur is {allowed}; got {text!r}") from error

    def cells(self, height: int, rows: int, pixels_per_degree: float | None) -> float:
        """Returns sigma on a grid of `rows` over a stimulus of `height` pixels.

        Raises:
          AvsalError: it is in degrees, and nothing says how many pixels these are.
        """
        if self.unit == "%":
            return self.value / 100 * rows
        if self.unit == "px":
            return self.value * rows / height
        if pixels_per_degree is None:
            raise AvsalError(
                f"a blur of {self} needs --pixels-per-degree: how many pixels of the stimulus are one degree "
                "of visual angle (about 30 to 40 at a desk)"
            )
        return self.value * pixels_per_degree * rows / height


DEFAULT_BLUR = Blur()
_EXAMPLES = (("5%", "%"), ("30px", "px"), ("1deg", "deg"))


@dataclasses.dataclass(frozen=True)
class GazeOptions:
    """How recorded gaze is read; what concerns `gaze:NAME` alone has no effect on the other sets.

    Attributes:
      sigma: of densities.
      pixels_per_degree: pixels of the stimulus in one degree of visual angle; None where unknown.
      drop_first: leaves out fixations that began when the stimulus appeared or before (start <= 0), which
        lie where the fixation cross was.
      screen: (width, height) in pixels, where coordinates of `gaze:NAME` are those of the screen.
      stimulus_rect: (x, y, width, height) of the stimulus on the screen, in pixels.
      time_origin: time in the file, in its own unit, at which the first frame appeared; `first` for the time
        of the first row of each viewing (an observer's of a stimulus); None for 0, unless the times show that
        they begin elsewhere (then it is asked for).
      time_unit: `ms` or `s`; None to recognise it.
      events: how samples become fixations: `ivt` (velocity) or `idt` (dispersion).
      velocity: degrees a second below which a sample belongs to a fixation (I-VT).
      dispersion: degrees that the samples of a fixation extend at most (I-DT).
      shortest: seconds; shorter fixations are left out.
    """

    sigma: Blur = Blur()
    pixels_per_degree: _Above0 | None = None
    drop_first: bool = False
    screen: tuple[int, int] | None = None
    stimulus_rect: tuple[float, float, float, float] | None = None
    time_origin: float | str | None = None
    time_unit: Literal["ms", "s"] | None = None
    events: Literal["ivt", "idt"] = "ivt"
    velocity: _Above0 = 30.0
    dispersion: _Above0 = 1.0
    shortest: NotNegative = 0.06

    def __post_init__(self):
        check_fields(self, "")
        self.sigma.cells(height=1, rows=1, pixels_per_degree=self.pixels_per_degree)  # raises in degrees
        if (self.screen is None) != (self.stimulus_rect is None):
            raise AvsalError("--screen WxH and --stimulus-rect x,y,w,h go together; give both or neither")
        if isinstance(self.time_origin, str) and self.time_origin != "first":
            raise AvsalError(f"--time-origin is a time as in the file, or `first`; got {self.time_origin!r}")
        if self.screen is not None:
            self._check_rect()

    def _check_rect(self) -> None:
        if len(self.screen) != 2 or len(self.stimulus_rect) != 4 or min(self.screen) < 1:
            raise AvsalError("--screen is WxH and --stimulus-rect x,y,w,h, in pixels of the screen")
        (screen_width, screen_height), (x, y, width, height) = self.screen, self.stimulus_rect
        is_inside = x >= 0 and y >= 0 and x + width <= screen_width and y + height <= screen_height
        if not (is_inside and width > 0 and height > 0):
            raise AvsalError(
                f"--stimulus-rect {x:g},{y:g},{width:g},{height:g} does not lie on a screen of "
                f"{screen_width}x{screen_height}; it is x,y,w,h of the stimulus in pixels of the screen"
            )


DEFAULT_OPTIONS = GazeOptions()


@dataclasses.dataclass(frozen=True)
class Stimulus:
    """A picture or a video that people looked at.

    Attributes:
      name: as in the set's lists: the file's name without suffix, unless two stimuli share it.
      path: the file; None where it is missing.
      is_video: whether it is a video.
      fixations: of all observers.
      notes: what is unusual about its files and its rows, a line each.
    """

    name: str
    path: pathlib.Path | None
    is_video: bool
    fixations: FixationTable
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def reader(self) -> FrameReader:
        """The frames of a video by number; AvsalError where it cannot be read."""
        return FrameReader(self.path)


@dataclasses.dataclass(frozen=True)
class GazeSet:
    """What the reader of a set returns.

    Attributes:
      stimuli: ordered by name; those without a file too (`path` None).
      notes: what concerns the set as a whole, as columns that were recognised and rows left out, with counts.
    """

    stimuli: tuple[Stimulus, ...]
    notes: tuple[str, ...] = ()


def picture_size(path: pathlib.Path) -> tuple[int, int]:
    """Returns (height, width) of a picture file from its header; AvsalError where it cannot be read."""
    with open_image(path) as image:
        return upright_size(image)
