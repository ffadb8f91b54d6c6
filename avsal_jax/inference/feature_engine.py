"""Features that a network records for a clip, and its maps after each iteration of predictive coding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.inference.feature_views import VIEWS, Layout, kind_of
from avsal_jax.inference.streaming import check_finite, saliency_of
from avsal_jax.models.network import SALIENCY, Network, feature_shapes
from avsal_jax.ops.predictive_coding import Iterations
from avsal_jax.spec.fields import value_of
from avsal_jax.types import Clip, Prediction

# Computed here; the network records all other features.
ITERATIONS = "iterations"
RETENTION_HEADS = "retention_heads"  # computed from these two, which RAVF records
_OF_HEADS = ("retention_audio", "head_weights")
_MOST_MAPS = 8


class FeatureEngine:
    """Evaluates one clip at a time with the features for pictures.

    Args:
      network, variables: of the model.
      run: `Model.__call__`, or a function with the same contract.
      names: features that the network records, by path or by its last component (`taps`, `fused`;
        `attention` selects that of every layer), or `iterations`: the maps of a network with predictive
        coding after 0, 1, ... N iterations, of which at most 8 are evaluated; or `retention_heads`: Ret_A by
        head. If empty, all features that have a picture.
      iterations: the largest N, which may exceed the network's own number; None for the network's number.

    Attributes:
      names: in the order of `feature_views.VIEWS`; paths if several modules record the same name.
      layout: of the network's tokens, for `feature_views.view`.
      counts: numbers of iterations that `iterations` shows.

    Raises:
      AvsalError: a feature that this network does not record (with the available ones), iterations without
        predictive coding, or a network without a decoder.
    """

    def __init__(
        self,
        network: Network,
        variables: dict,
        run: Callable[[Clip, Sequence[str]], Prediction],
        names: Sequence[str] = (),
        iterations: int | None = None,
    ):
        if SALIENCY not in network.heads:
            raise AvsalError(
                f"a part without the head {SALIENCY!r} predicts no maps, and has no pictures of its features"
            )
        shapes = feature_shapes(network, None)
        last = network.fusion.iterations if _has_iterations(network) else None
        self._paths = _paths_by_name(shapes) | ({} if last is None else {ITERATIONS: ITERATIONS})
        if set(_OF_HEADS) <= self._paths.keys():
            self._paths[RETENTION_HEADS] = RETENTION_HEADS
        self.names = _selected(names, self._paths)
        self.layout = _layout(network, shapes)
        if iterations is not None and ITERATIONS not in self.names:
            raise AvsalError("--iterations is about the feature iterations: of predictive coding, with sound")
        if iterations is not None:
            value_of(Iterations, iterations, "--iterations")
        self.counts = () if last is None else _thinned(last if iterations is None else iterations)
        self._variables, self._evaluate = variables, run
        self._maps = None
        if ITERATIONS in self.names:
            self._maps = jax.jit(_after(network, self.counts), static_argnames="medium")

    def __call__(
        self, frames: np.ndarray, sound: np.ndarray | None, medium: str = "video"
    ) -> dict[str, np.ndarray]:
        """Returns the features of a clip, and `saliency` [H, W], as float32 without the axis of the batch.

        Args:
          frames: uint8 [T, H, W, 3] at the size of the `InputSpec`.
          sound: as `FrontEnd.shape`; None is silence.
          medium: as `Clip.medium`.

        Returns:
          `taps` come as `taps_1` (the finest) to `taps_4`, means over the channels [T', H', W'];
          `iterations` as [len(counts), H, W]; `retention_heads` as [heads, T, H, W], with `head_weights`;
          other features as recorded.

        Raises:
          AvsalError: the map, or the map after a number of iterations, is not finite.
        """
        recorded = {self._paths[name] for name in self.names if name not in (ITERATIONS, RETENTION_HEADS)}
        if RETENTION_HEADS in self.names:
            recorded |= {self._paths[name] for name in _OF_HEADS}
        if self._maps is not None:
            recorded |= {"taps", "audio"}
        audio = None if sound is None else np.asarray(sound, np.float32)[None]
        clip = Clip(frames[None], audio, medium=medium)
        prediction = self._evaluate(clip, tuple(sorted(recorded)))
        features, values = prediction.features, {"saliency": saliency_of(prediction.logits[0])}
        for name in self.names:
            if name == ITERATIONS:
                values[name] = self._maps(self._variables, features["taps"], features["audio"], medium=medium)
            elif name == RETENTION_HEADS:
                retention, weights = (features[self._paths[key]][0] for key in _OF_HEADS)
                values |= {name: retention[-1].mean(-1), "head_weights": weights}
            elif name == "taps":
                means = (level[0].mean(-1, dtype=jnp.float32) for level in features["taps"])
                values |= {f"taps_{number}": mean for number, mean in enumerate(means, 1)}
            else:
                values[name] = features[self._paths[name]][0]
        arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
        check_finite(arrays["saliency"], "a chosen frame")
        if ITERATIONS in arrays:
            counts = zip(self.counts, arrays[ITERATIONS], strict=True)
            diverged = [count for count, saliency in counts if not np.isfinite(saliency).all()]
            if diverged:
                raise AvsalError(
                    f"the map after {diverged[0]} iterations is not finite; give fewer --iterations"
                )
        return arrays


def _has_iterations(network: Network) -> bool:
    """Whether the map depends on the iterations of a fusion, which has no effect without sound."""
    return network.audio_encoder is not None and getattr(network.fusion, "iterations", None) is not None


def with_iterations(network: Network, count: int) -> Network:
    """Returns the network with the same parameters and `count` iterations of predictive coding.

    Raises:
      AvsalError: a network without predictive coding, or a number that is not from 0 to 100.
    """
    if not _has_iterations(network):
        raise AvsalError("this network has no predictive coding: leave --coding-iterations out")
    value_of(Iterations, count, "--coding-iterations")
    return network.clone(fusion=network.fusion.with_iterations(count))


def _paths_by_name(paths: Sequence[str]) -> dict[str, str]:
    """Returns {name: path} of each feature: the name is bare if only one module records it, else the path.

    If an outer module records the same name, as the network does with `taps`, the name is that of the outer
    module's feature.
    """
    by_end: dict[str, list[str]] = {}
    for path in paths:
        by_end.setdefault(path.rpartition("/")[2], []).append(path)
    by_name = {}
    for end, paths_of_end in by_end.items():
        least = min(path.count("/") for path in paths_of_end)
        outer = [path for path in paths_of_end if path.count("/") == least]
        by_name |= {end: outer[0]} if len(outer) == 1 else {path: path for path in outer}
    return by_name


def _selected(names: Sequence[str], paths: dict[str, str]) -> tuple[str, ...]:
    """Returns the selected features, by default all that have a picture, in the order of `VIEWS`."""
    selection = set()
    for name in names:
        matches = {key for key in paths if name in (key, paths[key]) or key.endswith(f"/{name}")}
        if not matches:
            hint, options = did_you_mean(name, paths), ", ".join(sorted(paths))
            raise AvsalError(f"unknown feature {name!r}{hint}; this network records {options}")
        # The picture of errors shows both: relative errors can rise while their squares fall.
        squares = {key.replace("coding_error", "coding_square") for key in matches}
        selection |= matches | squares & paths.keys()
    if not names:
        selection = {name for name in paths if kind_of(name) in VIEWS}
    return tuple(sorted(selection, key=lambda name: ([*VIEWS, kind_of(name)].index(kind_of(name)), name)))


def _after(network: Network, counts: Sequence[int]):
    """Returns a function (variables, pyramid, tokens, medium) -> maps after `counts` iterations."""
    variants = [with_iterations(network, count) for count in counts]

    def maps(variables, pyramid, tokens, medium):
        logits = [
            network.run_taps(variables, pyramid, tokens, medium=medium).logits[SALIENCY]
            for network in variants
        ]
        return saliency_of(jnp.concatenate(logits))

    return maps


def _thinned(last: int) -> tuple[int, ...]:
    """Returns 0 to `last`, or 8 evenly spaced numbers including both ends."""
    return tuple(int(n) for n in np.unique(np.linspace(0, last, min(last + 1, _MOST_MAPS)).round()))


def _layout(network: Network, shapes: dict) -> Layout:
    levels = tuple(level.shape[1:4] for level in shapes["taps"])
    sounds = shapes["audio"].shape[1] if "audio" in shapes else 0
    return Layout(levels, sounds, getattr(network.fusion, "joins_tokens", False))
