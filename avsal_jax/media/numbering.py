"""Which file belongs to which frame, if files and frames are numbered differently.

Frames are numbered r to R (n of them), the files f to l (s numbers, some of which may be missing):

| first numbers | numbers | taken |
|---|---|---|
| f = r | any | by their numbers; refused where one has no gaps and at most half as many as the other |
| f = 0, r > 0 | s = n - 2 to n + 2 | as counted from 0: l - f may be more or less than the frames by two |
| f = 1, r = 0 | s = n to n + 2 | as counted from 1 |
| f = 1, r = 0 | s < n | refused: they may lack the first frame, or the last |
| f = 1, r > 1 | s = n; or apart from the frames' and s = n - 2 to n + 2 | as counted from 1 |
| f > r | l <= R, or l <= R + 2 and s < n with r > 0 | by their numbers: the first frames have none |
| apart (l < r or f > R) | s = n | the first to the first, and so on |
| anything else | | refused, with both numberings |
"""

from __future__ import annotations

from typing import NamedTuple

from avsal_jax.errors import AvsalError

_SLACK = 2  # frames by which files and frames of public sets differ


class Numbers(NamedTuple):
    """Whole numbers from `first` to `last`, of which `count` exist."""

    first: int
    last: int
    count: int

    @property
    def span(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        span = f"{self.first} to {self.last}"
        return span if self.count == self.span else f"{span} ({self.count} files)"


def place(kind: str, files: Numbers, frames: Numbers) -> tuple[int, str]:
    """Returns the number of the first frame's file, and a note if it differs from the frame's number.

    Args:
      kind: what the files are, in the plural, for the lines.
      files: their numbers.
      frames: the numbers of the frames.

    Raises:
      AvsalError: it is not certain which file belongs to which frame.
    """
    first = _first(files, frames)
    if first is None:
        fewer = min(files, frames, key=lambda numbers: numbers.span)
        thinned = files.first == frames.first
        reason = f" ({fewer.span} may be the first, or every second or third)" if thinned else ""
        raise AvsalError(
            f"the {kind} are numbered {files}, the frames {frames}: which belongs to which is not certain"
            f"{reason}; give both the same numbers"
        )
    if first == frames.first:
        return first, ""
    return first, (
        f"the {kind} are numbered {files}, the frames {frames}: number {first} is taken for frame "
        f"{frames.first}"
    )


def _first(files: Numbers, frames: Numbers) -> int | None:
    """Returns the first frame's number among `files`, or None if it is uncertain."""
    longer = files.span - frames.span
    near, apart = abs(longer) <= _SLACK, files.last < frames.first or files.first > frames.last
    first = files.first  # by default, the first file is that of the first frame
    if first == frames.first:
        certain = not (_may_be_thinned(files, frames) or _may_be_thinned(frames, files))
    elif first == 0:
        certain = near
    elif (first, frames.first) == (1, 0):
        certain = near and longer >= 0
    elif first == 1:
        certain = longer == 0 or (near and apart)
    elif apart:
        certain = longer == 0
    else:
        first, beyond = frames.first, files.last - frames.last
        within = beyond <= 0 or (beyond <= _SLACK and longer < 0 < first)
        certain = files.first > first and within
    return first if certain else None


def _may_be_thinned(fewer: Numbers, longer: Numbers) -> bool:
    """Whether `fewer` may be every second (third, ...) file of `more`, renumbered."""
    gapless = fewer.count == fewer.span
    return gapless and 2 * fewer.span <= longer.span + 1 and longer.span - fewer.span > _SLACK


def first_frame(images: Numbers, truths: dict[str, Numbers], shots: bool) -> int:
    """Returns the number of the first frame: the first image's, or one before it whose image is missing.

    Args:
      images: the numbers of the images.
      truths: kind -> numbers of its files.
      shots: whether numbers continue from shot to shot, so that a large first number is normal.

    Raises:
      AvsalError: the images begin after the truth: they may lack the first frames or be numbered differently.
    """
    if images.first <= 1 or shots:
        return images.first
    for kind, files in truths.items():
        apart = files.last < images.first
        if files.first > 1 or apart:
            continue
        if files.first == 1 and images.last <= files.last:
            return 1
        raise AvsalError(
            f"the {kind} are numbered {files}, the images {images}: which belongs to which is not certain; "
            "give both the same numbers"
        )
    return images.first
