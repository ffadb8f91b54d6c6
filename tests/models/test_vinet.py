"""S3D and ViNet: parameter counts of the public code, and behaviour that a wrong layout would break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.inference.predictor import Model
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import abstract_variables, init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.ops.convolution import conv3d
from avsal_jax.ops.pooling import max_pool3d
from avsal_jax.testing.models import TINY, TINY_S3D, tiny_stored

# Printed by instantiating the public PyTorch code.
COUNTS = {
    (8, 3): 31_079_105,
    (16, 3): 31_097_537,
    (32, 3): 31_099_585,
    (48, 3): 31_100_641,
    (32, 0): 20_150_977,
    (32, 1): 27_339_457,
    (32, 2): 30_657_217,
}


def count(network):
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_variables(network)["params"]))


@pytest.mark.parametrize(("frames", "hierarchy"), COUNTS)
def test_parameter_counts_of_the_public_code(frames, hierarchy):
    network, _ = create_model("vinet", frames=frames, **{"heads.saliency.hierarchy": hierarchy})
    assert count(network) == COUNTS[frames, hierarchy]


def test_parameter_count_of_s3d_with_and_without_its_classifier():
    for classes, expected in ((400, 8_320_048), (None, 7_910_048)):
        preset = resolve("s3d", {"visual_encoder.classes": classes})
        assert count(build(preset)) == expected


def tiny(frames=8, runtime=None, **overrides):
    settings = {"frames": frames, "height": 64, "width": 96, **TINY_S3D, **overrides}
    network, spec = create_model("vinet", runtime, **settings)
    return network, spec, init_variables(network, 0)


@pytest.fixture(scope="module")
def narrow_model():
    """A ViNet with the whole graph of S3D, a sixteenth as wide."""
    return Model(tiny_stored(visual_encoder="s3d"))


def logits_of(model, frames):
    return np.asarray(model(Clip(frames)).logits)


def frames_of(spec, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, spec.frames, spec.height, spec.width, 3), np.uint8)


VARIANTS = [
    {"frames": frames, "heads": {"saliency": {"join": join, "upsample": upsample, "hierarchy": hierarchy}}}
    for frames, join, upsample, hierarchy in [
        (8, "time", "trilinear", 3),
        (16, "time", "transposed", 2),
        (48, "time", "trilinear", 1),
        (32, "time", "transposed", 0),
        (32, "channels", "trilinear", 3),
        (16, "channels", "transposed", 2),
        (24, "channels", "trilinear", 0),
    ]
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_gives_a_map_at_frame_size(variant):
    """Of the decoder; parameter counts and golden tests have S3D at every number of frames."""
    settings = {"height": 64, "width": 96, **TINY, **variant}
    network, spec = create_model("vinet", **settings)
    outputs = jax.eval_shape(network.run, abstract_variables(network), Clip(frames_of(spec, batch=2)))
    assert outputs.logits["saliency"].shape == (2, 64, 96)


def test_the_channel_variant_convolves_taps_3x3x3_and_collapses_time_last():
    network, _ = create_model("vinet", **{"heads.saliency.join": "channels"})
    decoder = abstract_variables(network)["params"]["heads"]["saliency"]
    shapes = {name: part["kernel"].shape for name, part in decoder.items()}
    assert shapes["conv2"] == (3, 3, 3, 832 + 832, 480)
    assert shapes["conv4"] == (3, 3, 3, 192 + 192, 64)
    assert shapes["collapse"] == (16, 1, 1, 32, 32)


def test_transposed_upsampling_has_the_stated_kernels():
    network, _ = create_model("vinet", **{"heads.saliency.upsample": "transposed"})
    decoder = abstract_variables(network)["params"]["heads"]["saliency"]
    assert decoder["upsample1"]["kernel"].shape == (1, 4, 4, 832, 832)
    assert decoder["upsample5"]["kernel"].shape == (1, 4, 4, 32, 32)


def test_batch_of_two_equals_each_alone(narrow_model):
    frames = frames_of(narrow_model.spec, batch=2)
    pair = logits_of(narrow_model, frames)
    single = np.concatenate([logits_of(narrow_model, frames[i : i + 1]) for i in (0, 1)])
    np.testing.assert_allclose(pair, single, atol=1e-5 * np.abs(single).max())  # sums of float32
    assert np.abs(single[0] - single[1]).max() > 0.01


@pytest.mark.parametrize("axis", [1, 2, 3], ids=["time", "top-bottom", "left-right"])
def test_a_reversed_clip_changes_the_map(narrow_model, axis):
    frames = frames_of(narrow_model.spec)
    plain = logits_of(narrow_model, frames)
    other = logits_of(narrow_model, np.flip(frames, axis))
    assert np.abs(plain - other).max() > 0.01
    if axis > 1:  # nor does the map only turn over
        assert np.abs(np.flip(plain, axis - 1) - other).max() > 0.01


@pytest.mark.parametrize("axis", [2, 3], ids=["top-bottom", "left-right"])
def test_mirroring_odd_frames_and_kernels_mirrors_the_result(axis):
    """True for symmetric pads alone; one-sided ones, such as SAME gives, would shift the result."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 9, 11, 4)), jnp.float32)
    for size, padding in (((1, 3, 3), (0, 1, 1)), ((3, 3, 3), (1, 1, 1)), ((1, 7, 7), (0, 3, 3))):
        kernel = jnp.asarray(np.random.default_rng(1).standard_normal((*size, 4, 2)), jnp.float32)
        mirrored = conv3d(jnp.flip(x, axis), jnp.flip(kernel, axis - 1), stride=(1, 2, 2), padding=padding)
        plain = conv3d(x, kernel, stride=(1, 2, 2), padding=padding)
        np.testing.assert_allclose(jnp.flip(mirrored, axis), plain, atol=1e-5 * np.abs(plain).max())
    pooled = max_pool3d(jnp.flip(x, axis), (1, 3, 3), (1, 2, 2), (0, 1, 1))
    np.testing.assert_array_equal(jnp.flip(pooled, axis), max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)))


