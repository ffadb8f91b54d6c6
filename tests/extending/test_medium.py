"""A head that is another function for photographs than for videos."""

import types
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.inference.features import FeatureSettings
from avsal_jax.inference.predict import predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.settings import Settings
from avsal_jax.losses import Term
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import resolve
from avsal_jax.storage import StoredModel
from avsal_jax.testing.parts import SmallDecoder
from avsal_jax.testing.training import random_clips, step_inputs
from avsal_jax.testing.videos import moving_spot, write_video
from avsal_jax.training.feed import Feed
from avsal_jax.training.objectives import Supervised
from avsal_jax.training.step import make_validation_step


class TwoFoldDecoder(SmallDecoder):
    """The small decoder; of photographs, the negative of its logits."""

    sees_medium: ClassVar[bool] = True

    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False, medium: str = "video"):
        logits = super().__call__(pyramid, train)
        return -logits if medium == "still" else logits


CHANGES = {
    "frames": 4,
    "height": 32,
    "width": 64,
    "visual_encoder": {"name": "small", "width": 1 / 16},
    "heads": {"saliency": {"name": TwoFoldDecoder}},
}


@pytest.fixture(scope="module")
def model():
    network, _ = create_model("vinet", **CHANGES)
    preset = resolve("vinet", CHANGES)
    return Model(StoredModel(preset, network=network, variables=init_variables(network, 0), card={}))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)


def logit(saliency):
    saliency = np.asarray(saliency, np.float64)
    return np.log(saliency / (1 - saliency))


def test_the_medium_of_a_clip_reaches_the_head(model, image):
    assert model.network.sees_medium
    frames = np.broadcast_to(image, (1, 4, *image.shape))
    video, still = (model(Clip(frames, medium=medium)).logits for medium in ("video", "still"))
    np.testing.assert_allclose(still, -video, rtol=1e-6)
    assert np.abs(video).max() > 1e-3
    shared = jax.jit(model.network.frame_features)(model.variables, image[None])
    run_windows = jax.jit(model.network.run_windows, static_argnames="medium")
    windows = jax.tree.map(lambda feature: jnp.repeat(feature[None], 4, 1), shared)
    for medium, expected in (("video", video), ("still", still)):
        outputs = run_windows(model.variables, windows, medium=medium)
        np.testing.assert_allclose(outputs.logits["saliency"], expected, atol=1e-5)


def test_photographs_and_videos_are_predicted_as_what_they_are(model, image, tmp_path):
    frames = np.broadcast_to(image, (1, 4, *image.shape))
    expected = np.asarray(model(Clip(frames)).logits[0])
    np.testing.assert_allclose(logit(model.predict_image(image)), -expected, atol=1e-4)
    np.testing.assert_allclose(logit(model.predict_frames(image[None], 25)[0]), expected, atol=1e-4)
    ((_, still),) = model.iter_frames(image[None], medium="still")
    np.testing.assert_allclose(logit(still), -expected, atol=1e-4)

    Image.fromarray(image).save(tmp_path / "photo.png")
    settings = Settings(save=("npz", "features"), features=FeatureSettings(frames=1))
    predict_file(model, tmp_path / "photo.png", tmp_path / "photo", settings)
    write_video(tmp_path / "clip.mp4", moving_spot(3, 32, 64))
    predict_file(model, tmp_path / "clip.mp4", tmp_path / "clip", settings)
    for name, number in (("photo", 1), ("clip", 2)):
        with (
            np.load(tmp_path / name / "maps.npz", allow_pickle=False) as archive,
            np.load(tmp_path / name / "features" / f"{number:06d}.npz", allow_pickle=False) as features,
        ):
            np.testing.assert_allclose(features["saliency"], archive["maps"][number - 1], atol=2e-3)
            if name == "photo":
                np.testing.assert_allclose(archive["maps"][0], still, atol=2e-3)


def test_training_and_validation_take_the_medium(model):
    network, batch, terms = model.network, random_clips(model.spec, 1), (Term("kl"),)

    @jax.jit
    def evaluated(params, stats):
        inputs = step_inputs(stats, {"labelled": batch})
        losses = {
            medium: Supervised(network, terms, medium).loss(params, inputs)[0]
            for medium in ("video", "still")
        }
        maps = {
            medium: make_validation_step(network, terms, medium)(params, stats, batch)[1]
            for medium in ("video", "still")
        }
        return losses, maps

    losses, maps = evaluated(model.variables["params"], model.variables["batch_stats"])
    assert abs(float(losses["video"] - losses["still"])) > 1e-4
    np.testing.assert_allclose(maps["still"], 1 - maps["video"], atol=1e-5)


@pytest.mark.parametrize(
    ("counts", "medium"), [(([1, 1], [1]), "still"), (([9, 2], [3]), "video"), (([9, 9], []), "video")]
)
def test_the_medium_of_a_run_is_that_of_its_videos(counts, medium):
    assert Feed.medium(feed_of(*counts)) == medium


@pytest.mark.parametrize("counts", [([1, 9], [9]), ([9, 9], [1]), ([1, 1], [9])])
def test_photographs_and_videos_in_one_run_are_refused(counts):
    with pytest.raises(AvsalError, match=r"mine v\d is a photograph, mine v\d has 9 frames; use two runs"):
        Feed.medium(feed_of(*counts))


def feed_of(train, validation):
    groups = [
        [
            types.SimpleNamespace(dataset="mine", name=f"v{number}", frames=count)
            for number, count in enumerate(counts)
        ]
        for counts in (train, validation)
    ]
    return types.SimpleNamespace(_videos=lambda: [*groups[0], *groups[1]])
