"""Features of a frozen encoder for the frames of prepared videos, stored next to them as float16."""

from __future__ import annotations

import contextlib
import pathlib
import threading
from collections.abc import Iterable, Sequence

import numpy as np

from avsal_jax.data.prepared.videos import PreparedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.files import complete_file
from avsal_jax.identity import digest

FOLDER = "features"
SHARED = "shared/"  # prefix of the names of cached levels in a batch; the level's number follows
NO_FLIP = (
    "cached features are of pictures that are not mirrored: set data.sampling.flip=False, or "
    "data.cached_features=False"
)
_TYPE = np.dtype(np.float16)
# NumPy parses the header of a file by `ast`, which fails in two threads at a time (CPython issue 106905).
_OPENING = threading.Lock()


class FeatureCache:
    """Features of single frames: <prepared set>/features/<key>/<video>-<level>.npy, each [frames, h, w, c].

    Files are written atomically. If a video is prepared again, its files get new names.

    Args:
      key: digest of what the features depend on in addition to the pictures: weights, input, version.
      shapes: (h, w, c) of each level, as from `Network.frame_features`.
    """

    def __init__(self, key: str, shapes: Sequence[tuple[int, ...]]):
        self.key, self.shapes = key, tuple(map(tuple, shapes))

    def has(self, video: PreparedVideo) -> bool:
        """Whether the cache has all levels of a video."""
        try:
            return all(self._level(video, level).size for level in range(len(self.shapes)))
        except AvsalError:
            return False

    def write(self, video: PreparedVideo, batches: Iterable[Sequence[np.ndarray]]) -> None:
        """Writes the features of a video's frames from batches of all levels, in order.

        Raises:
          AvsalError: writing fails; a feature exceeds float16; the number of frames differs.
        """
        paths = [self._path(video, level) for level in range(len(self.shapes))]
        try:
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                arrays = []
                for path, level in zip(paths, self.shapes, strict=True):
                    partial, shape = stack.enter_context(complete_file(path)), (video.frames, *level)
                    arrays.append(np.lib.format.open_memmap(partial, mode="w+", dtype=_TYPE, shape=shape))
                _fill(arrays, video, batches)
        except OSError as error:
            raise AvsalError(f"cannot write features to {paths[0].parent}: {error.strerror}") from error

    def read(self, video: PreparedVideo, frames: Sequence[int]) -> list[np.ndarray]:
        """Returns float16 [len(frames), h, w, c] of each level; AvsalError if a file is missing."""
        return [self._level(video, level)[list(frames)] for level in range(len(self.shapes))]

    def _level(self, video: PreparedVideo, level: int) -> np.ndarray:
        path, shape = self._path(video, level), (video.frames, *self.shapes[level])
        try:
            with _OPENING:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise AvsalError(f"{path} cannot be read: {error}; delete it and train again") from error
        if array.shape != shape or array.dtype != _TYPE:
            raise AvsalError(f"{path} holds {array.dtype} {array.shape}, not {_TYPE} {shape}; delete it")
        return array

    def _path(self, video: PreparedVideo, level: int) -> pathlib.Path:
        name = f"{video.index:05d}-{digest([video.identity])}-{level}.npy"
        return video.shards.folder / FOLDER / self.key / name


def _fill(arrays: Sequence[np.memmap], video: PreparedVideo, batches: Iterable[Sequence[np.ndarray]]) -> None:
    """Writes the features of all frames to the arrays of the levels; errors as `FeatureCache.write`."""
    first = 0
    for levels in batches:
        for array, features in zip(arrays, levels, strict=True):
            array[first : first + len(features)] = features
            if not np.isfinite(array[first : first + len(features)]).all():
                raise AvsalError(
                    f"features of {video.name} do not fit float16 (from frame {first + 1}): weights are too "
                    "large; train with data.cached_features=False"
                )
        first += len(levels[0])
    if first != video.frames:
        raise AvsalError(f"{video.name} has {video.frames} frames, but features of {first}")
    for array in arrays:
        array.flush()
