"""The clips of selected frames of a stream, with only the frames that they use."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from avsal_jax.inference.windows import oldest_needed, possible_frames, window
from avsal_jax.spec.input import InputSpec

_END = object()


@dataclasses.dataclass(frozen=True)
class ClipBatch:
    """Clips that are evaluated together.

    Attributes:
      clips: indices of the frames of each clip, by the index of the frame whose map it predicts.
      images: all frames of the clips by index.
      count: frames of the video; None while it is unknown.
    """

    clips: dict[int, list[int]]
    images: dict[int, np.ndarray]
    count: int | None


def selected_clips(
    frames: Iterable[np.ndarray | None],
    targets: Sequence[int],
    spec: InputSpec,
    spacing: int | None,
    batch: int,
    capacity: int,
) -> Iterator[ClipBatch]:
    """Yields the clips of selected frames in batches; stops reading after the last.

    Args:
      frames: of the stream; None for frames that no clip of `targets` may use (`windows.possible_frames`).
      targets: rising indices; those beyond the end of the stream are ignored.
      spec: of the network.
      spacing: as in `windows.window`.
      batch: maximum number of clips.
      capacity: maximum number of different frames in a batch, at least that of one clip.
    """
    options = {"frames": spec.frames, "label_frame": spec.label_frame, "spacing": spacing}
    possible = set().union(*(possible_frames(target, **options) for target in targets))
    least = 2 * spec.frames - 1 if spacing is None else 1
    waiting, images, current = collections.deque(targets), {}, ClipBatch({}, {}, None)
    for index, image in enumerate(itertools.chain(frames, [_END])):
        count = index if image is _END else None
        if index in possible and count is None:
            images[index] = image
        while waiting and (count is not None or index + 1 >= least):
            if count is not None and waiting[0] >= count:
                waiting.clear()
                break
            clip = window(waiting[0], count, **options)
            if count is None and max(clip) > index:
                break
            if len(current.clips) == batch or len({*current.images, *clip}) > capacity:
                yield current
                current = ClipBatch({}, {}, count)
            clips, used = {waiting.popleft(): clip}, {i: images[i] for i in clip}
            current = ClipBatch(current.clips | clips, images=current.images | used, count=count)
            oldest = oldest_needed(waiting[0], **options) if waiting else index + 1
            images = {i: images[i] for i in images if i >= oldest}
        if not waiting:
            break
    if current.clips:
        yield current
