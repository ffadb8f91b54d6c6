"""Which clip is in which row of the stream: a pure function of (seed, row) that reads no files."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from avsal_jax.data.prepared.videos import PreparedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import Positive, check_fields
from avsal_jax.spec.input import InputSpec


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How clips are drawn.

    Attributes:
      policy: `one_per_video_per_epoch`: a random clip of every video, videos in random order (as in the
        papers); `uniform`: the same number of clips per epoch, each drawn uniformly from all clips of all
        videos; `all_windows`: every clip that `stride` allows, in random order.
      stride: frames between the starts of the clips of `all_windows`.
      shuffle: False for the order of the videos and their frames (only with `all_windows`).
      flip: half of the clips are mirrored left to right, with their truth.
      reverse: half of the clips run backwards, with their sound.
      skip_black: whether the random policies exclude clips whose labelled frame has black truth, unless a
        video has only such clips. `all_windows` excludes no clip; the loss masks clips with black truth.
    """

    policy: Literal["one_per_video_per_epoch", "uniform", "all_windows"] = "one_per_video_per_epoch"
    stride: Positive = 1
    shuffle: bool = True
    flip: bool = False
    reverse: bool = False
    skip_black: bool = True

    def __post_init__(self):
        check_fields(self, "sampling.")
        if not self.shuffle and self.policy != "all_windows":
            raise AvsalError(f"policy {self.policy} draws at random; shuffle=False goes with all_windows")


@dataclasses.dataclass(frozen=True)
class ClipChoice:
    """One clip.

    Attributes:
      video: index into the videos that are sampled from.
      frames: T indices from 0, in the order of the clip; descending if it is reversed, repeated at the ends
        of a video shorter than the clip. With an interval of the input (`InputSpec.interval`), the distance
        between them is that interval.
      label: index of the frame whose truth is the target.
      flip: whether the clip is mirrored.
    """

    video: int
    frames: tuple[int, ...]
    label: int
    flip: bool


class Sampler:
    """Maps row r of the stream to its clip. Rows are numbered across epochs.

    Args:
      videos: to draw clips from; their order matters.
      spec: gives T, the labelled frame and the interval between frames.
      sampling: the policy.
      seed: of all draws. A draw depends only on the seed, the epoch and the video.

    Raises:
      AvsalError: `videos` is empty.
    """

    def __init__(self, videos: Sequence[PreparedVideo], spec: InputSpec, sampling: Sampling, seed: int):
        if not videos:
            raise AvsalError("there is no video to draw clips from; name a list or split with at least one")
        self._videos, self._sampling, self._seed = videos, sampling, seed
        self._length, self._spec = spec.frames, spec
        self._label = spec.label_index
        self._ends = np.cumsum([self._count(video) for video in videos])
        self.clips = int(self._ends[-1])
        self.clips_per_epoch = self.clips if sampling.policy == "all_windows" else len(videos)
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    def clip(self, row: int) -> ClipChoice:
        """Returns the clip of a row, from 0."""
        epoch, place = divmod(row, self.clips_per_epoch)
        if self._sampling.policy == "all_windows":
            number = int(self._order(epoch)[place]) if self._sampling.shuffle else place
            video = bisect.bisect_right(self._ends, number)
            start = (number - (int(self._ends[video - 1]) if video else 0)) * self._sampling.stride
            return self._choice(video, start, *self._coins("clip", epoch, number))
        if self._sampling.policy == "uniform":
            number = int(self._random("uniform", epoch, place).randint(self.clips))
            video, salt = bisect.bisect_right(self._ends, number), place
        else:
            video, salt = int(self._order(epoch)[place]), 0
        reverse, flip = self._coins("clip", epoch, video, salt)
        starts = self._starts(video, reverse)
        start = starts[self._random("start", epoch, video, salt).randint(len(starts))]
        return self._choice(video, start=int(start), reverse=reverse, flip=flip)

    def _count(self, video: PreparedVideo) -> int:
        """Returns the number of clips of a video: those inside it, or one if it is shorter than a clip."""
        inside = video.frames - self._span(video) + 1
        stride = self._sampling.stride if self._sampling.policy == "all_windows" else 1
        return -(-max(inside, 1) // stride)

    def _span(self, video: PreparedVideo) -> int:
        """Returns the number of frames of a video from the first to the last frame of a clip."""
        return (self._length - 1) * self._spacing(video) + 1

    def _spacing(self, video: PreparedVideo) -> int:
        return self._spec.spacing(video.fps) or 1

    def _starts(self, video: int, reverse: bool) -> np.ndarray:
        """Returns the frames at which clips of a video may start, excluding black targets."""
        entry = self._videos[video]
        starts = np.arange(max(1, entry.frames - self._span(entry) + 1))
        if not self._sampling.skip_black:
            return starts
        first = self._frames(entry, 0, reverse)[self._label]
        visible = starts[~entry.black[first + starts]]
        return visible if len(visible) else starts

    def _choice(self, video: int, start: int, reverse: bool, flip: bool) -> ClipChoice:
        frames = self._frames(self._videos[video], start, reverse)
        return ClipChoice(video, frames=frames, label=frames[self._label], flip=flip)

    def _frames(self, video: PreparedVideo, start: int, reverse: bool) -> tuple[int, ...]:
        """Returns the frames of the clip from `start`.

        A video shorter than a clip has a single clip with all its frames. With the label `last`, the target
        is that of the video's last frame, and the first frame is repeated in front, as in the public loader
        of ViNet for Hollywood-2 and UCF-Sports (samyak0210/ViNet @2a52666, dataloader.py). With `middle`, the
        target is that of the video's middle frame, and both ends are repeated, as in the windows of
        inference; STAViS instead restarts from the first frame.
        """
        count, spacing = video.frames, self._spacing(video)
        short = count < self._span(video)
        if short:
            label = count - 1 if self._spec.label_frame == "last" else count // 2
            start = label - self._label * spacing
        frames = [min(max(start + k * spacing, 0), count - 1) for k in range(self._length)]
        if not reverse:
            return tuple(frames)
        # A short video is reversed before padding, so that all its frames precede the labelled one.
        return tuple(count - 1 - f for f in frames) if short else tuple(frames[::-1])

    def _coins(self, *key) -> tuple[bool, bool]:
        """Returns (reverse, flip); False for an option that is disabled."""
        coins = self._random("coins", *key).randint(2, size=2)
        return bool(coins[0]) and self._sampling.reverse, bool(coins[1]) and self._sampling.flip

    def _shuffled(self, epoch: int) -> np.ndarray:
        return self._random("order", epoch).permutation(self.clips_per_epoch)

    def _random(self, purpose: str, *key) -> np.random.RandomState:
        """Random numbers of a purpose and key. RandomState's streams never change between versions."""
        words = "/".join(map(str, (self._seed, purpose, *key))).encode()
        return np.random.RandomState(np.frombuffer(hashlib.sha256(words).digest(), np.uint32))


def random_fraction(*key) -> float:
    """Returns a number in [0, 1) that depends only on the key."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:8], "big") / 2**64
