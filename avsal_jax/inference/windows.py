"""The frames of the clip whose map is that of frame i (AViNet, Jain et al. 2021, section 3.4)."""

from __future__ import annotations


def window(
    index: int, count: int | None, frames: int, label_frame: str, spacing: int | None = None
) -> list[int]:
    """Returns the frames of the clip for frame `index`, in the order of the network's input.

    `last`: the clip ends at the frame. The first `frames` - 1 frames have no such clip: they use the clip
    that begins at them, reversed in time. A video shorter than 2 * `frames` - 1 is first padded to that
    length by repeating its first frame.
    `middle`: the frame is number `frames` // 2 of the clip; frames repeat at both ends.
    With a spacing, frames repeat at both ends for either label, and clips are never reversed.

    Args:
      index: from 0.
      count: number of frames of the video. It may be None while it is unknown, if every frame of the clip
        exists and, without a spacing, the video has at least 2 * `frames` - 1 frames.
      frames: T, the length of a clip.
      label_frame: `last` or `middle`.
      spacing: distance between frames of the clip (`InputSpec.spacing`); None for consecutive frames.
    """
    if spacing is None and label_frame == "last":
        padding = max(0, 2 * frames - 1 - count) if count is not None else 0
        at = index + padding
        padded = range(at - frames + 1, at + 1) if at >= frames - 1 else range(at + frames - 1, at - 1, -1)
        return [max(0, i - padding) for i in padded]
    clip = _spaced(index, frames=frames, label_frame=label_frame, spacing=spacing)
    end = count - 1 if count is not None else clip[-1]
    return [min(max(0, i), end) for i in clip]


def oldest_needed(index: int, frames: int, label_frame: str, spacing: int | None = None) -> int:
    """Returns the first frame that the clip of frame `index`, or of any later one, uses."""
    return max(0, _spaced(index, frames=frames, label_frame=label_frame, spacing=spacing)[0])


def possible_frames(index: int, frames: int, label_frame: str, spacing: int | None = None) -> set[int]:
    """Returns every frame that the clip of frame `index` may use, for any length of the video."""
    clip = _spaced(index, frames=frames, label_frame=label_frame, spacing=spacing)
    if spacing is None and label_frame == "last" and index < frames - 1:  # it may be reversed
        return set(range(index + frames))
    last = range(index, clip[-1] + 1)  # any of these may be the last of the video, and repeat
    return {max(0, i) for i in clip} | set(last)


def _spaced(index: int, frames: int, label_frame: str, spacing: int | None) -> range:
    """Returns the frames of a clip in an infinitely long video."""
    step, label = spacing or 1, frames - 1 if label_frame == "last" else frames // 2
    start = index - label * step
    return range(start, start + frames * step, step)
