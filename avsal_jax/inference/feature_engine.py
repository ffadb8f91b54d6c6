"""What a network records while it makes a map: features of one clip, and its map after each iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.inference.feature_views import VIEWS, Layout
from avsal_jax.inference.streaming import check_finite, saliency_of
from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.models.fusion.gates import RegulatorGates
from avsal_jax.models.fusion.predictive_coding import Iterations
from avsal_jax.models.fusion.transformer import Transformer
from avsal_jax.models.network import SaliencyNetwork, feature_shapes
from avsal_jax.spec.fields import value_of
from avsal_jax.specs import InputSpec
from avsal_jax.types import Clip, Prediction

ITERATIONS = "iterations"  # evaluated here; all other features are recorded by the network
_MOST_MAPS = 8


class FeatureEngine:
    """Evaluates one clip at a time with the features that pictures are made of.

    Args:
      network, variables, spec: of the model.
      run: `Model.__call__`, or what does the same.
      names: features that the network records (`taps`, `fused`, ...), or `iterations`: the maps of a network
        with predictive coding after 0, 1, ... N iterations, of which 8 at most are evaluated. With no name,
        all that have a picture.
      iterations: the largest N, which may be more than the network's own; None for that.

    Attributes:
      names: in the order of `feature_views.VIEWS`.
      layout: of the network's places, for `feature_views.view`.
      counts: numbers of iterations that `iterations` shows.

    Raises:
      AvsalError: a feature that this network does not record (with those that it does), iterations without
        predictive coding, or a network without a decoder.
    """

    def __init__(
        self,
        network: SaliencyNetwork,
        variables: dict,
        spec: InputSpec,
        run: Callable[[Clip, Sequence[str]], Prediction],
        names: Sequence[str] = (),
        iterations: int | None = None,
    ):
        if network.decoder is None:
            raise AvsalError("a part without a decoder predicts no maps, and has no pictures of its features")
        shapes = feature_shapes(network, spec, None)
        last = _iterations(network)
        known = {*shapes, *(() if last is None else (ITERATIONS,))}
        for name in names:
            if name not in known:
                listed = ", ".join(sorted(known))
                raise AvsalError(
                    f"unknown feature {name!r}{did_you_mean(name, known)}; this network records {listed}"
                )
        chosen = set(names) or known & set(VIEWS)
        self.names = tuple(sorted(chosen, key=lambda name: ([*VIEWS, name].index(name), name)))
        self.layout = _layout(network, shapes)
        if iterations is not None and ITERATIONS not in self.names:
            raise AvsalError("--iterations is about the feature iterations: of predictive coding, with sound")
        if iterations is not None:
            value_of(Iterations, iterations, "--iterations")
        self.counts = () if last is None else _thinned(last if iterations is None else iterations)
        self._variables, self._evaluate = variables, run
        self._maps = jax.jit(_after(network, self.counts)) if ITERATIONS in self.names else None

    def __call__(self, frames: np.ndarray, sound: np.ndarray | None) -> dict[str, np.ndarray]:
        """Returns the features of a clip, and `saliency` [H, W], as float32 without the axis of the batch.

        Args:
          frames: uint8 [T, H, W, 3] at the size of the `InputSpec`.
          sound: as `AudioSpec.shape`; None is silence.

        Returns:
          `taps` come as `taps_1` (the finest) to `taps_4`, means over the channels [T', H', W'];
          `iterations` as [len(counts), H, W]; the others as they are recorded.

        Raises:
          AvsalError: the map, or that of a number of iterations, is not finite.
        """
        recorded = {name for name in self.names if name != ITERATIONS}
        if self._maps is not None:
            recorded |= {"taps", "audio"}
        given = Clip(frames[None], None if sound is None else np.asarray(sound, np.float32)[None])
        prediction = self._evaluate(given, tuple(sorted(recorded)))
        features, found = prediction.features, {"saliency": saliency_of(prediction.logits[0])}
        for name in self.names:
            if name == ITERATIONS:
                found[name] = self._maps(self._variables, features["taps"], features["audio"])
            elif name == "taps":
                means = (level[0].mean(-1, dtype=jnp.float32) for level in features["taps"])
                found |= {f"taps_{number}": mean for number, mean in enumerate(means, 1)}
            else:
                found[name] = features[name][0]
        arrays = {name: np.asarray(value, np.float32) for name, value in found.items()}
        check_finite(arrays["saliency"], "a chosen frame")
        if ITERATIONS in arrays:
            counts = zip(self.counts, arrays[ITERATIONS], strict=True)
            diverged = [count for count, one in counts if not np.isfinite(one).all()]
            if diverged:
                raise AvsalError(
                    f"the map after {diverged[0]} iterations is not finite; give fewer --iterations"
                )
        return arrays


def _iterations(network: SaliencyNetwork) -> int | None:
    """The number of iterations of predictive coding, or None for a network without it, or without sound."""
    if network.audio_encoder is None:
        return None
    fusion = network.fusion.fusion if isinstance(network.fusion, RegulatorGates) else network.fusion
    return fusion.iterations if isinstance(fusion, CASPNetFusion) and fusion.coding else None


def _with_iterations(network: SaliencyNetwork, count: int) -> SaliencyNetwork:
    """The same network, with the same parameters, after another number of iterations."""
    if isinstance(network.fusion, RegulatorGates):
        inner = network.fusion.fusion.clone(iterations=count)
        return network.clone(fusion=network.fusion.clone(fusion=inner))
    return network.clone(fusion=network.fusion.clone(iterations=count))


def _after(network: SaliencyNetwork, counts: Sequence[int]):
    """A function of variables, pyramid and sound that gives the maps after `counts` iterations."""
    variants = [_with_iterations(network, count) for count in counts]

    def head(module, pyramid, tokens):
        return module.decoder(module.fusion(pyramid, tokens))

    def maps(variables, pyramid, tokens):
        logits = [one.apply(variables, pyramid, tokens, method=head) for one in variants]
        return saliency_of(jnp.concatenate(logits))

    return maps


def _thinned(last: int) -> tuple[int, ...]:
    """0 to `last`, or 8 evenly spaced numbers of them, both ends among them."""
    return tuple(int(n) for n in np.unique(np.linspace(0, last, min(last + 1, _MOST_MAPS)).round()))


def _layout(network: SaliencyNetwork, shapes: dict) -> Layout:
    levels = tuple(level.shape[1:4] for level in shapes["taps"])
    sounds = shapes["audio"].shape[1] if "audio" in shapes else 0
    fusion = network.fusion.fusion if isinstance(network.fusion, RegulatorGates) else network.fusion
    return Layout(levels, sounds, isinstance(fusion, Transformer))
