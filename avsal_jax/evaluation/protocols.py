"""Protocols: how public evaluations process maps before and after the metrics; see `docs/protocols.md`.

Maps are [h, w]. A *stored* map is what a method writes to disk (8-bit); a *scored* map is what is compared
with the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from avsal_jax import metrics, registry
from avsal_jax.data.sets.datasets import find_dataset
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.gaze_grid import GazeGrid
from avsal_jax.metrics import fixation_map
from avsal_jax.pictures import POSTPROCESS, resize_map, to_grey
from avsal_jax.registry import register


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to evaluate, registered as `register("protocol", NAME)(Protocol(...))`.

    Attributes:
      about: a line for `avsal list`.
      postprocess: how a model's map is stored, see `pictures.to_grey`.
      at_frame_size: whether it is stored at the size of the frame; otherwise at that of the model.
      smooth: whether a stored map is blurred again before it is scored (STAViS postProcessMap.m).
      first_frame: the first scored frame, from 1.
      negatives: source of the negatives of the shuffled AUC: all other frames of the `video`, ten random
        frames of the `set` (some may be of the same video), or ten other `stimuli` of the set, of other
        groups (`VideoEntry.group`).
      average: `videos` (mean of frames per video, then mean of videos) or `frames` (mean of all frames).
      source: the public code.
      grid: the cells and frames on which maps are scored; None for the size of the truth and all frames. On
        a grid, NSS is a mean over fixations.
      name: the registered name; set by `find_protocol`.
    """

    about: str
    postprocess: str
    at_frame_size: bool
    smooth: bool
    first_frame: int
    negatives: str
    average: str
    source: str
    grid: GazeGrid | None = None
    name: str = ""

    def identity(self) -> dict:
        """Returns the values that results depend on, for JSON."""
        values = {"name": self.name, **dataclasses.asdict(self)}
        del values["about"]
        values["others"] = values.pop("negatives")  # its name in stored results
        return values

    def with_postprocess(self, postprocess: str) -> Protocol:
        """Returns the protocol with a different `postprocess`.

        Raises:
          AvsalError: an unknown name, or a protocol with a grid, whose maps are not stored.
        """
        if postprocess not in POSTPROCESS:
            raise AvsalError(f"unknown postprocess {postprocess!r}; use one of {', '.join(POSTPROCESS)}")
        if self.grid is not None:
            raise AvsalError(f"protocol {self.name} scores maps before they are stored: remove --postprocess")
        return dataclasses.replace(self, postprocess=postprocess)

    def store(self, saliency: np.ndarray, entry: VideoEntry) -> np.ndarray:
        """Returns the 8-bit map that the method would have saved for a model's map [H, W].

        With a grid: float64 [rows, columns], resized by `imresize`, without rounding to 8 bits.
        """
        if self.grid is not None:
            return metrics.imresize(np.asarray(saliency, np.float64), *self.grid.size(entry)).clip(0, 1)
        if self.at_frame_size:
            saliency = resize_map(saliency, *entry.frame_size)
        return to_grey(saliency, self.postprocess)

    def scored_indices(self, entry: VideoEntry) -> list[int]:
        """Returns the indices of the scored frames, from 0."""
        if self.grid is not None:
            return self.grid.frames(entry)
        return [index for index in range(self.first_frame - 1, entry.frames) if entry.has_truth(index)]

    def score_map(self, stored: np.ndarray) -> np.ndarray:
        """Returns float64 in [0, 1]: the input of the metrics, before they resize it.

        `stored` is uint8, or float64 in [0, 1] for a file with more than 8 bits.
        """
        scored = stored.astype(np.float64) / 255 if stored.dtype == np.uint8 else stored
        if not self.smooth or scored.max() <= 0:
            return scored
        scored = scored / scored.max() * 255
        low, high = scored.min(), scored.max()
        if high > low:
            scored = (scored - low) / (high - low)
        return scipy.ndimage.gaussian_filter(scored, 2.0, mode="reflect", radius=6)  # 13 taps, edge repeated


register("protocol", "stavis")(
    Protocol(
        "as STAViS: a map is blurred again, from frame 9; mean of videos",
        postprocess="none",
        at_frame_size=False,
        smooth=True,
        first_frame=9,
        negatives="video",
        average="videos",
        source="atsiami/STAViS @71fd51f eval_code",
    )
)
register("protocol", "vinet")(
    Protocol(
        "as ViNet: a model's map is stored at the frame's size, blurred; mean of videos",
        postprocess="vinet",
        at_frame_size=True,
        smooth=False,
        first_frame=1,
        negatives="video",
        average="videos",
        source="samyak0210/ViNet @2a52666",
    )
)
register("protocol", "dhf1k")(
    Protocol(
        "as DHF1K: a model's map is stored at the frame's size; mean of all frames of the set",
        postprocess="none",
        at_frame_size=True,
        smooth=False,
        first_frame=1,
        negatives="set",
        average="frames",
        source="wenguanwang/DHF1K @35570c7",
    )
)
register("protocol", "gaze")(
    Protocol(
        "recorded gaze: on a grid of cells, each fixation counts; mean of stimuli",
        postprocess="none",
        at_frame_size=False,
        smooth=False,
        first_frame=1,
        negatives="stimuli",
        average="videos",
        source="docs/protocols.md",
        grid=GazeGrid(),
    )
)


def find_protocol(name: str) -> Protocol:
    """Returns a registered protocol; AvsalError, with the existing names, for an unknown one."""
    return dataclasses.replace(registry.find("protocol", name), name=name)


def protocol_for(name: str | None, dataset: str) -> Protocol:
    """Returns the protocol called `name`, or the one that papers use for `dataset`.

    Raises:
      AvsalError: an unknown name.
    """
    return find_protocol(name or find_dataset(dataset).protocol)


def generator(seed: int, video: str, frame: int, purpose: str) -> np.random.Generator:
    """Returns the random generator of a frame for a purpose; it depends only on the arguments."""
    return np.random.default_rng([seed, frame, *video.encode(), 0, *purpose.encode()])


class VideoOthers:
    """Fixations of all other frames of a video: the union minus the current frame's pixels."""

    def __init__(self, size: tuple[int, int], fixations: Sequence[np.ndarray]):
        self._union = fixation_map(np.concatenate([np.zeros((0, 2), np.int64), *fixations]), size)

    def map(self, current: np.ndarray) -> np.ndarray:
        """Returns bool [h, w] for a frame with the fixations `current`."""
        elsewhere = self._union.copy()
        elsewhere[current[:, 0], current[:, 1]] = False
        return elsewhere