def test_stem_sees_each_frame_alone(narrow_model):
    network, variables = narrow_model.network, narrow_model.variables
    (frames,) = frames_of(narrow_model.spec)
    changed = frames.copy()
    changed[3] = 255 - changed[3]
    stem = jax.jit(network.frame_features)
    a, b = stem(variables, frames), stem(variables, changed)
    differs = np.abs(a - b).max((1, 2, 3)) > 0
    assert differs.tolist() == [i == 3 for i in range(8)]
    expected = narrow_model(Clip(frames[None])).logits
    result = jax.jit(network.run_windows)(variables, a[None]).logits["saliency"]
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())


def test_any_size_divisible_by_32_and_no_other(narrow_model):
    assert narrow_model(Clip(np.zeros((1, 8, 96, 32, 3), np.uint8))).saliency.shape == (1, 96, 32)
    with pytest.raises(AvsalError, match="divide by 32; got 80x96"):
        narrow_model(Clip(np.zeros((1, 8, 80, 96, 3), np.uint8)))
    with pytest.raises(AvsalError, match=r"\[B, 8, H, W, 3\]"):
        narrow_model(Clip(np.zeros((1, 7, 64, 96, 3), np.uint8)))
    network, _ = create_model("vinet", frames=24, **TINY_S3D)
    with pytest.raises(AvsalError, match="8, 16, 32 or 48 frames; got 24"):
        abstract_variables(network)


def test_features_come_by_name(narrow_model):
    clip = Clip(frames_of(narrow_model.spec))
    taps = narrow_model(clip, features=("taps",)).features["taps"]
    sizes = [(4, 16, 24, 12), (4, 8, 12, 30), (2, 4, 6, 52), (1, 2, 3, 64)]
    assert [tap.shape[1:] for tap in taps] == sizes  # channels: sums of rounded branch widths
    with pytest.raises(AvsalError, match="unknown feature 'fused'; this network records taps"):
        narrow_model(clip, features=("fused",))


