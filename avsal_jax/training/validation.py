"""Validation in the loop: means over clips, the same whatever the batches and processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from avsal_jax.metrics import MeanState
from avsal_jax.training.step import VALIDATION_METRICS


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a pass over the validation clips gave.

    Attributes:
      means: metric -> mean over the clips for which it is defined; NaN where there is none.
      clips: how many had a target.
      shown: (frames uint8 [N, H, W, 3], truths [N, H, W], maps [N, H, W]) of the first clips, None where
        this process has none of them.
    """

    means: dict[str, float]
    clips: int
    shown: tuple[np.ndarray, np.ndarray, np.ndarray] | None


def validate(step, state, batches: Iterable[dict], label: int, pictures: int) -> Validation:
    """Runs a pass.

    Args:
      step: of `step.make_validation_step`, jitted, with results that lie everywhere.
      state: its averaged parameters are used, where there are such.
      batches: of `Feed.validation_batches`.
      label: index of the labelled frame in a clip.
      pictures: clips to keep for a picture.
    """
    means = {name: MeanState() for name in VALIDATION_METRICS}
    clips, examples = 0, None
    params = state.ema or state.params
    for batch in batches:
        values, maps = step(params, state.batch_stats, batch)
        mask = np.asarray(values["mask"])
        for name, mean in means.items():
            kept = np.asarray(values[name], np.float64)[mask]
            means[name] = mean.add(np.where(np.isfinite(kept), kept, np.nan))
        clips += int(mask.sum())
        if examples is None and pictures:
            examples = _shown(batch, maps=maps, label=label, pictures=pictures)
    return Validation({name: mean.mean() for name, mean in means.items()}, clips, examples)


def _shown(batch, maps, label, pictures):
    """Returns the first clips of this process; the maps lie everywhere, the rest in shares."""
    frames, truths = (_local(batch[name]) for name in ("frames", "density"))
    label = min(label, frames.shape[1] - 1)  # with cached features, the labelled frame is the only one
    first = int(batch["frames"].addressable_shards[0].index[0].start or 0)
    count = min(pictures, len(frames))
    return frames[:count, label], truths[:count], np.asarray(maps)[first : first + count]


def _local(array) -> np.ndarray:
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
