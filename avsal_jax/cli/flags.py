"""Types of command-line flags; their errors name the given and the allowed values."""

from __future__ import annotations

import argparse
import fractions


def shard(text: str) -> tuple[int, int]:
    """Returns (I, N) of `I/N`."""
    index, _, count = text.partition("/")
    if not (_is_whole_number(index) and _is_whole_number(count) and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return int(index), int(count)


def positive(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not _is_whole_number(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def count(text: str) -> int:
    """Returns a whole number of at least 0."""
    if not _is_whole_number(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def batch(text: str) -> int:
    """Returns a number of windows per call, from 1 to 1024."""
    if not _is_whole_number(text) or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1024")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Returns (height, width) of `HxW`."""
    height, _, width = text.lower().partition("x")
    if not (
        _is_whole_number(height)
        and _is_whole_number(width)
        and 1 <= int(height) <= 4096
        and 1 <= int(width) <= 4096
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW in pixels, as 224x384")
    return int(height), int(width)


def pair(text: str) -> tuple[str, str]:
    """Returns (key, value) of `key=value`."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    return key, value


def seed(text: str) -> int:
    """Returns a whole number from 0 to 2^63."""
    if not _is_whole_number(text) or int(text) > 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def label(text: str) -> str:
    """Returns a name for tables: one line of at most 100 characters."""
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not one line of 1 to 100 characters")
    return text


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def rate(text: str) -> float:
    """Returns frames per second, from a number or a fraction such as 30000/1001."""
    try:
        value = float(fractions.Fraction(text) if "/" in text else float(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        value = 0.0
    if not 0.01 <= value <= 1000:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of frames per second from 0.01 to 1000, as 25 or 30000/1001"
        )
    return value


def smoothing(text: str) -> float:
    """Returns seconds from 0 to 10."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 10")
    return value


SMOOTHING = "average maps over this time before and after; 0: causal maps (default: the model's)"


def feature_frames(text: str) -> int | tuple[float, ...]:
    """Returns the number of frames of `N`, or the seconds of a list such as `1.5s,4s`."""
    if _is_whole_number(text) and 1 <= int(text) <= 64:
        return int(text)
    try:
        seconds = tuple(float(part.removesuffix("s")) for part in text.split(",") if part.endswith("s"))
    except ValueError:
        seconds = ()
    if not (
        1 <= len(seconds) <= 64 and len(seconds) == len(text.split(",")) and all(s >= 0 for s in seconds)
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 to 64 nor times as 1.5s,4s")
    return seconds


def names(text: str) -> tuple[str, ...]:
    """Returns the names of a list such as `taps,fused`; whether they exist is checked later."""
    return tuple(dict.fromkeys(name for name in text.split(",") if name))


def add_features(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `--save features`."""
    add = parser.add_argument
    add("--features", type=names, default=(), metavar="NAMES",
        help="features of the network, as taps,fused (default: all that have a picture)")  # fmt: skip
    add("--feature-frames", type=feature_frames, default=4, metavar="N|TIMES",
        help="number of evenly spaced frames, or times as 1.5s,4s (default: 4)")  # fmt: skip
    add("--compare-audio", metavar="auto|off|FILE", help="a second sound, to compare its features")
    add("--iterations", type=positive, metavar="N",
        help="of predictive coding: maps after up to N of them (default: the model's N)")  # fmt: skip


def add_ablations(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that evaluate a model differently from how it was trained."""
    add = parser.add_argument
    add("--audio", default="auto", metavar="auto|off|swap|FILE", help="the input audio of a model: "
        "each video's sound (default), silence, another video's (by --seed), or a file's")  # fmt: skip
    add(
        "--coding-iterations",
        type=count,
        metavar="N",
        help="of predictive coding (default: the model's N)",
    )


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run of several processes; by default, the launcher sets their values."""
    add = parser.add_argument
    add(
        "--coordinator",
        metavar="HOST:PORT",
        help="address at which process 0 listens (default: from the launcher)",
    )
    add("--num-processes", type=positive, metavar="N", help="in this run (default: from the launcher)")
    add("--process-id", type=count, metavar="I",
        help="number of this process, from 0 (default: from the launcher)")  # fmt: skip
    add("--join", type=positive, default=300, metavar="S", help="seconds to wait for the other processes")
    add("--heartbeat", type=positive, default=100, metavar="S",
        help="seconds without a heartbeat after which a process counts as dead")  # fmt: skip
