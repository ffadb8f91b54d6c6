"""The flags of every command that reads recorded gaze."""

from __future__ import annotations

import argparse


def add_gaze(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `gaze_options` reads."""
    group = parser.add_argument_group("recorded gaze", "of gaze:NAME and of sets that come as recorded gaze")
    add = group.add_argument
    add("--sigma", metavar="S", help="blur of fixations: 5%% of the height (default), 30px, or 1deg")
    add("--pixels-per-degree", type=_number, metavar="P", help="pixels of the stimulus in one degree")
    add("--drop-first", action="store_true", help="leave out fixations that begin before the stimulus")
    add("--screen", type=_size, metavar="WxH", help="gaze:NAME: positions are pixels of this screen")
    add("--stimulus-rect", type=_rect, metavar="X,Y,W,H", help="gaze:NAME: the stimulus on the screen")
    add("--time-origin", type=_origin, metavar="T", help="gaze:NAME: the file's time of the first frame, or "
        "`first`: each viewing's first row")  # fmt: skip
    add("--time-unit", choices=("ms", "s"), help="gaze:NAME: of times and durations (default: recognised)")
    add("--events", choices=("ivt", "idt"), help="gaze:NAME: how samples become fixations (default: ivt)")
    add("--velocity", type=_number, metavar="V", help="I-VT: degrees per second (default: 30)")
    add("--dispersion", type=_number, metavar="D", help="I-DT: degrees (default: 1)")
    add(
        "--shortest", type=_number, metavar="S", help="least duration of a fixation in seconds (default: .06)"
    )


def gaze_options(args: argparse.Namespace):
    """Returns the `GazeOptions` of a command; AvsalError for values that are not allowed."""
    from avsal_jax.data.gaze.stimuli import Blur, GazeOptions

    names = ("pixels_per_degree", "drop_first", "screen", "stimulus_rect", "time_origin", "time_unit",
             "events", "velocity", "dispersion", "shortest")  # fmt: skip
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.sigma is not None:
        options["sigma"] = Blur.parse(args.sigma)
    return GazeOptions(**options)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _origin(text: str) -> float | str:
    return text if text == "first" else _number(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 100_000 > int(height) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH in pixels, as 1920x1080")
    return int(width), int(height)


def _rect(text: str) -> tuple[float, ...]:
    numbers = tuple(map(_number, text.split(",")))
    if len(numbers) != 4 or min(numbers[2:]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H in pixels, as 320,0,1280,1080")
    return numbers
