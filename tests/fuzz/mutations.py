"""Damage to bytes, whatever they mean; `damaged` chooses between it and what `formats` does to a format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tests.fuzz import formats

_LIGHT = 0.35  # the share of inputs with a single small change, of which many are still read
_NEUTRAL = 0.15  # the share of inputs that are written in another way and mean the same
_EXTREMES = (0, 1, -1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_PIECES = (4, 16, 64, 256, 1024)


@dataclasses.dataclass(frozen=True)
class Damage:
    """What became of a file: its bytes, what was done in words, and whether it means the same as before."""

    content: bytes
    words: str
    neutral: bool = False


def damaged(kind: str, content: bytes, other: bytes, rng: np.random.Generator) -> Damage:
    """Returns a damaged file.

    Args:
      kind: the format, a suffix without its dot.
      content: the file.
      other: another file, of any kind, to join and to mix with.
      rng: decides everything.
    """
    draw = rng.random()
    if draw < _NEUTRAL and kind in formats.NEUTRAL:
        rewrite = formats.NEUTRAL[kind][rng.integers(len(formats.NEUTRAL[kind]))]
        return Damage(rewrite(content, rng), f"neutral: {rewrite.__name__}", True)
    if draw < _NEUTRAL + _LIGHT:
        return Damage(flip_bits(content, rng, 1), "one bit")
    choices = [*_BYTES, *3 * list(formats.FIELDS.get(kind, ()))]
    words = []
    for _ in range(1 + (rng.random() < 0.25)):
        change = choices[rng.integers(len(choices))]
        words.append(change.__name__)
        content = change(content, other, rng) if change in _TWO else change(content, rng)
    return Damage(content, " and ".join(words))


def flip_bits(content: bytes, rng, count: int | None = None) -> bytes:
    """Flips up to 64 bits."""
    if not content:
        return content
    array = np.frombuffer(content, np.uint8).copy()
    for place in rng.integers(len(array), size=count or 2 ** rng.integers(7)):
        array[place] ^= 1 << rng.integers(8)
    return array.tobytes()


def zero_run(content: bytes, rng) -> bytes:
    """Sets a run of bytes to zero, as a lost block of a disk."""
    begin, end = _run(content, rng)
    return content[:begin] + bytes(end - begin) + content[end:]


def random_run(content: bytes, rng) -> bytes:
    """Sets a run of bytes to random values."""
    begin, end = _run(content, rng)
    return content[:begin] + rng.bytes(end - begin) + content[end:]


def cut(content: bytes, rng) -> bytes:
    """Keeps the beginning, as a download that broke off; sometimes nothing."""
    return content[: int(len(content) * rng.random() ** 0.5)] if rng.random() < 0.9 else b""


def lose(content: bytes, rng) -> bytes:
    """Leaves a run of bytes out."""
    begin, end = _run(content, rng)
    return content[:begin] + content[end:]


def insert(content: bytes, rng) -> bytes:
    """Puts random bytes in between."""
    begin, end = _run(content, rng)
    return content[:begin] + rng.bytes(end - begin) + content[begin:]


def repeat(content: bytes, rng) -> bytes:
    """Writes a run of bytes twice."""
    begin, end = _run(content, rng)
    return content[:end] + content[begin:end] + content[end:]


def swap(content: bytes, rng) -> bytes:
    """Exchanges two runs of bytes."""
    begin, end = _run(content, rng)
    second = int(rng.integers(end, len(content) + 1))
    piece = content[second : second + end - begin]
    return content[:begin] + piece + content[end:second] + content[begin:end] + content[second + len(piece) :]


def set_number(content: bytes, rng) -> bytes:
    """Writes an extreme number over 1, 2, 4 or 8 bytes, mostly near the beginning, where headers are."""
    size = int(2 ** rng.integers(4))
    top = max(1, len(content) - size)
    place = int(rng.integers(min(top, 200) if rng.random() < 0.6 else top))
    value = _EXTREMES[rng.integers(len(_EXTREMES))] % 2 ** (8 * size)
    number = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return content[:place] + number + content[place + size :]


def join(content: bytes, other: bytes, rng) -> bytes:
    """Joins it with another file, or with itself."""
    return [content + content, content + other, other + content][rng.integers(3)]


def mix(content: bytes, other: bytes, rng) -> bytes:
    """Continues with another file from a random position."""
    return content[: int(rng.integers(len(content) + 1))] + other[int(rng.integers(len(other) + 1)) :]


def replace(content: bytes, other: bytes, rng) -> bytes:
    """Is another file under this name."""
    return other


_TWO = (join, mix, replace)
_BYTES: tuple[Callable, ...] = (
    flip_bits, flip_bits, zero_run, random_run, cut, lose, insert, repeat, swap, set_number, set_number,
    join, mix, replace,
)  # fmt: skip


def _run(content: bytes, rng) -> tuple[int, int]:
    begin = int(rng.integers(len(content) + 1))
    length = int(rng.integers(1, _PIECES[rng.integers(len(_PIECES))] + 1))
    return begin, min(len(content), begin + length)