@pytest.mark.parametrize("lowering", ["folded", "direct"])
def test_runtime_fields_do_not_change_the_function(narrow_model, lowering):
    network, spec, variables = tiny(runtime=Runtime(lowering=lowering, remat=True, frozen_norm=True))
    clip = Clip(frames_of(spec))
    result = jax.jit(network.run)(variables, clip).logits["saliency"]
    expected = np.asarray(narrow_model(clip).logits)  # up to 10: float32 sums over some thousand numbers
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_bfloat16_stays_close_and_gives_float32(narrow_model):
    network, spec, variables = tiny(runtime=Runtime(dtype=jnp.bfloat16))
    clip = Clip(frames_of(spec))
    expected = np.asarray(narrow_model(clip).logits)
    result = jax.jit(network.run)(variables, clip).logits["saliency"]
    assert result.dtype == jnp.float32
    # A bfloat16 is off by up to 0.4 %; 1.6 % of the largest were seen after some ten layers.
    np.testing.assert_allclose(result, expected, atol=0.1 * np.abs(expected).max())


@pytest.mark.slow
def test_training_updates_statistics_by_the_momentum():
    """With remat, which must not update them twice; without it: every training run of `tests/training`."""
    runtime = Runtime(norm_momentum=0.9, remat=True, lowering="direct")  # which compiles faster
    network, _, variables = tiny(runtime=runtime)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 64, 96, 3)), jnp.float32)

    def loss(params):
        outputs = network.run({**variables, "params": params}, Clip(x, normalized=True), train=True)
        return (outputs.logits["saliency"] ** 2).mean(), outputs.batch_stats

    (_, statistics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    stem = statistics["visual_encoder"]["conv1"]["spatial"]["norm"]["batch"]["mean"]
    conv = variables["params"]["visual_encoder"]["conv1"]["spatial"]["conv"]["kernel"]
    out = jax.lax.conv_general_dilated(
        x, conv, (1, 2, 2), [(0, 0), (3, 3), (3, 3)], dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(stem, 0.1 * out.mean((0, 1, 2, 3)), atol=1e-5)
    norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)]
    assert all(np.isfinite(norms)) and max(norms) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"heads.saliency.hierachy": 2},
            r"heads.saliency 'vinet' has no field 'hierachy' \(did you mean 'hierarchy'\?\); it has",
        ),
        ({"decodr.width": 2}, "unknown setting 'decodr.* settings are the slots visual_encoder, .* heads"),
        (
            {"heads.saliency.hierarchy": "many"},
            "heads.saliency.hierarchy must be a whole number from 0 to 3; got 'many'",
        ),
        (
            {"heads.saliency.hierarchy": 4},
            "heads.saliency.hierarchy must be a whole number from 0 to 3; got 4",
        ),
        ({"heads.saliency": "pix2pix"}, "unknown head 'pix2pix'.* avrsp, fcn, gaze, sal, "),
        ({"heads.saliency": "vinett"}, r"unknown head 'vinett' \(did you mean 'vinet'\?\)"),
        ({"height": 200}, "height must be divisible by 32; got 200"),
    ],
)
def test_unknown_names_are_reported_with_the_known_ones(settings, message):
    with pytest.raises(AvsalError, match=message):
        create_model("vinet", **settings)


def test_an_unknown_system_is_reported():
    with pytest.raises(AvsalError, match=r"unknown system 'vinets' \(did you mean 'vinet'\?\)"):
        create_model("vinets")


def test_clips_are_uint8_or_normalised():
    with pytest.raises(ValueError, match="normalized=True; got dtype float32"):
        Clip(np.zeros((1, 8, 64, 96, 3), np.float32))
