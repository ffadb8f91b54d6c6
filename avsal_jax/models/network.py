"""The network of all systems: visual encoder, neck, audio encoder, fusion, regulator, heads."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.models.initial import Start, fresh_variables, traced_init, unboxed
from avsal_jax.models.part import Limit, Part
from avsal_jax.models.recorded_features import recorded_features
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.models.time_steps import TimeStep
from avsal_jax.ops.pixels import normalize_pixels
from avsal_jax.spec.input import InputSpec
from avsal_jax.types import Clip, Outputs

SALIENCY = "saliency"  # the head whose logits are the map


@dataclasses.dataclass(frozen=True)
class _NamedModules:
    """Modules by name; hidden from flax, so that `Heads` can name each of them."""

    items: tuple[tuple[str, nn.Module], ...] = ()


class Heads(nn.Module):
    """The heads, which read the pyramid, by name; their variables are under `heads/NAME`.

    Create it with `Heads.of({"saliency": ViNetDecoder()})`. `heads["saliency"]`, `len(heads)` and iteration
    work as for a dict.
    """

    modules: _NamedModules = _NamedModules()

    @classmethod
    def of(cls, modules: Mapping[str, nn.Module]) -> Heads:
        for name in modules:
            if not (name.isidentifier() and name.islower()) or hasattr(cls, name) or name == "name":
                raise AvsalError(f"a head needs a lower-case name, such as saliency; got {name!r}")
        return cls(_NamedModules(tuple(modules.items())))

    def setup(self):
        for name, module in self.modules.items:
            setattr(self, name, module)

    def __call__(
        self, pyramid: tuple[jax.Array, ...], train: bool = False, medium: str = "video"
    ) -> dict[str, jax.Array]:
        logits = {}
        for name, module in self.modules.items:
            options = {"medium": medium} if _sees_medium(module) else {}
            logits[name] = getattr(self, name)(pyramid, train, **options)
        return logits

    @property
    def sees_medium(self) -> bool:
        """Whether any head takes the medium of the clips."""
        return any(_sees_medium(module) for _, module in self.modules.items)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.modules.items)

    def __len__(self) -> int:
        return len(self.modules.items)

    def __getitem__(self, name: str) -> nn.Module:
        return dict(self.modules.items)[name]


def _sees_medium(module: nn.Module) -> bool:
    return getattr(module, "sees_medium", False)  # a module that is not a `Part` may lack it


class Network(nn.Module):
    """Computes the logits of each head from a clip.

    The fields are the shape of the clip and the slots; an empty slot is None. A converted part is a network
    with only an encoder and no head; use it for its features. An audio-only network takes no frames.

    The network records the features `taps` (the pyramid after the neck, finest level first) and `audio`
    (tokens [B, S, C]). Parts record further features under their own paths, such as `fusion/fused`.

    Call `run` to use a network. Sliding windows share features that depend on a single frame: call
    `frame_features` once per frame, then `run_windows`.
    """

    input: InputSpec = InputSpec()
    visual_encoder: nn.Module | None = None
    neck: nn.Module | None = None
    audio_encoder: nn.Module | None = None
    fusion: nn.Module | None = None
    regulator: nn.Module | None = None
    heads: Heads = Heads()

    def __call__(
        self, frames: jax.Array | None, audio=None, train: bool = False, medium: str = "video"
    ) -> dict[str, jax.Array]:
        """Returns the logits [B, ...] of each head for normalised frames [B, T, H, W, 3] and sound."""
        pyramid = None if self.visual_encoder is None else self.visual_encoder(frames, train)
        return self._from_pyramid(pyramid, audio, train=train, medium=medium)

    def _stem(self, frames: jax.Array):
        return self.visual_encoder.stem(frames, False)

    def _from_stem(
        self, stem, audio=None, train: bool = False, medium: str = "video"
    ) -> dict[str, jax.Array]:
        return self._from_pyramid(self.visual_encoder.trunk(stem, train), audio, train=train, medium=medium)

    def _time_step(self, number: int, taps):
        return self.visual_encoder.time_step(number, taps)

    def _from_levels(
        self, levels, audio=None, train: bool = False, medium: str = "video"
    ) -> dict[str, jax.Array]:
        pyramid = self.visual_encoder.from_levels(levels, train)
        return self._from_pyramid(pyramid, audio, train=train, medium=medium)

    def _from_pyramid(self, pyramid, audio, train, medium):
        if pyramid is not None:
            if self.neck is not None:
                pyramid = self.neck(pyramid, train)
            self.sow("intermediates", "taps", pyramid)
        tokens = None
        if self.audio_encoder is not None:
            tokens = self.audio_encoder(audio, train)
            self.sow("intermediates", "audio", tokens)
        return self._from_taps(pyramid, tokens, train=train, medium=medium)

    def _from_taps(self, pyramid, tokens, train: bool = False, medium: str = "video") -> dict[str, jax.Array]:
        """Returns the logits of each head for the pyramid after the neck and the tokens of the sound."""
        fused = pyramid if self.fusion is None else self.fusion(pyramid, tokens, train)
        if self.regulator is not None:
            fused = self.regulator(pyramid, fused, train)
        return self.heads(fused, train, medium)

    @property
    def sees_medium(self) -> bool:
        """Whether outputs may depend on `Clip.medium`."""
        return self.heads.sees_medium

    @property
    def shares_frames(self) -> bool:
        """Whether the visual encoder has a part that processes single frames (`stem`, before `trunk`)."""
        return hasattr(self.visual_encoder, "stem")

    def run(
        self,
        variables: dict,
        clip: Clip,
        *,
        train: bool = False,
        rngs: dict | None = None,
        features: Sequence[str] | None = (),
    ) -> Outputs:
        """Evaluates the network on a batch of clips; a pure function, which the caller may jit.

        If a clip has no sound, the input of an audio-visual network is silence.

        Args:
          variables: `params` and `batch_stats`.
          clip: with frames uint8 [B, T, H, W, 3], or float with `normalized=True`; or with `shared` features.
          train: whether batch norm uses the statistics of the batch, and dropout is active.
          rngs: keys by purpose, such as {"dropout": key}, for `train`.
          features: names of recorded features to return, such as `taps`; None for all of them, by path.

        Raises:
          AvsalError: a clip that does not fit the input or the weights, or an unknown feature; the message
            lists the available features.
        """
        if clip.shared is not None:
            return self._run_shared(variables, clip, train=train, rngs=rngs, features=features)
        frames = self._checked_frames(clip) if self.visual_encoder is not None else None
        audio = self._checked_audio(clip) if self.audio_encoder is not None else None
        return self._evaluated(
            variables, (frames, audio), train=train, rngs=rngs, features=features, medium=clip.medium
        )

    @property
    def stem_is_frozen(self) -> bool:
        """Whether training does not change the result of `frame_features`."""
        return self.shares_frames and getattr(self.visual_encoder, "stem_is_frozen", False)

    @property
    def frozen_parameters(self) -> tuple[str, ...]:
        """Patterns of paths of parameters that are not trained; see `training.optimizers.with_frozen`."""
        parts = {slot: getattr(self, slot) for slot in SLOTS}
        parts |= {f"{HEADS}/{name}": self.heads[name] for name in self.heads}
        return tuple(
            f"{path}/{pattern}"
            for path, part in parts.items()
            for pattern in getattr(part, "frozen_parameters", ())
        )

    def limits(self, params: dict) -> dict[str, Limit]:
        """Returns the values that parts monitor and their bounds; see `Part.limits`."""
        return {
            f"{slot}.{name}": limit
            for slot in SLOTS
            if isinstance(part := getattr(self, slot), Part) and slot in params
            for name, limit in part.limits(params[slot]).items()
        }

    def frame_features(self, variables: dict, frames: jax.Array):
        """Returns the features that windows share: the stem's output for frames uint8 [N, H, W, 3].

        The result is an array [N, H', W', C], or a tuple of arrays, such as the pyramid of an encoder of
        single frames. Without a stem, the frames themselves are returned.
        """
        if not self.shares_frames:
            return frames
        clip = normalize_pixels(frames, self.input.pixels)[None]  # the stem does not combine frames
        return jax.tree.map(lambda feature: feature[0], self.apply(variables, clip, method="_stem"))

    def run_windows(
        self, variables: dict, shared, audio: jax.Array | None = None, features=(), medium: str = "video"
    ) -> Outputs:
        """Evaluates clips of shared frames.

        Args:
          variables: as in `run`.
          shared: the result of `frame_features`, each array as clips [B, T, ...].
          audio: sound of the clips, or None for silence.
          features: as in `run`.
          medium: as `Clip.medium`.
        """
        if not self.shares_frames:
            return self.run(variables, Clip(shared, audio, medium=medium), features=features)
        return self.run(variables, Clip(None, audio, shared=shared, medium=medium), features=features)

    def _run_shared(self, variables: dict, clip: Clip, **options) -> Outputs:
        """Evaluates clips of features from the encoder's stem; float16 of a cache becomes float32."""
        if not self.shares_frames:
            raise AvsalError("this network cannot share features of frames: its visual encoder has no stem")
        shared = jax.tree.map(
            lambda feature: feature.astype(jnp.float32) if feature.dtype == jnp.float16 else feature,
            clip.shared,
        )
        audio = None
        if self.audio_encoder is not None:
            audio = self._checked_audio(clip, len(jax.tree.leaves(shared)[0]))
        return self._evaluated(variables, (shared, audio), method="_from_stem", medium=clip.medium, **options)

    @property
    def time_steps(self) -> tuple[TimeStep, ...]:
        """The temporal layers of the visual encoder that sliding windows share; see `models.time_steps`."""
        return getattr(self.visual_encoder, "time_steps", ())

    def time_step(self, variables: dict, number: int, taps) -> tuple[jax.Array | None, object]:
        """Evaluates a step of `time_steps`; see `S3D.time_step`."""
        return self.apply(variables, number, taps, method="_time_step")

    def run_levels(
        self, variables: dict, levels, audio: jax.Array | None = None, medium: str = "video"
    ) -> Outputs:
        """Evaluates clips whose `time_steps` are evaluated.

        Args:
          variables: as in `run`.
          levels: of the pyramid, those that the steps return: [B, T, H, W, C], finest first.
          audio, medium: as in `run_windows`.
        """
        if self.audio_encoder is not None:
            audio = self._checked_audio(Clip(None, audio), len(levels[0]))
        return self._evaluated(variables, (levels, audio), method="_from_levels", medium=medium)

    def run_taps(
        self,
        variables: dict,
        pyramid: tuple[jax.Array, ...],
        tokens: jax.Array | None,
        medium: str = "video",
    ) -> Outputs:
        """Evaluates the parts after the features `taps` and `audio`."""
        return self._evaluated(variables, (pyramid, tokens), method="_from_taps", medium=medium)

    def _evaluated(
        self, variables, inputs, *, medium, train=False, rngs=None, features=(), method="__call__"
    ) -> Outputs:
        mutable = ["batch_stats", "intermediates"] if train else ["intermediates"]
        try:
            logits, state = self.apply(
                variables,
                *inputs,
                train=train,
                medium=medium,
                mutable=mutable,
                rngs=rngs,
                method=method,
            )
        except flax.errors.ScopeParamShapeError as error:
            raise AvsalError(_misfit(self.input, *inputs)) from error
        stats = {**variables.get("batch_stats", {}), **state.get("batch_stats", {})}
        return Outputs(logits, recorded_features(state.get("intermediates", {}), features), stats)

    def _checked_frames(self, clip: Clip) -> jax.Array:
        length = self.input.frames if self.heads else None
        shape = () if clip.frames is None else clip.frames.shape
        if len(shape) != 5 or shape[-1] != 3 or length not in (None, shape[1]):
            size = "T" if length is None else length
            raise AvsalError(f"this network takes frames of shape [B, {size}, H, W, 3]; got {tuple(shape)}")
        if clip.normalized:
            return jnp.asarray(clip.frames)
        return normalize_pixels(clip.frames, self.input.pixels)

    def _checked_audio(self, clip: Clip, batch: int | None = None) -> jax.Array:
        """Returns the sound of the clips, or silence if they have no sound."""
        batch = batch if clip.frames is None else clip.frames.shape[0]
        if clip.audio is None:
            return self._silence(batch or 1)
        shape, expected = clip.audio.shape, self.input.audio.shape if self.input.audio else ("samples",)
        if len(shape) != 1 + len(expected) or batch not in (None, shape[0]):
            sizes = ", ".join(map(str, (batch or "B", *expected)))
            raise AvsalError(f"this network takes sound of shape [{sizes}]; got {tuple(shape)}")
        return jnp.asarray(clip.audio)

    def _silence(self, batch: int) -> jax.Array:
        audio = self.input.audio
        if audio is None:
            raise AvsalError(
                "this network takes audio, but its input defines none: set audio.name and its fields"
            )
        return jnp.full((batch, *audio.shape), audio.silence.level, jnp.float32)


