"""Validation during training: means over clips, independent of batches and processes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from avsal_jax import losses
from avsal_jax.metrics import MeanState, find_metric, fixation_map
from avsal_jax.pictures import blur_map, resize_map
from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.spec.input import InputSpec
from avsal_jax.training.validation_values import LOSS


@dataclasses.dataclass(frozen=True)
class Validation:
    """The result of a pass over the validation clips.

    Attributes:
      means: metric -> mean over the clips for which it is defined; NaN if it is defined for no clip.
      clips: number of clips with a target.
      examples: (frames uint8 [N, H, W, 3], truths [N, h, w], maps [N, H, W]) of the first clips, for
        pictures; None without pictures. Truths at their own sizes are a list.
    """

    means: dict[str, float]
    clips: int
    examples: tuple[np.ndarray, np.ndarray, np.ndarray] | None


def validate(
    step,
    state,
    batches: Iterable[dict],
    metrics: Sequence[str],
    label: int,
    pictures: int,
    before_batch: Callable[[], object] = lambda: None,
) -> Validation:
    """Runs a validation pass.

    Args:
      step: of `step.make_validation_step`, jitted, with replicated results; or a `NativeStep`.
      state: its averaged parameters are used if it has them.
      batches: from `Feed.validation_batches`.
      metrics: names of the metrics that the step computes in addition to the loss.
      label: index of the labelled frame in a clip.
      pictures: number of clips to keep for pictures.
      before_batch: called before each batch; its result is ignored.
    """
    means = {name: MeanState() for name in (LOSS, *metrics)}
    clips, examples = 0, None
    for batch in batches:
        before_batch()
        values, maps = step(state.evaluated_params, state.batch_stats, batch)
        mask = np.asarray(values["mask"])
        for name, mean in means.items():
            clip_values = np.asarray(values[name], np.float64)[mask]
            means[name] = mean.add(np.where(np.isfinite(clip_values), clip_values, np.nan))
        clips += int(mask.sum())
        if examples is None and pictures:
            examples = _examples(batch, maps=maps, label=label, pictures=pictures)
    return Validation({name: mean.mean() for name, mean in means.items()}, clips, examples)


class NativeStep:
    """A validation step as in public ViNet: a map is resized to its truth and blurred, then scored.

    samyak0210/ViNet @2a52666: cv2's bilinear resize, an 11x11 Gaussian of sigma 2, then the losses. The
    network runs on the devices; the rest runs on the host, for the rows of each process. The loss is compiled
    for every size of truth.

    Args:
      predict: of `step.make_prediction_step`, jitted, with replicated maps.
      terms: of the loss.
      metrics: names of the metrics to compute.
      parallel: the devices.
    """

    def __init__(
        self,
        predict: Callable,
        terms: tuple[losses.Term, ...],
        metrics: Sequence[str],
        parallel: DataParallel,
    ):
        self._predict, self._parallel, self._metrics = predict, parallel, metrics
        self._loss = jax.jit(functools.partial(losses.weighted, terms=terms))
        self._gather = parallel.jit(lambda values: values)

    def __call__(self, params, batch_stats, batch: dict) -> tuple[dict, jax.Array]:
        """Returns (metrics and `mask` [B] by name, maps [B, H, W]); targets of the batch are native."""
        inputs = {name: value for name, value in batch.items() if isinstance(value, jax.Array)}
        maps, first = self._predict(params, batch_stats, inputs), _first_row(batch)
        local_maps = np.asarray(maps)[first : first + len(batch["size"])]
        rows = [
            self._score(saliency, density=density[:h, :w], points=points[points[:, 0] >= 0])
            for saliency, density, points, (h, w) in zip(
                local_maps, batch["density"], batch["fixations"], batch["size"], strict=True
            )
        ]
        values = {name: np.array([row[name] for row in rows], np.float32) for name in (LOSS, *self._metrics)}
        return self._gather(self._parallel.split({**values, "mask": batch["mask"]})), maps

    def _score(self, saliency: np.ndarray, density: np.ndarray, points: np.ndarray) -> dict[str, float]:
        saliency = blur_map(resize_map(saliency, *density.shape))
        fixated = fixation_map(points, density.shape)
        share = np.clip(
            saliency.astype(np.float64), 1e-30, 1 - 2**-24
        )  # so that the logit is finite in float32
        logits = np.float32(np.log(share) - np.log1p(-share))
        loss, _ = self._loss(logits[None], density[None], fixated[None])
        truth = {"density": density, "fixations": fixated}
        scores = {name: find_metric(name).validation(saliency, truth) for name in self._metrics}
        return {LOSS: float(loss[0]), **scores}


def validated_size(spec: InputSpec, native: bool) -> str:
    """Returns a short description of the maps that validation scores."""
    return "at the size of the truth, blurred" if native else f"at {spec.height}x{spec.width}, not blurred"


def validation_words(spec: InputSpec, native: bool) -> str:
    """Returns a description of the maps that validation scores, and the difference from public ViNet."""
    size = validated_size(spec, native)
    if native:
        return f"maps are scored {size} by 11x11, as public ViNet's"
    return (
        f"maps are scored {size}; public ViNet's at the size of the truth, after a blur of 11x11 "
        "(evaluation.native=true)"
    )


def _examples(batch, maps, label, pictures):
    """Returns the first clips of this process; maps are replicated, the other arrays are sharded."""
    frames = _local(batch["frames"])
    if "size" in batch:
        truths = [density[:h, :w] for density, (h, w) in zip(batch["density"], batch["size"], strict=True)]
    else:
        truths = _local(batch["density"])
    label = min(label, frames.shape[1] - 1)  # with cached features, the labelled frame is the only one
    first = _first_row(batch)
    count = min(pictures, len(frames))
    return frames[:count, label], truths[:count], np.asarray(maps)[first : first + count]


def _first_row(batch) -> int:
    """Returns the index of this process's first row in the global batch."""
    return int(batch["frames"].addressable_shards[0].index[0].start or 0)


def _local(array) -> np.ndarray:
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
