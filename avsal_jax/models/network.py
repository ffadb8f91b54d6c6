"""The one network: visual encoder, neck, audio encoder, fusion, decoder."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import flax.errors
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
    part) has no logits and is there for its features; one that only hears takes no frames. Features
    recorded here: `taps` (the pyramid after the neck, finest level first) and `audio` (tokens [B, S, C]);
    fusions record `fused` (tokens [B, N, C]).
    """

    visual_encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    neck: nn.Module | None = None
    audio_encoder: nn.Module | None = None
    fusion: nn.Module | None = None

    def __call__(self, frames: jax.Array | None, audio=None, train: bool = False) -> jax.Array | None:
        stem = None if self.visual_encoder is None else self.stem(frames, train)
        return self.trunk(stem, audio, train)

    def stem(self, frames: jax.Array, train: bool = False) -> jax.Array:
        """The part that works on each frame alone: [B, T, H, W, 3] -> [B, T, H', W', C]."""
        return self.visual_encoder.stem(frames, train)

    def trunk(self, stem: jax.Array | None, audio=None, train: bool = False) -> jax.Array | None:
        """The rest: what `stem` gave for the frames of a clip, and its sound -> logits [B, H, W]."""
        pyramid = None
        if self.visual_encoder is not None:
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
    """Returns `params` and `batch_stats` as shapes and dtypes, computing nothing.

    Raises:
      AvsalError: parts that do not fit each other, or the clip.
    """
    return jax.tree.map(lambda leaf: leaf, _traced_variables(network, spec))  # a tree of the caller's own


@functools.lru_cache(maxsize=64)
def _traced_variables(network: SaliencyNetwork, spec: InputSpec) -> dict:
    """`abstract_variables`, traced once: S3D takes seconds, and converting or loading asks several times."""

    def init():
        frames = jnp.zeros((1, spec.frames, spec.height, spec.width, 3))
        audio = _silence(spec, 1) if network.audio_encoder is not None else None
        variables = network.init(jax.random.key(0), frames, audio)
        return {name: variables[name] for name in ("params", "batch_stats") if name in variables}

    return jax.eval_shape(init)


def init_variables(network: SaliencyNetwork, spec: InputSpec, seed: int) -> dict:
    """Returns fresh `params` and `batch_stats` as float32 NumPy arrays, by `initial_values`."""
    return initial_values(abstract_variables(network, spec), seed)


