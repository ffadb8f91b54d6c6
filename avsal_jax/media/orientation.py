"""The display matrix of a frame: how a player turns and mirrors what is stored."""

from __future__ import annotations

import dataclasses
import math

import av
import numpy as np


@dataclasses.dataclass(frozen=True)
class Orientation:
    """One of the eight ways that a display matrix turns and mirrors a picture.

    Attributes:
      transposes: whether rows become columns.
      rows, columns: 1, or -1 where these run backwards in the upright picture.
      note: a line if the matrix specifies another transform, or None.
    """

    transposes: bool = False
    rows: int = 1
    columns: int = 1
    note: str | None = None

    def upright_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of a picture of this size as it is shown."""
        return (width, height) if self.transposes else (height, width)

    def upright(self, image: np.ndarray) -> np.ndarray:
        """Returns [H, W, ...] as it is shown."""
        turned = image.swapaxes(0, 1) if self.transposes else image
        return np.ascontiguousarray(turned[:: self.rows, :: self.columns])


def read_orientation(frame: av.VideoFrame, before: Orientation | None = None) -> Orientation:
    """Reads the display matrix (a, b, u; c, d, v; x, y, w): (x, y) is shown at (a x + c y, b x + d y).

    Args:
      before: of the previous frame; used for a frame without a matrix, since H.264 may state it only once.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return before or Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(data, "=i4")[:5])
    straight, crossed = abs(a) + abs(d), abs(b) + abs(c)
    if a * d == b * c:  # degenerate, so not intended
        return Orientation()
    mirrored = a * d < b * c
    angle = math.degrees(math.atan2(b, a))
    note = None
    if min(straight, crossed) > 0.02 * max(straight, crossed):  # about a degree
        note = f"its display matrix turns by {angle:.0f} degrees; the nearest quarter turn is shown"
    sign = -1 if mirrored else 1
    if straight >= crossed:
        x = 1 if a + sign * d >= 0 else -1  # of the two entries together, as of a noisy rotation
        return Orientation(False, rows=sign * x, columns=x, note=note)
    y = 1 if b - sign * c >= 0 else -1
    return Orientation(True, rows=y, columns=-sign * y, note=note)


class OrientationReader:
    """The orientation of a stream's frames, given in their order.

    The matrix is read at the first frame and when its angle changes, not at every frame: a PyAV frame and its
    side data reference each other, so frames would accumulate until Python's cyclic garbage collector runs.
    A mirror that begins later in a stream, at the same angle, is therefore not detected.
    """

    def __init__(self):
        self._orientation: Orientation | None = None
        self._angle = 0

    def __call__(self, frame: av.VideoFrame) -> Orientation:
        angle = frame.rotation
        if self._orientation is None or angle != self._angle:
            self._orientation, self._angle = read_orientation(frame, self._orientation), angle
        return self._orientation
