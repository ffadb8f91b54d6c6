"""The model that comes with the program: whole, found by name, and of use on pictures that it never saw."""

import hashlib
import json
import math

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, load_model
from avsal_jax.bundled import DEFAULT, bundled_models
from avsal_jax.cli.main import main
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.models.network import abstract_variables
from avsal_jax.storage import flatten
from avsal_jax.testing.videos import moving_spot, write_video
from tests import needs
from tests.inference.folders import file_names


@pytest.fixture(scope="module")
def model():
    return load_model()


def test_what_is_bundled_is_what_the_manifest_says(tests_dir, model):
    folder = tests_dir.parent / "checkpoints"
    (entry,) = json.loads((folder / "manifest.json").read_text())["bundled"]
    assert entry["name"] == DEFAULT and bundled_models() == {DEFAULT: folder / DEFAULT}
    blob = (folder / DEFAULT / "weights.safetensors").read_bytes()
    assert len(blob) == entry["bytes"] <= 12_000_000
    assert hashlib.sha256(blob).hexdigest() == entry["sha256"] == model.card["weights"]["sha256"]
    card = (folder / DEFAULT / "README.md").read_text()
    assert entry["sha256"] in card and "avsal train --config gaze:clips" in card
    pictures = [path for path in (folder / DEFAULT).iterdir() if path.suffix in (".jpg", ".png")]
    assert sum(path.stat().st_size for path in pictures) < 400_000


def test_every_tensor_of_the_bundle_is_one_of_the_network(tests_dir, model):
    """No picture and no table of the data is in it: names and shapes are those that the network asks for."""
    tensors = safetensors.numpy.load(
        (tests_dir.parent / "checkpoints" / DEFAULT / "weights.safetensors").read_bytes()
    )
    expected = flatten(abstract_variables(model.network))
    assert {name: value.shape for name, value in tensors.items()} == {
        name: value.shape for name, value in expected.items()
    }
    parts = {"/".join(name.split("/")[1:3]) for name in tensors}
    stages = {f"visual_encoder/stage{number}" for number in range(8)}
    assert parts == {"heads/saliency", *stages}
    readout = {name.split("/")[4] for name in tensors if name.startswith("params/heads/saliency/readout/")}
    assert readout == {
        "conv",
        "level0",
        "level1",
        "level2",
        "log_blur",
        "logits",
        "norm0",
        "norm1",
        "norm2",
        "prior",
    }
    motion = {name.split("/")[4] for name in tensors if "/motion_head/" in name}
    assert motion == {"bias", "change", "conv1", "conv2", "prior"}
    counts = {name: math.prod(value.shape) for name, value in tensors.items() if name.startswith("params/")}
    assert sum(counts.values()) == 2_958_848 + 37_537 + 938  # encoder, readout, motion head
    assert all(value.dtype == np.float16 and np.isfinite(value).all() for value in tensors.values())


def test_a_directory_comes_before_a_bundled_model_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).mkdir()
    with pytest.raises(AvsalError, match="avsal-gaze .* it has no model.json"):
        load_model(DEFAULT)
    with pytest.raises(AvsalError, match="no model directory avsal-maxi; the bundled ones are avsal-gaze"):
        load_model("avsal-maxi")


def test_a_model_that_came_with_earlier_versions(tests_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = write_video(tmp_path / "clip.mp4", moving_spot(4))
    assert main(["predict", str(source), "--model", "avsal-mini", "--output", "out"]) == 2
    assert (
        "avsal-mini, trained on generated scenes, no longer comes with the program" in capsys.readouterr().err
    )
    assert load_model(tests_dir.parent / "checkpoints" / "avsal-mini").system == "vinet"


@pytest.mark.slow
def test_it_knows_where_people_look_on_photographs_of_the_test_third(model):
    """On 20 photographs NSS is about 3.1; a model without weights has 0, the centre prior .8."""
    entries = open_dataset("osie", needs.gaze_root() / "osie", "test")[:20]
    scores = []
    for entry in entries:
        saliency = np.asarray(model.predict_image(entry.frame(0)), np.float64)
        rows, columns = entry.truth(0).grid_points(saliency.shape).T
        scores.append(((saliency - saliency.mean()) / saliency.std())[rows, columns].mean())
    assert np.mean(scores) > 2.5


def test_predict_without_a_model_runs_it_and_says_what_it_is(tmp_path, capsys):
    source = write_video(tmp_path / "clip.mp4", moving_spot(4))
    out = tmp_path / "out"
    assert main(["predict", str(source), "--output", str(out)]) == 0
    assert "without --model, the bundled avsal-gaze runs" in capsys.readouterr().err
    assert len(file_names(out / "maps")) == 4
    assert "where people looked" in json.loads((out / "summary.json").read_text())["note"]
    assert "where people looked" in (out / "report.html").read_text()
