"""The audio-visual systems: parameter counts of the public code, effect of the sound, sizes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.windows import window
from avsal_jax.media.clip_sound import ClipSound, Sound
from avsal_jax.models.encoders.soundnet import SoundNet, tokens_of
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import abstract_variables, feature_shapes, init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.spec.front_ends import LogMel, Waveform
from avsal_jax.spec.input import InputSpec
from avsal_jax.testing.models import TINY, TINY_HEARING, tiny_stored

HEADS = (1024 * 8 * 1000 + 1000) + (1024 * 8 * 401 + 401)  # SoundNet's classifiers, which nothing uses
BILINEAR = 336 * 42 * 3 + 336  # held by AViNet(T) without use


def linear(inputs, outputs):
    return inputs * outputs + outputs


WITHOUT_FUSION = 31_099_585 + 14_352_713 - HEADS  # ViNet and SoundNet
CROSS_MODAL = (
    2 * linear(1024, 512)  # both into 512 channels
    + 3 * 512 * 512  # query, key, value without biases
    + linear(512, 2048)
    + linear(2048, 512)
    + linear(512, 512)
    + linear(42, 336)  # and back to the level
    + linear(512, 1024)
)
FUSIONS = {
    "bilinear": {},
    "concatenation": {},
    "transformer": {"fusion.width": 1 / 16},
    "cross_modal": {"fusion.width": 1 / 16},
}


def count(network):
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_variables(network)["params"]))


@pytest.mark.parametrize(
    ("system", "fusion", "unused", "expected"),
    [  # printed by instantiating the public PyTorch code
        ("avinet", "bilinear", HEADS, 45_494_970),
        ("avinet", "transformer", HEADS + BILINEAR, 51_278_522),
        ("soundnet", "none", HEADS, 14_352_713),
        ("avinet", "concatenation", 0, WITHOUT_FUSION + linear(2048, 1024)),
        ("dual_domain", "cross_modal", 0, WITHOUT_FUSION + CROSS_MODAL),
    ],
)
def test_parameter_counts(system, fusion, unused, expected):
    network, _ = create_model(system, fusion=fusion)
    assert count(network) + unused == expected


def test_presets_are_as_published():
    for system, fusion in (("avinet", "bilinear"), ("dual_domain", "cross_modal")):
        preset = resolve(system)
        names = [preset.parts[slot]["name"] for slot in ("visual_encoder", "audio_encoder", "fusion")]
        assert names == ["s3d", "soundnet", fusion] and preset.parts["heads"] == {
            "saliency": {"name": "vinet"}
        }
        assert preset.parts["neck"] is preset.parts["regulator"] is None
        assert preset.input == InputSpec(32, 224, 384, audio=Waveform(samples=70_560))


def test_features_have_the_stated_shapes():
    expected = {
        "bilinear": {"fused": (1, 336, 1024)},
        "transformer": {
            "fused": (1, 339, 512),
            **{f"fusion/layer{number}/attention/attention": (1, 4, 339, 339) for number in range(3)},
        },
        "cross_modal": {"fused": (1, 42, 512), "attention": (1, 1, 42, 3)},
    }
    for fusion, features in expected.items():
        network, _ = create_model("avinet", fusion=fusion)
        shapes = feature_shapes(network, ("audio", *features))
        assert {k: v.shape for k, v in shapes.items()} == {"audio": (1, 3, 1024), **features}
    network, _ = create_model("vinet")
    with pytest.raises(AvsalError, match="unknown feature 'audio'; this network records taps, visual_enc"):
        feature_shapes(network, ("audio",))


def test_soundnet_tokens_of_any_length():
    assert (tokens_of(70_560), tokens_of(35_280), tokens_of(4574), tokens_of(4573)) == (3, 2, 1, 0)
    for samples in (70_560, 35_280, 4574, 4575, 100_001):
        wave = jax.ShapeDtypeStruct((1, samples), jnp.float32)
        shape = jax.eval_shape(
            lambda w: SoundNet(width=0.25).init_with_output(jax.random.key(0), w)[0], wave
        ).shape
        assert shape == (1, tokens_of(samples), 256)
    with pytest.raises(AvsalError, match="at least 4,574 samples; got 4,573"):
        SoundNet().init(jax.random.key(0), np.zeros((1, 4573), np.float32))
    with pytest.raises(AvsalError, match=r"waveforms \[B, samples\]; got shape \(1, 2, 96, 64\)"):
        SoundNet().init(jax.random.key(0), np.zeros((1, 2, 96, 64), np.float32))


SIZES = [
    (8, 32, 32, 4574),
    (8, 32, 160, 35_281),
    (16, 96, 64, 70_560),
    (32, 64, 224, 50_001),
    (48, 32, 96, 35_280),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_takes_every_size(fusion, size):
    frames, height, width, samples = size
    fields = {**TINY_HEARING, **FUSIONS[fusion], "audio.samples": samples}
    fields |= {"visual_encoder": "small", "frames": frames, "height": height, "width": width}
    network, _ = create_model("avinet", fusion=fusion, **fields)
    clip = Clip(
        jax.ShapeDtypeStruct((2, frames, height, width, 3), np.uint8),
        jax.ShapeDtypeStruct((2, samples), np.float32),
    )
    outputs = jax.eval_shape(network.run, abstract_variables(network), clip)
    assert outputs.logits["saliency"].shape == (2, height, width)


def small_model(fusion="bilinear"):
    """A system whose picture goes through five convolutions; it compiles in seconds."""
    return Model(tiny_stored(system="avinet", fusion=fusion, **FUSIONS[fusion]))


def clip_of(batch=1, seed=0):
    rng = np.random.default_rng(seed)
    wave = 8 * rng.standard_normal((batch, 35_280), np.float32)
    return rng.integers(0, 256, (batch, 8, 64, 96, 3), np.uint8), wave


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_same_picture_with_different_sound_gives_different_maps(fusion):
    model, (frames, wave) = small_model(fusion), clip_of(batch=2)
    frames[1] = frames[0]
    logits = np.asarray(model(Clip(frames, wave)).logits)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max()
    swapped = np.asarray(model(Clip(frames, wave[::-1].copy())).logits)
    np.testing.assert_allclose(swapped, logits[::-1], atol=1e-4 * np.abs(logits).max())


def test_no_sound_is_silence():
    model, (frames, _) = small_model(), clip_of()
    logits = model(Clip(frames)).logits
    np.testing.assert_array_equal(logits, model(Clip(frames, np.zeros((1, 35_280), np.float32))).logits)
    for spec in (model.spec.audio, LogMel(patches=2)):
        empty = Sound(np.zeros(0, np.float32), spec.rate or 22_050)
        excerpt = ClipSound(empty, spec, frames=1, fps=25.0).clip([0], 1)
        np.testing.assert_array_equal(np.asarray(spec.silence), excerpt)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_an_audio_encoder_it_is_a_vinet(fusion):
    small = {"frames": 8, "height": 64, "width": 96, **TINY}
    network, spec = create_model("avinet", audio_encoder="none", fusion=fusion, **small)
    plain, plain_spec = create_model("vinet", **small)
    assert spec == plain_spec and spec.audio is None
    variables = init_variables(network, 0)
    frames = clip_of()[0]
    logits = [jax.jit(n.run)(variables, Clip(frames)).logits["saliency"] for n in (network, plain)]
    np.testing.assert_array_equal(*logits)


def test_a_part_that_only_hears_takes_no_frames():
    network, _ = create_model("soundnet", **{"audio_encoder.width": 1 / 16})
    wave = clip_of(batch=2)[1]
    run = jax.jit(network.run, static_argnames="features")
    outputs = run(init_variables(network, 0), Clip(None, wave), features=("audio",))
    assert outputs.logits == {} and outputs.features["audio"].shape == (2, 2, 64)


def test_every_window_of_a_video_hears_its_own_sound():
    """Maps of the sliding window, with its shared stem, equal those of whole clips with their sound."""
    model, rng = small_model(), np.random.default_rng(0)
    frames = rng.integers(0, 256, (19, 64, 96, 3), np.uint8)
    wave = rng.standard_normal(22_050).astype(np.float32) / 8
    maps = model.predict_frames(frames, fps=25, audio=wave, rate=22_050)
    sound = ClipSound(Sound(wave, 22_050), model.spec.audio, 8, 25)
    for index in (0, 3, 7, 18):  # the first two windows are reversed
        order = window(index, 19, 8, "last")
        clip = Clip(frames[order][None], sound.clip(order, 19)[None])
        np.testing.assert_allclose(maps[index], model(clip).saliency[0], atol=1e-5)
    silent = model.predict_frames(frames, fps=25)
    assert np.abs(silent - maps).max() > 1e-3
    np.testing.assert_array_equal(silent, model.predict_frames(frames, 25, 0 * wave, 22_050))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["bilinear", "transformer"])
def test_training_reaches_the_sound(fusion):
    model, (frames, wave) = small_model(fusion), clip_of(batch=2)
    x = jnp.asarray(frames, jnp.float32) / 64 - 2

    def loss(params):
        variables, clip = {**model.variables, "params": params}, Clip(x, wave, normalized=True)
        rngs = {"dropout": jax.random.key(0)}
        outputs = model.network.run(variables, clip, train=True, rngs=rngs)
        return (outputs.logits["saliency"] ** 2).mean(), outputs.batch_stats

    (_, statistics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(model.variables["params"])
    for slot in ("audio_encoder", "fusion", "visual_encoder"):
        sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient[slot])]
        assert all(np.isfinite(sizes)) and max(sizes) > 0, slot
    conv = model.variables["params"]["audio_encoder"]["layer1"]["conv"]
    padded = np.pad(wave, ((0, 0), (32, 32)))
    columns = np.lib.stride_tricks.sliding_window_view(padded, 64, 1)[:, ::2]
    mean = columns.mean((0, 1)) @ np.asarray(conv["kernel"])[:, 0, 0, 0] + np.asarray(conv["bias"])
    running_mean = statistics["audio_encoder"]["layer1"]["norm"]["batch"]["mean"]
    np.testing.assert_allclose(running_mean, 0.1 * mean, atol=1e-4)  # torch's momentum of 0.1, not S3D's


def test_bfloat16_stays_close():
    (frames, wave), runtime = clip_of(), Runtime(dtype=jnp.bfloat16)
    stored = tiny_stored(
        system="avinet", visual_encoder="small", fusion="transformer", **FUSIONS["transformer"]
    )
    network = build(stored.preset, runtime)
    expected = np.asarray(Model(stored)(Clip(frames, wave)).logits)
    result = jax.jit(network.run)(stored.variables, Clip(frames, wave)).logits["saliency"]
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=0.06 * np.abs(expected).max())


def test_sound_of_another_shape_is_refused():
    model, (frames, wave) = small_model(), clip_of(batch=2)
    with pytest.raises(AvsalError, match=r"takes sound of shape \[2, 35280\]; got \(1, 35280\)"):
        model(Clip(frames, wave[:1]))
    with pytest.raises(AvsalError, match=r"got \(2, 1, 35280\)"):
        model(Clip(frames, wave[:, None]))
    with pytest.raises(AvsalError, match=r"only frames of 64x96 .*; got frames of 96x96 and sound \(35280,"):
        model(Clip(np.zeros((2, 8, 96, 96, 3), np.uint8), wave))
    with pytest.raises(AvsalError, match=r"takes only frames of .*; got .*sound \(70560,\)"):
        model(Clip(frames, np.zeros((2, 70_560), np.float32)))


def test_settings_of_the_sound():
    assert resolve("avinet", {"audio.samples": 35_280}).input.audio.samples == 35_280
    hearing = {"audio_encoder": "soundnet", "fusion": "addition"}
    assert resolve("vinet", hearing).input.audio == SoundNet.default_sound
    mistakes = [
        ({"audio.sample": 1}, r"audio 'waveform' has no field 'sample' \(did you mean 'samples'\?\)"),
        ({"audio_encoder": "none", "audio.samples": 1}, "takes no audio: set audio_encoder before"),
        ({"audio": "off"}, "audio.name 'off' is not one of waveform, logmel"),
        ({"audio.samples": 0}, "audio.samples must be a whole number"),
        ({"fusion": "bilinaer"}, r"unknown fusion 'bilinaer' \(did you mean 'bilinear'\?\)"),
    ]
    for overrides, message in mistakes:
        with pytest.raises(AvsalError, match=message):
            resolve("avinet", overrides)
    network, _ = create_model("avinet", audio=None)
    with pytest.raises(AvsalError, match="takes audio, but its input defines none: set audio.name"):
        abstract_variables(network)