def abstract_variables(network: Network) -> dict:
    """Returns the shapes and dtypes of `params` and `batch_stats` without computing them.

    Raises:
      AvsalError: parts that do not fit each other or the clip.
    """
    return unboxed(_traced_variables(network))


@functools.lru_cache(maxsize=64)
def _traced_variables(network: Network) -> dict:
    """Returns the traced variables; cached, since tracing S3D takes seconds and is needed repeatedly."""
    return traced_init(functools.partial(_init, network))


def _init(network: Network, key: jax.Array) -> dict:
    spec = network.input
    frames = jnp.zeros((1, spec.frames, spec.height, spec.width, 3))
    audio = network._silence(1) if network.audio_encoder is not None else None
    variables = network.init(key, frames, audio)
    return {name: variables[name] for name in ("params", "batch_stats") if name in variables}


def init_variables(network: Network, seed: int, start: Start = "he") -> dict:
    """Returns fresh `params` and `batch_stats` as float32 NumPy arrays; see `models.initial`."""
    return fresh_variables(
        functools.partial(_init, network), seed=seed, start=start, traced=_traced_variables(network)
    )


def feature_shapes(network: Network, names: Sequence[str] | None) -> dict:
    """Returns the shapes and dtypes of features of a clip (all features for None) without computing them.

    Raises:
      AvsalError: as `recorded_features`.
    """
    spec = network.input
    frames = jax.ShapeDtypeStruct((1, spec.frames, spec.height, spec.width, 3), jnp.uint8)
    run = functools.partial(network.run, features=names if names is None else tuple(names))
    return jax.eval_shape(run, abstract_variables(network), Clip(frames)).features


def _misfit(spec: InputSpec, frames, audio) -> str:
    frames = next(iter(jax.tree.leaves(frames)), None)  # the first of the features of a stem
    inputs = [] if frames is None else [f"frames of {frames.shape[2]}x{frames.shape[3]}"]
    inputs += [] if audio is None else [f"sound {tuple(audio.shape[1:])}"]
    sound = f" and sound {spec.audio.shape}" if spec.audio else ""
    return (
        f"this network takes only frames of {spec.height}x{spec.width}{sound}, because the shapes of some "
        f"weights depend on the size of the clip; got {' and '.join(inputs)}"
    )
