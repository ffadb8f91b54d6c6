"""CASP-Net as a system: decoders and their sizes, the preset, its variants, and small networks that run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.models.decoders.fcn import FCNDecoder
from avsal_jax.models.decoders.sal_decoder import DenseBlock, SalDecoder
from avsal_jax.models.decoders.unet import UNetDecoder
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import abstract_variables, init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.spec.front_ends import LogMel

SMALL = {
    "height": 64,
    "width": 96,
    "visual_encoder": "small",
    "visual_encoder.width": 1 / 16,
    "neck.width": 1 / 32,
    "audio_encoder.width": 1 / 32,
    "heads.saliency.width": 1 / 16,
}
VISUAL = {"audio_encoder": "none", "fusion": "none"}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def pyramid_of(frames, height=224, width=384, channels=256):
    sizes = ((2, 4), (2, 8), (4, 16), (8, 32))
    shapes = [(1, frames // t, height // s, width // s, channels) for t, s in sizes]
    return tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)


def decoded(decoder, pyramid):
    """Shapes of parameters and logits."""

    def run(levels):
        variables = decoder.init(jax.random.key(0), levels)
        return variables["params"], decoder.apply(variables, levels)

    return jax.eval_shape(run, pyramid)


# Table 1 of Xiong et al. 2023, in millions.
@pytest.mark.parametrize(
    ("decoder", "printed"), [(FCNDecoder, 1.77), (UNetDecoder, 3.94), (SalDecoder, 2.49)]
)
def test_decoders_have_the_printed_sizes(decoder, printed):
    params, logits = decoded(decoder(), pyramid_of(16))
    assert abs(count(params) / 1e6 / printed - 1) < 0.1
    assert logits.shape == (1, 224, 384)


@pytest.mark.parametrize("decoder", [FCNDecoder, UNetDecoder, SalDecoder])
@pytest.mark.parametrize("frames", [8, 24, 32])
def test_decoders_take_clips_of_other_lengths_and_narrow_levels(decoder, frames):
    _, logits = decoded(decoder(width=1 / 16), pyramid_of(frames, 64, 96, channels=5))
    assert logits.shape == (1, 64, 96) and logits.dtype == jnp.float32


def test_a_dense_block_concatenates_and_aligns_time():
    x = jax.ShapeDtypeStruct((1, 8, 4, 6, 10), jnp.float32)
    block = DenseBlock(features=7, growth=3, layers=2, frames=2)
    variables = jax.eval_shape(lambda v: block.init(jax.random.key(0), v, False), x)
    shapes = {k: v["conv"]["kernel"].shape for k, v in variables["params"].items() if "conv" in v}
    assert shapes["reduce1"] == (1, 1, 1, 10, 12) and shapes["grow1"] == (3, 3, 3, 12, 3)
    assert shapes["reduce2"] == (1, 1, 1, 13, 12)
    assert variables["params"]["align"]["kernel"].shape == (4, 1, 1, 16, 7)


def test_skips_reach_past_the_next_stage():
    """Changing the coarsest level alone: with `previous` it passes through every stage on its way."""

    def gradient(skips):
        decoder = SalDecoder(skips=skips, width=1 / 16, dense_layers=1)
        pyramid = tuple(np.ones(level.shape, np.float32) for level in pyramid_of(8, 64, 96, channels=2))
        variables = fresh_variables(lambda key: decoder.init(key, pyramid), 0)
        kernel = variables["params"]["generate3_2"]["conv"]["kernel"]
        variables["params"]["generate3_2"]["conv"]["kernel"] = 0 * kernel  # cuts what stage 3 hands on
        slope = jax.jit(jax.grad(lambda levels: decoder.apply(variables, levels).sum()))(pyramid)
        return [float(jnp.abs(level).max()) for level in slope]

    through, cut = gradient("all"), gradient("previous")
    assert through[3] > 0 and cut[3] == cut[2] == 0 and cut[1] > 0
    with pytest.raises(AvsalError, match="skips 'some' is not one of all, previous"):
        decoded(SalDecoder(skips="some"), pyramid_of(8))
    with pytest.raises(AvsalError, match="dense_layers must be a whole number from 0 to 16; got -1"):
        decoded(SalDecoder(dense_layers=-1), pyramid_of(8))


def test_the_preset_is_the_papers():
    network, spec = create_model("casp_net")
    assert (spec.frames, spec.height, spec.width, spec.label_frame) == (16, 224, 384, "middle")
    assert spec.audio == LogMel() and spec.audio.shape == (1, 96, 64)
    params = abstract_variables(network)["params"]
    sizes = {slot: count(part) for slot, part in params.items()}
    assert (sizes["visual_encoder"], sizes["audio_encoder"]) == (7_910_048, 72_141_184)  # the public code's
    per_stage = 128 * 256 + 256 + 4 * (256 * 256 + 256)
    coding = 27 * (4 * 256 * 256 + 256 * 128) + 4 * 256 + 128
    assert sizes["fusion"] == 4 * per_stage + coding
    audio = jax.ShapeDtypeStruct((1, 1, 96, 64), jnp.float32)
    clip = Clip(jax.ShapeDtypeStruct((1, 16, 224, 384, 3), jnp.uint8), audio)
    names = ("taps", "audio", "fused", "coding_activity", "coding_error", "coding_square", "coding_norm")
    run = functools.partial(network.run, features=names)
    features = jax.eval_shape(run, abstract_variables(network), clip).features
    assert {name: feature.shape for name, feature in features.items() if name != "taps"} == {
        "audio": (1, 1, 128),
        "fused": (1, 168, 256),
        "coding_activity": (1, 4, 2, 7, 12, 256),
        "coding_error": (1, 4, 3),
        "coding_square": (1, 4, 3),
        "coding_norm": (1, 4, 3),
    }
    sizes = [(8, 56, 96), (8, 28, 48), (4, 14, 24), (2, 7, 12)]
    assert [tap.shape for tap in features["taps"]] == [(1, *size, 256) for size in sizes]


STAGES = ((1,), (2,), (3,), (4,), (2, 3, 4), (1, 2, 3, 4))
ROWS = [
    *({**VISUAL, "heads.saliency": decoder} for decoder in ("fcn", "unet", "sal")),  # Table 1
    *({"fusion.coding": None, "fusion.interaction": kind} for kind in ("bilinear", "quadratic", "linear")),
    {},  # Table 2
    *({"fusion.coding": None, "fusion.stages": stages} for stages in STAGES),  # Table 3
    *({"fusion.coding.iterations": n} for n in (0, 1, 2, 4, 5)),  # Figure 5
    {"label_frame": "last", "audio.patches": 8, "audio.hop": 0.08, "fusion.audio_time": "resampled"},
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_of_the_tables_builds(row):
    shallow = {} if "heads.saliency" in row else {"heads.saliency.dense_layers": 1}
    network, spec = create_model("casp_net", **{**unheard(row), **shallow, **row})
    frames = jax.ShapeDtypeStruct((1, spec.frames, 64, 96, 3), jnp.uint8)
    audio = jax.ShapeDtypeStruct((1, *spec.audio.shape), jnp.float32) if spec.audio else None
    outputs = jax.eval_shape(network.run, abstract_variables(network), Clip(frames, audio))
    assert outputs.logits["saliency"].shape == (1, 64, 96)


def unheard(row):
    """The small settings, without those of an audio encoder where a row has none."""
    deaf = row.get("audio_encoder") == "none"
    return {k: v for k, v in SMALL.items() if not (deaf and k.startswith("audio_encoder"))}


def small(dtype=jnp.float32):
    """A network that compiles in seconds."""
    runtime = Runtime(dtype=dtype, lowering="direct")
    network, spec = create_model("casp_net", runtime, **{**SMALL, "heads.saliency.dense_layers": 1})
    return network, spec, init_variables(network, 0)


@pytest.fixture(scope="module")
def small_run():
    """The small network's input and its forward pass, compiled once."""
    network, spec, variables = small()
    return spec, functools.partial(saliency_of(network), variables)


