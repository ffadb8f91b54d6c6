"""The model that comes with the program: whole, found by name, and of use on scenes that it has not seen."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, load_model, metrics
from avsal_jax.bundled import DEFAULT, bundled_models
from avsal_jax.cli.main import main
from avsal_jax.data.synthetic import settings_from
from avsal_jax.data.synthetic.expected import expected_density
from avsal_jax.data.synthetic.gaze import centre_map, densities, look, luminance, motion_maps
from avsal_jax.data.synthetic.visual_picture import render_visual
from avsal_jax.data.synthetic.visual_scene import make_visual_scene
from avsal_jax.testing.videos import moving_spot, write_video
from tests.inference.folders import listed


@pytest.fixture(scope="module")
def model():
    return load_model(DEFAULT)


def test_what_is_bundled_is_what_the_manifest_says(tests_dir, model):
    folder = tests_dir.parent / "checkpoints"
    (entry,) = json.loads((folder / "manifest.json").read_text())["bundled"]
    assert entry["name"] == DEFAULT and bundled_models() == {DEFAULT: folder / DEFAULT}
    blob = (folder / DEFAULT / "weights.safetensors").read_bytes()
    assert len(blob) == entry["bytes"] <= 10_000_000
    assert hashlib.sha256(blob).hexdigest() == entry["sha256"] == model.card["weights"]["sha256"]
    tensors = safetensors.numpy.load(blob)
    counted = sum(value.size for name, value in tensors.items() if name.startswith("params/"))
    assert counted == entry["parameters"] and all(np.isfinite(value).all() for value in tensors.values())
    card = (folder / DEFAULT / "README.md").read_text()
    assert entry["sha256"] in card and "vinet_synthetic:avsal_mini" in card
    assert sum(path.stat().st_size for path in (folder / DEFAULT).glob("*.jpg")) < 400_000


def test_a_directory_comes_before_a_bundled_model_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).mkdir()
    with pytest.raises(AvsalError, match="avsal-mini is no model directory: it has no model.json"):
        load_model(DEFAULT)
    with pytest.raises(AvsalError, match="no model directory avsal-maxi; the bundled ones are avsal-mini"):
        load_model("avsal-maxi")


def test_it_beats_the_rules_on_scenes_of_another_seed(model):
    """The card has the figures of 200 scenes; these are 10 of another seed, and shorter."""
    settings = settings_from({"preset": "avsal_mini", "seed": "77", "videos": "10", "frames": "16"})
    scores = []
    for number in range(10):
        scene = make_visual_scene(settings, number)
        frames = render_visual(settings, number, scene)
        truth = densities(look(settings, number, scene, frames), 64, 96)[0].astype(np.float64)
        maps = model.predict_frames(frames, 25)
        rows = [np.asarray(metrics.cc(maps.astype(np.float64), truth))]
        for rule in (
            expected_density(settings, scene, frames),
            motion_maps(luminance(frames)),
            np.broadcast_to(centre_map(64, 96), truth.shape),
        ):
            rows.append(np.asarray(metrics.cc(np.asarray(rule, np.float64), truth)))
        scores.append([row.mean() for row in rows])
    ours, knowing, motion, centre = np.mean(scores, 0)
    assert ours > motion + 0.03 and ours > centre + 0.2 and knowing > ours > 0.6 * knowing


def test_predict_without_a_model_runs_it_and_says_what_it_is(tmp_path, capsys):
    source = write_video(tmp_path / "clip.mp4", moving_spot(4))
    out = tmp_path / "out"
    assert main(["predict", str(source), "--output", str(out)]) == 0
    assert "without --model, the bundled avsal-mini runs" in capsys.readouterr().err
    assert len(listed(out / "maps")) == 4
    assert "generated scenes" in json.loads((out / "summary.json").read_text())["note"]
    assert "generated scenes" in (out / "report.html").read_text()