def initial_values(abstract: dict, seed: int) -> dict:
    """Returns fresh float32 NumPy arrays for the leaves of `abstract`, a tree of shapes.

    A `kernel`, before a ReLU, is normal with variance 2 / fan-in (He); a `projection`, before none, with
    1 / fan-in; norms and biases are neutral, a `zero_kernel` is zero. A leaf depends on the seed and its
    path alone, so the same on every device. NumPy draws them because XLA takes half a minute on CPU to
    compile the random numbers of a hundred leaves.
    """
    constants = {"bias": 0.0, "scale": 1.0, "mean": 0.0, "var": 1.0, "zero_kernel": 0.0}
    gains = {"kernel": 2.0, "projection": 1.0}

    def fill(path, leaf):
        name = path[-1].key
        if name in constants:
            return np.full(leaf.shape, constants[name], np.float32)
        if name not in gains:
            raise AssertionError(f"no initial value is stated for {jax.tree_util.keystr(path)}")
        address = zlib.crc32(jax.tree_util.keystr(path).encode())
        draw = np.random.default_rng([seed, address]).standard_normal(leaf.shape, np.float32)
        return draw * np.float32(np.sqrt(gains[name] / np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(fill, abstract)


def forward(
    network: SaliencyNetwork,
    spec: InputSpec,
    variables: dict,
    clip: Clip,
    features: Sequence[str] | None = (),
) -> Prediction:
    """Evaluates `network` on a batch of clips; pure, to be jitted by its caller.

    A network that hears is given silence where the clip has no sound.

    Args:
      network, spec: from `create_model`.
      variables: `params` and `batch_stats`.
      clip: frames uint8 [B, T, H, W, 3], or float with `normalized=True`.
      features: names of recorded features to return, such as `taps`; None for all of them.

    Raises:
      AvsalError: a clip that does not fit `spec` or the weights, or an unknown feature (the known ones are
        listed).
    """
    frames = None
    if network.visual_encoder is not None:
        frames = _checked_frames(clip, spec, spec.frames if network.decoder else None)
    audio = _checked_audio(clip, spec) if network.audio_encoder is not None else None
    try:
        logits, state = network.apply(variables, frames, audio, mutable=["intermediates"])
    except flax.errors.ScopeParamShapeError as error:
        raise AvsalError(_misfit(spec, frames, audio)) from error
    chosen = recorded_features(state["intermediates"], features)
    saliency = None if logits is None else jax.nn.sigmoid(logits)
    return Prediction(saliency, logits, chosen)


def recorded_features(intermediates: dict, names: Sequence[str] | None) -> dict:
    """Returns by name what a network recorded in its collection `intermediates`; all of it for None.

    Raises:
      AvsalError: a name that it does not record, with those that it does.
    """
    known = _recorded(intermediates)
    return _select(known, known if names is None else names)


def feature_shapes(network: SaliencyNetwork, spec: InputSpec, names: Sequence[str] | None) -> dict:
    """Returns the named features of one clip, or all for None, as shapes and dtypes, computing nothing.

    Raises:
      AvsalError: as `recorded_features`.
    """
    frames = jax.ShapeDtypeStruct((1, spec.frames, spec.height, spec.width, 3), jnp.uint8)
    names = names if names is None else tuple(names)
    run = functools.partial(forward, network, spec, features=names)
    return jax.eval_shape(run, abstract_variables(network, spec), Clip(frames)).features


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


def _silence(spec: InputSpec, batch: int) -> jax.Array:
    if spec.audio is None:
        raise AvsalError("this network hears, and its input names no sound: set audio.samples or the like")
    return jnp.full((batch, *spec.audio.shape), spec.audio.silence, jnp.float32)


def _checked_audio(clip: Clip, spec: InputSpec) -> jax.Array:
    """Returns the sound of the clips; silence where they have none."""
    batch = None if clip.frames is None else clip.frames.shape[0]
    if clip.audio is None:
        return _silence(spec, batch or 1)
    shape, wanted = clip.audio.shape, spec.audio.shape if spec.audio else ("samples",)
    if len(shape) != 1 + len(wanted) or batch not in (None, shape[0]):
        sizes = ", ".join(map(str, (batch or "B", *wanted)))
        raise AvsalError(f"the sound of these clips has the shape [{sizes}]; got {tuple(shape)}")
    return jnp.asarray(clip.audio)


def _misfit(spec: InputSpec, frames, audio) -> str:
    given = [] if frames is None else [f"frames of {frames.shape[2]}x{frames.shape[3]}"]
    given += [] if audio is None else [f"sound {tuple(audio.shape[1:])}"]
    sound = f" and sound {spec.audio.shape}" if spec.audio else ""
    return (
        f"{' with '.join(given)} do not fit the weights of this network: some of them belong to one size "
        f"of clip, here frames of {spec.height}x{spec.width}{sound}"
    )


def _checked_frames(clip: Clip, spec: InputSpec, length: int | None) -> jax.Array:
    shape = () if clip.frames is None else clip.frames.shape
    if len(shape) != 5 or shape[-1] != 3 or length not in (None, shape[1]):
        wanted = "T" if length is None else length
        raise AvsalError(f"a clip for this network has frames [B, {wanted}, H, W, 3]; got {tuple(shape)}")
    if clip.normalized:
        return jnp.asarray(clip.frames)
    return normalize_pixels(clip.frames, spec.pixel_norm)
