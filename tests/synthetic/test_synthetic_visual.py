"""The grade `visual`: silent scenes with objects that move by themselves and objects that do not."""

import json

import numpy as np
import pytest
import scipy.ndimage

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.sets.raw_fixations import diem_observers
from avsal_jax.synthetic import contact_sheet, read_scene, settings_from, write_synthetic
from avsal_jax.synthetic.expected import expected_density
from avsal_jax.synthetic.visual_picture import render_visual
from avsal_jax.synthetic.visual_scene import make_camera, make_visual_scene
from tests.synthetic.test_synthetic import tree

PAIRS = {
    "preset": "avsal_mini",
    "videos": "8",
    "frames": "14",
    "height": "48",
    "width": "64",
    "observers": "12",
}
SETTINGS = settings_from(PAIRS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("visual") / "set", SETTINGS, workers=1)


def videos_of(root):
    for split in ("train", "val", "test"):
        for entry in open_dataset("synthetic", root, split):
            yield entry, read_scene(root, entry.name), np.stack([entry.frame(i) for i in range(entry.frames)])


def test_it_is_silent_and_deterministic(root, tmp_path):
    assert not (root / "video_audio").exists()
    for entry, scene, frames in videos_of(root):
        assert entry.sound is None and entry.frames == 14 and frames.shape == (14, 48, 64, 3)
        assert scene.sounding is None and scene.kind is None and scene.off_screen is None
    copy = write_synthetic(tmp_path / "again", SETTINGS, workers=2)
    assert tree(copy) == tree(root)
    contact_sheet(root, tmp_path / "sheet.png", videos=2, frames=3)
    content = json.loads((root / "annotations/synthetic/scene_00001/scene.json").read_text())
    assert content["timbre"] is None and content["moving"][0] == 0


def test_prepare_says_that_it_is_silent_and_evaluate_takes_it(root, tmp_path, capsys):
    arguments = ["prepare", "--dataset", "synthetic", "--root", str(root), "--output", str(tmp_path)]
    pairs = [word for pair in PAIRS.items() for word in ("--set", "=".join(pair))]
    assert main([*arguments, *pairs, "--workers", "1"]) == 0
    assert "no sound" in next(tmp_path.rglob("report.md")).read_text()
    options = ["--dataset", "synthetic", "--root", str(root), "--output", str(tmp_path / "scores")]
    assert main(["evaluate", *options, "--model", "motion", "--metrics", "cc"]) == 0
    assert "motion energy" in capsys.readouterr().out


def test_still_things_go_with_the_background_and_moving_ones_do_not():
    settings = settings_from({"grade": "visual", "frames": "30", "height": "96", "width": "160"})
    size, counts, speeds, cameras = np.array([96, 160]), [], [], []
    for number in range(80):
        scene, camera = make_visual_scene(settings, number), make_camera(settings, number)
        counts.append((len(scene.moving), len(scene.radii) - len(scene.moving)))
        place = camera.middles + camera.zoom[:, None] * (scene.centres - size / 2)
        for index in range(len(scene.radii)):
            travelled = np.hypot(*np.ptp(place[index], axis=0))
            if index in scene.moving:
                speeds.append(travelled)
                assert (scene.centres[index] > 0).all() and (scene.centres[index] < size).all()
            else:
                assert travelled < 1e-6
        cameras.append(np.hypot(*np.ptp(camera.middles, axis=0)) + np.ptp(camera.zoom))
    assert set(counts) == {(moving, still) for moving in (1, 2, 3) for still in (0, 1)}
    assert np.mean(np.array(speeds) > 5) > 0.95  # pixels of the canvas, in 1.2 seconds
    assert 0.2 < np.mean(np.array(cameras) == 0) < 0.5 and np.percentile(cameras, 90) > 20


def test_the_picture_shows_what_the_scene_says(tmp_path):
    """The camera stands still: between two frames, only places around moving objects change."""
    settings = settings_from({"grade": "visual", "frames": "6", "height": "96", "width": "160"})
    count = 0
    for number in range(40):
        camera, scene = make_camera(settings, number), make_visual_scene(settings, number)
        if np.ptp(camera.middles, axis=0).max() > 0 or np.ptp(camera.zoom) > 0:
            continue
        count += 1
        frames = render_visual(settings, number, scene).astype(float)
        change = scipy.ndimage.gaussian_filter(np.abs(frames[3] - frames[0]).mean(-1), 1)
        y, x = np.mgrid[:96, :160] + 0.5
        near = np.zeros((96, 160), bool)
        for item in scene.moving:
            for index in (0, 3):
                row, column = scene.centres[item, index]
                near |= np.hypot(y - row, x - column) < 1.25 * scene.radii[item] + 2
        assert change[near].mean() > 1.5 * change[~near].mean()
    assert count >= 5


def test_observers_follow_what_moves(root):
    """Moving objects get most fixations; as large a disc around a still one gets few."""
    hits = {True: [], False: []}
    for entry, scene, _ in videos_of(root):
        for observer in diem_observers(root / "event_data" / entry.name, 64, 48):
            apart = observer.points + 0.5 - scene.centres[:, observer.frames]
            within = np.hypot(apart[..., 0], apart[..., 1]) < 1.6 * scene.radii[:, None] + 1
            moving = within[list(scene.moving)].any(0)
            hits[True].append(moving.mean())
            for index in set(range(len(scene.radii))) - set(scene.moving):
                hits[False].append((within[index] & ~moving).mean())
    assert np.mean(hits[True]) > 0.65 and np.mean(hits[False]) < 0.2 and len(hits[False]) > 20


def test_the_rule_that_knows_the_generator_is_best(root):
    scores = {"expected": [], "moving": [], "uniform in time": []}
    for entry, scene, frames in videos_of(root):
        truth = np.stack([entry.truth(i).density for i in range(entry.frames)])
        expected = expected_density(SETTINGS, scene, frames)
        np.testing.assert_allclose(expected.sum((1, 2)), 1, atol=0.35)  # less what lies outside
        rules = {"expected": expected, "uniform in time": np.broadcast_to(expected.mean(0), expected.shape)}
        rules["moving"] = expected_density(settings_from({**PAIRS, **ONLY_OBJECTS}), scene, frames)
        for name, maps in rules.items():
            pairs = zip(maps, truth, strict=True)
            scores[name].append(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))
    means = {name: np.mean(values) for name, values in scores.items()}
    assert (
        means["expected"] > 0.6 and means["expected"] > max(means["moving"], means["uniform in time"]) + 0.005
    )


ONLY_OBJECTS = {"sound_weight": "1", "motion_weight": "0", "contrast_weight": "0", "centre_weight": "0"}


@pytest.mark.parametrize("change", [{"domain": "b"}, {"inconsistent": "0.5"}])
def test_settings_that_have_no_meaning_are_refused(change):
    with pytest.raises(
        AvsalError, match="visual is silent and draws its looks; leave out inconsistent and domain"
    ):
        settings_from({**PAIRS, **change})