def saliency_of(network):
    """The logits of a network as a compiled function of variables and clip."""
    return jax.jit(lambda variables, clip: network.run(variables, clip).logits["saliency"])


def clip_of(spec, seed=0, **changes):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (1, spec.frames, spec.height, spec.width, 3), np.uint8)
    audio = rng.standard_normal((1, *spec.audio.shape)).astype(np.float32) if spec.audio else None
    return Clip(frames, changes.get("audio", audio))


def test_sound_changes_the_map_and_missing_sound_is_silence(small_run):
    spec, run = small_run
    silence = np.full((1, 1, 96, 64), np.log(0.01), np.float32)
    with_sound, with_silence = run(clip_of(spec)), run(clip_of(spec, audio=silence))
    without_sound = run(clip_of(spec, audio=None))
    np.testing.assert_allclose(without_sound, with_silence, atol=1e-6)
    assert with_sound.shape == (1, 64, 96) and np.abs(with_sound - with_silence).max() > 1e-3


def test_the_visual_network_carries_over_by_name():
    """Encoder, neck and decoder of the visual-only network fit the audio-visual one leaf by leaf."""
    complete = abstract_variables(create_model("casp_net", **SMALL)[0])["params"]
    preset = resolve("casp_net", {**unheard(VISUAL), **VISUAL})
    visual = abstract_variables(build(preset))["params"]
    assert preset.input.audio is None
    assert set(visual) == {"visual_encoder", "neck", "heads"}
    for slot, part in visual.items():
        assert jax.tree.map(np.shape, part) == jax.tree.map(np.shape, complete[slot])


@pytest.mark.slow
def test_bfloat16_stays_close(small_run):
    spec, run = small_run
    half, _, variables = small(jnp.bfloat16)
    clip = clip_of(spec)
    close = saliency_of(half)(variables, clip)
    exact = run(clip)
    assert close.dtype == jnp.float32 and np.corrcoef(exact.ravel(), close.ravel())[0, 1] > 0.98


@pytest.mark.slow
def test_a_training_step_reaches_every_part():
    network, spec, variables = small()
    clip = clip_of(spec)
    clip = Clip(np.asarray(clip.frames, np.float32) / 255, clip.audio, normalized=True)

    def loss(params):
        outputs = network.run({**variables, "params": params}, clip, train=True)
        return (outputs.logits["saliency"] ** 2).mean()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    largest = {slot: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(p)) for slot, p in gradient.items()}
    assert set(largest) == {"visual_encoder", "neck", "audio_encoder", "fusion", "heads"}
    assert min(largest.values()) > 0 and np.isfinite(list(largest.values())).all()
