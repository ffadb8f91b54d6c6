"""EfficientNet-Lite as a visual encoder: any size, frozen stages, shared frames, in the systems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, Model, create_model
from avsal_jax.models.encoders import efficientnet
from avsal_jax.models.encoders.efficientnet import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    repeats,
    rounded_channels,
)
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import abstract_variables, init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import StoredModel
from avsal_jax.training.optimizers import AdamW, Group, group_labels, make_optimizer, with_frozen

NARROW = {"name": "efficientnet_lite0", "width": 1 / 8}
SMALL = {
    "frames": 4,
    "height": 32,
    "width": 64,
    "visual_encoder": NARROW,
    "heads.saliency": "small",
}


def test_versions_have_the_published_numbers_of_parameters():
    for cls, expected in (
        (EfficientNetLite0, 4_652_008),
        (EfficientNetLite1, 5_416_680),
        (EfficientNetLite2, 6_092_072),
    ):
        shapes = jax.eval_shape(cls(classes=1000).init, jax.random.key(0), jnp.zeros((1, 1, 32, 32, 3)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == expected
    assert repeats(1.1) == repeats(1.2) == (1, 3, 3, 4, 4, 5, 1)
    assert [rounded_channels(c) for c in (11, 17.6, 26.4, 44, 352)] == [16, 16, 24, 48, 352]


@pytest.mark.parametrize("size", [(224, 384), (225, 383), (33, 1)])
def test_levels_have_a_quarter_to_a_thirty_second_of_any_size(size):
    encoder = EfficientNetLite0()
    frames = jax.ShapeDtypeStruct((2, 3, *size, 3), jnp.float32)
    levels, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), frames)
    shapes = [(2, 3, *(-(-n // stride) for n in size)) for stride in (4, 8, 16, 32)]
    channels = (24, 40, 112, 320)
    assert [level.shape for level in levels] == [
        (*shape, c) for shape, c in zip(shapes, channels, strict=True)
    ]


def test_the_encoder_brings_its_numbers_of_the_input():
    preset = resolve("vinet", {"visual_encoder": "efficientnet_lite0", "heads.saliency": "unet"})
    pixels = preset.input.pixels
    assert (pixels.mean, pixels.deviation, pixels.scale) == ((127,) * 3, (128,) * 3, 1)
    assert preset.input.divisor == 32
    part = resolve("efficientnet_lite2").input
    assert (part.frames, part.height, part.width, part.pixels) == (1, 288, 288, pixels)


def test_frozen_stages_have_no_gradient_and_keep_their_statistics(monkeypatch):
    """With a block a stage, which compiles in half the time."""
    monkeypatch.setattr(efficientnet, "STAGES", [(*stage[:4], 1) for stage in efficientnet.STAGES])
    encoder = EfficientNetLite0(width=1 / 8, frozen=4, runtime=Runtime(lowering="direct"))
    frames = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1, 32, 32, 3)), jnp.float32)
    variables = fresh_variables(lambda key: encoder.init(key, frames), 0)
    variables = {name: variables[name] for name in ("params", "batch_stats")}

    def loss(params):
        levels, state = encoder.apply(
            {**variables, "params": params}, frames, train=True, mutable=["batch_stats"]
        )
        return sum((level**2).mean() for level in levels), state["batch_stats"]

    gradients, stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    gradients, start = jax.device_get((gradients, variables["batch_stats"]))
    for number in range(8):
        stage = f"stage{number}"
        pulled = [bool(np.any(leaf)) for leaf in jax.tree.leaves(gradients[stage])]
        before, after = (jax.tree.leaves(jax.device_get(tree[stage])) for tree in (start, stats))
        changed = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
        expected = number >= 4
        assert set(changed) == {expected} and any(pulled) == expected, stage


def test_the_optimizer_leaves_frozen_stages_alone():
    """Weight decay too would move them, and their moments would take memory."""
    network, _ = create_model("vinet", **{**SMALL, "visual_encoder": {**NARROW, "frozen": 3}})
    kernel = {"kernel": np.ones(2, np.float32)}
    params = {"visual_encoder": {f"stage{n}": kernel for n in range(8)}, "heads": kernel}
    config = AdamW(weight_decay=0.1, groups=(Group("visual_encoder/.*", 0.1),))
    config = with_frozen(config, network.frozen_parameters)
    assert group_labels(config, params) == {
        **{f"visual_encoder/stage{n}/kernel": "frozen" if n < 3 else "group3" for n in range(8)},
        "heads/kernel": "rest",
    }
    optimizer = make_optimizer(config, params, 10)
    updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    moved = [bool(np.any(updates["visual_encoder"][f"stage{n}"]["kernel"])) for n in range(8)]
    assert moved == [False] * 3 + [True] * 5


@pytest.fixture(scope="module")
def stored():
    preset = resolve("vinet", SMALL)
    network = build(preset)
    return StoredModel(preset, network, init_variables(network, 0), {})


def test_a_sliding_window_encodes_each_frame_once_and_gives_what_single_clips_give(stored):
    network, variables = stored.network, stored.variables
    frames = np.random.default_rng(0).integers(0, 256, (11, 32, 64, 3), np.uint8)
    shared = jax.eval_shape(network.frame_features, variables, frames)
    assert [level.shape for level in shared] == [
        (11, 8, 16, 3), (11, 4, 8, 5), (11, 2, 4, 14), (11, 1, 2, 40)
    ]  # fmt: skip
    maps = Model(stored).predict_frames(frames, fps=25)
    run = jax.jit(lambda clip: network.run(variables, Clip(clip)).logits["saliency"])
    for last in (3, 7, 10):
        expected = jax.nn.sigmoid(run(frames[None, last - 3 : last + 1])[0])
        np.testing.assert_allclose(maps[last], expected, atol=1e-6)


SYSTEMS = {
    "vinet, channels": ("vinet", {"heads.saliency.join": "channels"}),
    "vinet, a frame alone": ("vinet", {"frames": 1, "heads.saliency": "fcn"}),
    "vinet, unet": ("vinet", {"heads.saliency": "unet"}),
    "avinet": ("avinet", {"heads.saliency.join": "channels", "frames": 2}),
    "casp_net": ("casp_net", {"frames": 2}),
    "avrsp": ("avrsp", {"frames": 2}),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case in ("casp_net", "avrsp") else ()) for case in SYSTEMS],
)
def test_it_is_the_visual_encoder_of_any_system_that_its_pyramid_fits(case):
    system, changes = SYSTEMS[case]
    network, spec = create_model(
        system, **{"visual_encoder": "efficientnet_lite0", "frames": 8, "height": 32, "width": 64, **changes}
    )
    clip = Clip(jax.ShapeDtypeStruct((1, spec.frames, 32, 64, 3), np.uint8))
    outputs = jax.eval_shape(network.run, abstract_variables(network), clip)
    assert outputs.logits["saliency"].shape == (1, 32, 64)


def test_a_decoder_that_needs_shorter_time_says_what_to_change():
    network, _ = create_model("vinet", visual_encoder="efficientnet_lite0", frames=8, height=32, width=64)
    with pytest.raises(AvsalError, match="keeps all 8 frames: set heads.saliency.join=channels, or"):
        abstract_variables(network)


@pytest.mark.parametrize("runtime", [Runtime(remat=True, lowering="direct"), Runtime(jnp.bfloat16)])
def test_runtime_fields_do_not_change_the_function(runtime):
    network, _ = create_model("efficientnet_lite0", **{"visual_encoder": NARROW})
    other, _ = create_model("efficientnet_lite0", runtime, **{"visual_encoder": NARROW})
    variables = init_variables(network, 0)
    clip = Clip(np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32, 3), np.uint8))

    def taps(network):
        return jax.jit(lambda v: network.run(v, clip, features=("taps",)).features["taps"])(variables)

    tolerance = 0.1 if runtime.dtype == jnp.bfloat16 else 1e-5
    for result, expected in zip(taps(other), taps(network), strict=True):
        np.testing.assert_allclose(
            np.float32(result), expected, atol=tolerance * np.abs(expected).max(), rtol=0
        )
