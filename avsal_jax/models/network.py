"""The one network: visual encoder, neck, audio encoder, fusion, decoder."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.ops.pixels import normalize_pixels
from avsal_jax.specs import InputSpec
from avsal_jax.types import Clip, Prediction


class SaliencyNetwork(nn.Module):
    """Normalised frames [B, T, H, W, 3] and sound -> logits [B, H, W].

    Fields are the five slots; an empty slot is None. A network with an encoder alone (a converted
    part) has no logits and is there for its features. Features recorded here: `taps` (the pyramid
    after the neck, finest level first) and `audio` (tokens [B, S, C]).
    """

    visual_encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    neck: nn.Module | None = None
    audio_encoder: nn.Module | None = None
    fusion: nn.Module | None = None

    def __call__(self, frames: jax.Array, audio=None, train: bool = False) -> jax.Array | None:
        return self.trunk(self.stem(frames, train), audio, train)

    def stem(self, frames: jax.Array, train: bool = False) -> jax.Array:
        """The part that works on each frame alone: [B, T, H, W, 3] -> [B, T, H', W', C]."""
        return self.visual_encoder.stem(frames, train)

    def trunk(self, stem: jax.Array, audio=None, train: bool = False) -> jax.Array | None:
        """The rest: what `stem` gave for the frames of a clip, and its sound -> logits [B, H, W]."""
        pyramid = self.visual_encoder.trunk(stem, train)
        if self.neck is not None:
            pyramid = self.neck(pyramid, train)
        self.sow("intermediates", "taps", pyramid)
        tokens = None
        if self.audio_encoder is not None:
            tokens = self.audio_encoder(audio, train)
            self.sow("intermediates", "audio", tokens)
        if self.fusion is not None:
            pyramid = self.fusion(pyramid, tokens, train)
        return self.decoder(pyramid, train) if self.decoder is not None else None


def abstract_variables(network: SaliencyNetwork, spec: InputSpec) -> dict:
    """Returns `params` and `batch_stats` as shapes and dtypes, computing nothing."""

    def init():
        frames = jnp.zeros((1, spec.frames, spec.height, spec.width, 3))
        variables = network.init(jax.random.key(0), frames)
        return {name: variables[name] for name in ("params", "batch_stats") if name in variables}

    return jax.eval_shape(init)


def init_variables(network: SaliencyNetwork, spec: InputSpec, seed: int) -> dict:
    """Returns fresh `params` and `batch_stats` as float32 NumPy arrays.

    Kernels are He-normal, norms and biases neutral. A leaf depends on the seed and its path alone, so
    the same on every device. NumPy draws them because XLA takes half a minute on CPU to compile the
    random numbers of a hundred leaves.
    """
    constants = {"bias": 0.0, "scale": 1.0, "mean": 0.0, "var": 1.0, "zero_kernel": 0.0}

    def fill(path, leaf):
        name = path[-1].key
        if name in constants:
            return np.full(leaf.shape, constants[name], np.float32)
        if name != "kernel":
            raise AssertionError(f"no initial value is stated for {jax.tree_util.keystr(path)}")
        address = zlib.crc32(jax.tree_util.keystr(path).encode())
        draw = np.random.default_rng([seed, address]).standard_normal(leaf.shape, np.float32)
        return draw * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(fill, abstract_variables(network, spec))


def forward(
    network: SaliencyNetwork,
    spec: InputSpec,
    variables: dict,
    clip: Clip,
    features: Sequence[str] = (),
) -> Prediction:
    """Evaluates `network` on a batch of clips; pure, to be jitted by its caller.

    Args:
      network, spec: from `create_model`.
      variables: `params` and `batch_stats`.
      clip: frames uint8 [B, T, H, W, 3], or float with `normalized=True`.
      features: names of recorded features to return, such as `taps`.

    Raises:
      AvsalError: a clip that does not fit `spec`, or an unknown feature (the known ones are listed).
    """
    frames = _checked_frames(clip, spec, spec.frames if network.decoder else None)
    logits, state = network.apply(variables, frames, clip.audio, mutable=["intermediates"])
    chosen = _select(_recorded(state["intermediates"]), features)
    saliency = None if logits is None else jax.nn.sigmoid(logits)
    return Prediction(saliency, logits, chosen)


def _recorded(intermediates: dict) -> dict:
    """Returns what modules recorded by `sow`, by bare name; outer modules win over inner ones."""
    found = {}
    for name, value in intermediates.items():
        if isinstance(value, dict):
            found = {**_recorded(value), **found}
        else:
            found[name] = value[0]
    return found


def _select(known: dict, names: Sequence[str]) -> dict:
    """Returns the named entries of `known`, or an error that lists what there is."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise AvsalError(f"unknown feature {unknown[0]!r}; this network records {', '.join(sorted(known))}")
    return {name: known[name] for name in sorted(names)}


def _checked_frames(clip: Clip, spec: InputSpec, length: int | None) -> jax.Array:
    shape = clip.frames.shape
    if len(shape) != 5 or shape[-1] != 3 or length not in (None, shape[1]):
        wanted = "T" if length is None else length
        raise AvsalError(f"a clip for this network has frames [B, {wanted}, H, W, 3]; got {tuple(shape)}")
    if clip.normalized:
        return jnp.asarray(clip.frames)
    return normalize_pixels(clip.frames, spec.pixel_norm)
