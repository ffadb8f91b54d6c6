"""The clips of some frames of a stream, with the frames that they use and no others."""

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
      clips: indices of the frames of each clip, by the index of the frame whose map it gives.
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
    """Yields the clips of some frames, a batch at a time; stops reading when there are no more.

    Args:
      frames: of the stream; None where no clip of `targets` may use the frame (`windows.possible_frames`).
      targets: rising indices; those beyond the end of the stream are left out.
      spec: of the network.
      spacing: as `windows.window` takes it.
      batch: clips at most.
      capacity: different frames of a batch at most, which is at least that of one clip.
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
