"""Types of command-line flags: each says in its error what was given and what is allowed."""

from __future__ import annotations

import argparse

SAVES = ("maps", "overlay", "npz", "report")


def saves(text: str) -> tuple[str, ...]:
    """Returns the kinds of output in a list such as `maps,npz`."""
    kinds = tuple(dict.fromkeys(text.split(",")))
    unknown = [kind for kind in kinds if kind not in SAVES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(SAVES)}")
    return kinds


def positive(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def rate(text: str) -> float:
    """Returns frames a second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of frames a second from 0.01 to 1000")
    return value
