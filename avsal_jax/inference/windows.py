"""Which frames make the clip whose map belongs to frame i (paper 001, section 3.4)."""

from __future__ import annotations


def window(index: int, count: int | None, frames: int, label_frame: str) -> list[int]:
    """Returns the frames of the clip for frame `index`, in the order in which the network sees them.

    `last`: the clip ends at the frame. The first `frames` - 1 frames have no such clip: they take the
    clip that begins at them, reversed in time. A video shorter than 2 * `frames` - 1 is first padded
    to that length by repeats of its first frame.
    `middle`: the frame is number `frames` // 2 of the clip; frames repeat at both ends.

    Args:
      index: from 0.
      count: number of frames of the video; None while it is unknown, if at least
        2 * `frames` - 1 are there and every frame of the clip is.
      frames: T, the length of a clip.
      label_frame: `last` or `middle`.
    """
    if label_frame == "last":
        padding = max(0, 2 * frames - 1 - count) if count is not None else 0
        at = index + padding
        padded = range(at - frames + 1, at + 1) if at >= frames - 1 else range(at + frames - 1, at - 1, -1)
        return [max(0, i - padding) for i in padded]
    start = index - frames // 2
    end = count - 1 if count is not None else start + frames - 1
    return [min(max(0, i), end) for i in range(start, start + frames)]


def oldest_needed(index: int, frames: int, label_frame: str) -> int:
    """Returns the first frame that the clip of frame `index`, or of any later one, uses."""
    return max(0, index - (frames - 1 if label_frame == "last" else frames // 2))
