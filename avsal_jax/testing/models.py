"""Small networks for tests: a tiny ViNet, and a probe whose map shows which frame it was given."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.inference.predictor import Model
from avsal_jax.models.network import SALIENCY, Heads, Network, init_variables
from avsal_jax.models.systems import Preset, build, resolve
from avsal_jax.ops.resize import resize_linear
from avsal_jax.spec.front_ends import FrontEnd
from avsal_jax.spec.input import BT601, SIGNED, InputSpec
from avsal_jax.storage import StoredModel

# A sixteenth of the width, with five convolutions in place of S3D's 77; TINY_S3D keeps S3D.
TINY = {"visual_encoder": "small", "visual_encoder.width": 1 / 16, "heads.saliency.width": 1 / 16}
TINY_S3D = {**TINY, "visual_encoder": "s3d"}
# TINY for the audio-visual systems, with a buffer of two tokens.
TINY_HEARING = {**TINY, "audio_encoder.width": 1 / 16, "audio.samples": 35_280}


def tiny_stored(
    frames: int = 8, height: int = 64, width: int = 96, seed: int = 0, system: str = "vinet", **overrides
) -> StoredModel:
    """Returns a small system with random weights, by default a ViNet. Needs `parts.small_parts`."""
    small = TINY if system == "vinet" else TINY_HEARING
    preset = resolve(system, {"frames": frames, "height": height, "width": width, **small, **overrides})
    network = build(preset)
    variables = init_variables(network, seed)
    return StoredModel(preset, network=network, variables=variables, card={"system": system})


def probe_model(frames: int = 8, height: int = 64, width: int = 96, **fields) -> Model:
    """Returns a model whose map is the blurred luminance of the labelled frame of its clip.

    `fields` are those of its `InputSpec`.

    Maps of random weights are mostly border pattern; this one tells right frames from wrong ones.
    """
    spec = InputSpec(frames, height, width, pixels=SIGNED, **fields)
    network = Network(spec, _ProbeEncoder(), heads=_heads(_ProbeDecoder(spec.label_index)))
    return Model(
        StoredModel(Preset("probe", {}, spec), network=network, variables={}, card={"system": "probe"})
    )


def order_probe(frames: int = 4, height: int = 32, width: int = 64, **fields) -> Model:
    """Returns a model whose logits weigh every frame of its clip by its place; it compiles quickly.

    `fields` are those of its `InputSpec`.
    """
    spec = InputSpec(frames, height, width, pixels=SIGNED, **fields)
    network = Network(spec, _ProbeEncoder(), heads=_heads(_OrderDecoder()))
    return Model(
        StoredModel(Preset("order probe", {}, spec), network=network, variables={}, card={"system": "order"})
    )


def hearing_probe(
    audio: FrontEnd, frames: int = 8, height: int = 64, width: int = 96, tells: str = "loudness"
) -> Model:
    """Returns a model whose map is constant and says one thing of its sound, through a sigmoid.

    `tells`: how loud it is, 0 for silence; or the `place` of its loudest sample in the buffer, from 0 for the
    first to nearly 1, and -9 for silence.
    """
    spec = InputSpec(frames, height, width, pixels=SIGNED, audio=audio)
    network = Network(
        spec,
        visual_encoder=_ProbeEncoder(),
        audio_encoder={"loudness": _LoudnessEncoder, "place": _PlaceEncoder}[tells](),
        fusion=_ProbeFusion(),
        heads=_heads(_ProbeDecoder(frames - 1)),
    )
    return Model(
        StoredModel(
            Preset("hearing probe", {}, spec), network=network, variables={}, card={"system": "hearing probe"}
        )
    )


def fusing_probe(
    fusion: nn.Module, audio: FrontEnd, frames: int = 8, height: int = 32, width: int = 64, channels: int = 1
) -> Model:
    """Returns a hearing model with a real fusion between trivial parts, so that it compiles quickly.

    Encoders are those of the other probes, the picture's in powers for more than one of `channels`; the map
    is the first channel of the coarsest level that the fusion returned.
    """
    spec = InputSpec(frames, height, width, pixels=SIGNED, audio=audio)
    network = Network(
        spec,
        visual_encoder=_ProbeEncoder((1, 1, 1, 2), channels),
        audio_encoder=_LoudnessEncoder(),
        fusion=fusion,
        heads=_heads(_CoarsestDecoder()),
    )
    variables = init_variables(network, 0)
    return Model(
        StoredModel(
            Preset("fusing probe", {}, spec),
            network=network,
            variables=variables,
            card={"system": "fusing probe"},
        )
    )


def _heads(decoder: nn.Module) -> Heads:
    return Heads.of({SALIENCY: decoder})


class _OrderDecoder(nn.Module):
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        weights = (1 + jnp.arange(pyramid[0].shape[1]) / 2)[None, :, None, None]
        frame = (pyramid[0][..., 0] * weights).sum(1)[..., None]  # [B, H/4, W/4, 1]
        return resize_linear(frame, (4 * frame.shape[1], 4 * frame.shape[2]))[..., 0]


class _CoarsestDecoder(nn.Module):
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        level = pyramid[-1][..., 0].mean(1)  # [B, H/8, W/8]
        return resize_linear(level[..., None], (8 * level.shape[1], 8 * level.shape[2]))[..., 0]


class _LoudnessEncoder(nn.Module):
    def __call__(self, audio: jax.Array, train: bool = False) -> jax.Array:
        return jnp.sqrt((audio**2).mean(-1))[:, None, None] / 16  # [B, 1, 1]


class _PlaceEncoder(nn.Module):
    def __call__(self, audio: jax.Array, train: bool = False) -> jax.Array:
        loud = jnp.abs(audio)
        place = jnp.where(loud.max(-1) > 0, jnp.argmax(loud, -1) / audio.shape[-1], -9.0)
        return place[:, None, None] / 4  # which the decoder multiplies again


class _ProbeFusion(nn.Module):
    def __call__(self, pyramid, tokens: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        return tuple(jnp.zeros_like(level) + tokens[..., None, None] for level in pyramid)


class _ProbeEncoder(nn.Module):
    strides: tuple[int, ...] = (1, 1, 1, 1)
    channels: int = 1

    def __call__(self, frames: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        return self.trunk(self.stem(frames, train), train)

    def stem(self, frames: jax.Array, train: bool = False) -> jax.Array:
        luminance = frames @ jnp.array(BT601)  # [B, T, H, W]
        b, t, h, w = luminance.shape
        return luminance.reshape(b, t, h // 4, 4, w // 4, 4).mean((3, 5))[..., None]

    def trunk(self, stem: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        powers = jnp.concatenate([stem**power for power in range(1, self.channels + 1)], -1)
        return tuple(powers[:, ::n, ::n, ::n] for n in self.strides)


class _ProbeDecoder(nn.Module):
    label: int

    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        frame = pyramid[0][:, self.label]  # [B, H/4, W/4, 1]
        return 4 * resize_linear(frame, (4 * frame.shape[1], 4 * frame.shape[2]))[..., 0]
