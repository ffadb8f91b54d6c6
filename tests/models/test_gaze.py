"""The system `gaze`: its maps are densities, photographs do not move, and frozen parts do not learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from avsal_jax.errors import AvsalError
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import create_model
from avsal_jax.types import Clip

SMALL = {
    "height": 64,
    "width": 96,
    "visual_encoder": {"width": 1 / 16},
    "heads": {"saliency": {"channels": 8}},
}
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    network, _ = create_model("gaze", **SMALL)
    variables = init_variables(network, 1)
    head = variables["params"]["heads"]["saliency"]
    head["readout"]["prior"] = np.random.default_rng(1).normal(0, 1, (6, 8, 1)).astype(np.float32)
    for name in ("change", "prior"):  # which start at zero
        values = head["motion_head"][name]
        head["motion_head"][name] = np.random.default_rng(2).normal(0, 0.5, values.shape).astype(np.float32)
    return network, variables


def outputs(model, frames, medium="video"):
    network, variables = model
    features = ("image_density",)
    return jax.jit(network.run, static_argnames="features")(
        variables, Clip(frames, medium=medium), features=features
    )


def saliency(model, frames, medium="video"):
    return np.asarray(jax.nn.sigmoid(outputs(model, frames, medium).logits["saliency"]))


def test_a_map_is_a_density_times_a_constant(model):
    """Of a photograph, the density that the readout gives, with values between cells from SciPy."""
    out = outputs(model, FRAMES, "still")
    density = np.asarray(out.features["image_density"])  # the logarithm, [2, 8, 12]
    np.testing.assert_allclose(np.exp(density).sum((1, 2)), 1, rtol=1e-5)
    rows, columns = ((np.arange(8 * n) + 0.5) / 8 - 0.5 for n in (8, 12))
    places = np.meshgrid(rows, columns, indexing="ij")
    for logarithm, saliency_map in zip(
        density, np.asarray(jax.nn.sigmoid(out.logits["saliency"])), strict=True
    ):
        fine = scipy.ndimage.map_coordinates(logarithm.astype(np.float64), places, order=1, mode="nearest")
        np.testing.assert_allclose(saliency_map, 0.98 * np.exp(fine - fine.max()), rtol=1e-4)
    assert np.asarray(density).std() > 0.1


def test_the_photograph_of_a_clip_is_its_last_frame(model):
    clips = np.concatenate([FRAMES[::-1, :3], FRAMES[:, 3:]], 1)
    np.testing.assert_array_equal(saliency(model, FRAMES, "still"), saliency(model, clips, "still"))


def test_a_video_depends_on_the_luminance_of_earlier_frames_alone(model):
    before = saliency(model, FRAMES)
    moved = FRAMES.copy()
    moved[:, 2] = moved[:, 2, ::-1]  # the frame .1 s before
    assert np.abs(saliency(model, moved) - before).max() > 1e-3
    unused = FRAMES.copy()
    unused[:, 1] = 0  # .2 s before, which no lag names
    np.testing.assert_array_equal(saliency(model, unused), before)


def test_a_video_in_which_nothing_moves_has_the_prior_of_videos(model):
    still = np.repeat(FRAMES[:, :1], 4, 1)
    assert np.abs(saliency(model, still) - saliency(model, still, "still")).max() > 1e-3
    network, variables = model
    params = jax.tree.map(jnp.asarray, variables["params"])
    motion = params["heads"]["saliency"]["motion_head"]
    motion["prior"], motion["change"] = jnp.zeros((6, 8, 1)), jnp.zeros((4, 2))
    unchanged = network, {**variables, "params": params}
    np.testing.assert_allclose(saliency(unchanged, still), saliency(unchanged, still, "still"), rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (32, 160)])
def test_other_sizes(model, size):
    frames = np.random.default_rng(3).integers(0, 256, (1, 4, *size, 3), np.uint8)
    maps = saliency(model, frames)
    assert maps.shape == (1, *size)
    assert maps.max() == pytest.approx(0.98, abs=1e-5) and maps.min() > 0


def test_the_luminance_level_is_that_of_the_picture():
    network, _ = create_model("gaze", **SMALL)
    variables = init_variables(network, 0)
    level = jax.jit(network.frame_features)(variables, FRAMES[0])[-1]
    expected = FRAMES[0] @ np.array([0.299, 0.587, 0.114]) / 255
    expected = expected.reshape(4, 16, 4, 24, 4).mean((2, 4))
    np.testing.assert_allclose(np.asarray(level)[..., 0], expected, atol=1e-5)


def test_frozen_parameters():
    frozen = {"saliency": {"channels": 8, "frozen_image": True}}
    network, _ = create_model("gaze", **{**SMALL, "heads": frozen})
    assert network.frozen_parameters == ("heads/saliency/readout/.*",)
    variables = init_variables(network, 0)

    def loss(params):
        out = network.run(
            {**variables, "params": params}, Clip(FRAMES), train=True, rngs={"dropout": jax.random.key(0)}
        )
        return (out.logits["saliency"] ** 2).mean()

    gradient = jax.jit(jax.grad(loss))(variables["params"])["heads"]["saliency"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["readout"]))
    assert np.any(gradient["motion_head"]["change"])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(AvsalError, match="a lag of 5 frames needs clips of 6 frames; these have 4"):
        init_variables(create_model("gaze", **SMALL, **{"heads.saliency.lags": (1, 5)})[0], 0)
    with pytest.raises(AvsalError, match="visual_encoder.luminance=True"):
        init_variables(create_model("gaze", **SMALL, **{"visual_encoder.luminance": False})[0], 0)
