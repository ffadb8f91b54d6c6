"""Networks that take pictures of several aspects: streams, photographs, files and features at their sizes."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from avsal_jax import Clip
from avsal_jax.inference.features import FeatureSettings
from avsal_jax.inference.predict import predict_file
from avsal_jax.inference.settings import Settings
from avsal_jax.media.photographs import PhotographSet
from avsal_jax.testing.models import probe_model
from avsal_jax.testing.videos import moving_spot, write_video

T = 4
PICTURES = {"a": (40, 60), "b": (90, 50), "c": (100, 160), "d": (72, 40), "e": (30, 40)}
EXPECTED = {"a": (64, 96), "b": (96, 64), "c": (64, 96), "d": (96, 64), "e": (64, 96)}


@pytest.fixture(scope="module")
def model():
    return probe_model(T, fit="aspect")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def resized(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def expected_map(model, image, size):
    """The probe's map of a picture, through the network's ordinary call on a clip of it."""
    frame = resized(image, *size)
    return np.asarray(model(Clip(np.broadcast_to(frame, (1, T, *frame.shape)))).saliency[0])


def test_the_first_frame_chooses_the_size_of_a_stream(model):
    for size, shape in (((50, 30), (96, 64)), ((30, 50), (64, 96))):
        frames = noise(9, *size, 3)
        maps = model.predict_frames(frames, fps=25)
        assert maps.shape == (9, *shape)
        for frame, saliency in zip(frames, maps, strict=True):
            np.testing.assert_allclose(saliency, expected_map(model, frame, shape), atol=1e-6)
    mixed = [noise(50, 30, 3), noise(30, 50, 3), noise(20, 20, 3)]
    maps = [saliency for _, saliency in model.iter_frames(mixed)]
    for frame, saliency in zip(mixed, maps, strict=True):
        np.testing.assert_allclose(saliency, expected_map(model, frame, (96, 64)), atol=1e-6)
    assert list(model.iter_frames(iter(()))) == []


def test_a_photograph_has_the_map_of_its_size(model):
    for name, size in PICTURES.items():
        image = noise(*size, 3)
        saliency = model.predict_image(image)
        assert saliency.shape == EXPECTED[name]
        np.testing.assert_allclose(saliency, expected_map(model, image, EXPECTED[name]), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_photographs_of_several_aspects_share_a_run(tmp_path, batch):
    """Each size is compiled once, and every map belongs to its picture."""
    model, paths = probe_model(T, fit="aspect"), []
    for number, (name, size) in enumerate(PICTURES.items()):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(noise(*size, 3, seed=number)).save(paths[-1])
    pictures = PhotographSet.of(paths)
    settings = Settings(save=("npz", "maps"), batch=batch)
    summary = predict_file(model, pictures, tmp_path / "out", settings)
    assert [entry["name"] for entry in summary["pictures"]] == list(PICTURES)
    with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
        assert list(archive) == list(PICTURES)
        for number, (name, size) in enumerate(PICTURES.items()):
            expected = expected_map(model, noise(*size, 3, seed=number), EXPECTED[name])
            np.testing.assert_allclose(archive[name], expected, atol=2e-3)  # float16
            with Image.open(tmp_path / "out" / "maps" / f"{name}.png") as image:
                assert image.size == size[::-1]
    compiled = []
    events = lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(events)
    try:
        predict_file(model, pictures, tmp_path / "again", settings)
        assert compiled == []
        predict_file(probe_model(T, fit="aspect"), pictures, tmp_path / "third", settings)
        assert len(compiled) <= 2 * 2 + 1  # two programs of two sizes, and an empty ring
    finally:
        jax.monitoring.unregister_event_duration_listener(events)


def test_files_and_features_of_a_video(model, tmp_path):
    write_video(tmp_path / "clip.mp4", moving_spot(6, 128, 72))
    settings = Settings(save=("maps", "npz", "features"), features=FeatureSettings(frames=1))
    predict_file(model, tmp_path / "clip.mp4", tmp_path / "out", settings)
    with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
        maps = archive["maps"]
    assert maps.shape == (6, 96, 64)
    (number,) = json.loads((tmp_path / "out" / "summary.json").read_text())["features"]["frames"]
    with np.load(tmp_path / "out" / "features" / f"{number:06d}.npz", allow_pickle=False) as features:
        assert features["saliency"].shape == (96, 64)
        np.testing.assert_allclose(features["saliency"], maps[number - 1], atol=2e-3)
    with Image.open(tmp_path / "out" / "maps" / "000001.png") as image:
        assert image.size == (72, 128)
