"""The synthetic set: its files as readers see them, what it promises of a scene, and users' mistakes."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import wave

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.sets.raw_fixations import diem_observers
from avsal_jax.synthetic import (
    SyntheticSettings,
    contact_sheet,
    read_scene,
    read_settings,
    settings_from,
    write_synthetic,
)
from avsal_jax.synthetic.scene import make_scene
from avsal_jax.synthetic.sound import make_sound
from tests.tools import load_tool

SMALL = {
    "preset": "tiny",
    "videos": "6",
    "frames": "12",
    "grade": "synchrony",
    "inconsistent": "0.5",
    "fps": "24",
    "observers": "8",
}
SIDES = {"preset": "tiny", "videos": "3", "grade": "position"}  # nothing sounds in the middle


def tree(root):
    """All files of a folder, with their bytes."""
    root = pathlib.Path(root)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "set", settings_from(SMALL), workers=1)


def entries_of(root):
    return [e for split in ("train", "val", "test") for e in open_dataset("synthetic", root, split)]


def test_readers_of_real_sets_read_it(root):
    entries = entries_of(root)
    assert [len(open_dataset("synthetic", root, s)) for s in ("train", "val", "test")] == [4, 1, 1]
    assert len({entry.name for entry in entries}) == 6
    for entry in entries:
        assert (entry.frames, entry.listed_frames, entry.fps, entry.notes) == (12, 12, 24.0, ())
        with wave.open(str(entry.sound)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
            assert file.getnframes() == 22_050 // 2
        for index in range(entry.frames):
            assert entry.frame(index).shape == (32, 48, 3) and entry.truth(index).size == (32, 48)
            density, points = entry.truth(index).density, entry.truth(index).fixations.points
            assert density.shape == (32, 48) and density.max() > 0.95 and len(points) >= 1
            assert density[tuple(points.T)].min() > 0.1
        with Image.open(entry.images.path(1)) as image:
            assert image.mode == "RGB" and all(layer[1:3] == (1, 1) for layer in image.layer)  # 4:4:4
        with Image.open(entry.maps.path(1)) as image:
            assert image.mode == "L"


def test_raw_gaze_holds_the_packaged_fixations(root):
    for entry in entries_of(root):
        observers = diem_observers(root / "event_data" / entry.name, 48, 32)
        assert len(observers) == 8 and all(observer.outside == 0 for observer in observers)
        for index in range(entry.frames):
            points = {place for observer in observers if (place := observer.at(index)) is not None}
            assert points == set(map(tuple, entry.truth(index).fixations.points.tolist()))
        repeats = np.concatenate([(np.diff(observer.points, axis=0) == 0).all(1) for observer in observers])
        assert repeats.mean() > 0.3  # people fixate for several frames


def test_neither_a_second_run_nor_the_number_of_workers_changes_a_byte(root, tmp_path):
    copy = write_synthetic(tmp_path / "again", settings_from(SMALL), workers=2)
    assert tree(copy) == tree(root) and len(tree(root)) == 6 * (12 * 3 + 1 + 8 + 1) + 4
    other = write_synthetic(
        tmp_path / "other", settings_from({**SMALL, "videos": "3", "seed": "1"}), workers=1
    )
    name = "video_frames/synthetic/scene_00001/img_00001.jpg"
    assert (other / name).read_bytes() != (root / name).read_bytes()


def test_a_killed_run_resumes(root, tmp_path):
    """The second SIGKILL leaves no worker behind: they hold the pipe, which ends with the last of them."""
    script = tmp_path / "write.py"
    script.write_text(
        "import sys\n"
        "from avsal_jax.synthetic import settings_from, write_synthetic\n"
        "def numbered(jobs):\n"
        "    for number, job in enumerate(jobs):\n"
        "        print(number, flush=True)\n"
        "        yield job\n"
        "if __name__ == '__main__':\n"
        f"    settings = settings_from({SMALL!r})\n"
        "    write_synthetic(sys.argv[1], settings, numbered, workers=int(sys.argv[2]))\n"
    )
    target, count = tmp_path / "set", 0
    for workers in (1, 2):
        run = subprocess.Popen(
            [sys.executable, script, target, str(workers)], stdout=subprocess.PIPE, text=True
        )
        assert [run.stdout.readline().strip() for _ in range(2)] == ["0", "1"]
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        assert run.returncode == -signal.SIGKILL and not (target / "fold_lists").exists()
        before, count = count, len(list((target / "annotations" / "synthetic").iterdir()))
        assert before < count < 6
    finished = {path: path.stat().st_mtime_ns for path in (target / "annotations").rglob("*.mat")}
    missing = []
    write_synthetic(target, settings_from(SMALL), lambda jobs: missing.extend(jobs) or jobs, workers=1)
    assert len(missing) == 6 - count and tree(target) == tree(root)
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())


@pytest.mark.slow
@pytest.mark.parametrize("grade", ["position", "identity", "synchrony"])
def test_the_sound_decides_and_the_picture_cannot(grade, tmp_path):
    """What docs/synthetic.md has for 400 videos, on 24 shorter ones."""
    report = load_tool("synthetic_report")
    pairs = {"videos": "24", "frames": "36", "grade": grade}
    results = report.measure(write_synthetic(tmp_path, settings_from(pairs), workers=1))
    assert results["cc"]["sounding object"] > 0.8 and results["gap"] >= 0.2 and results["probe"] >= 0.95
    assert (results["synchrony"] > 0.8) == (grade == "synchrony")
    assert all(0 < value < results["cc"]["sounding object"] for value in list(results["cc"].values())[1:])


def test_a_video_stopped_between_renames_is_written_again(root, tmp_path):
    target = write_synthetic(tmp_path / "set", settings_from(SMALL), workers=1)
    truth = target / "annotations" / "synthetic" / "scene_00002"
    truth.rename(target / ".partial")
    (target / "video_frames" / "synthetic" / "scene_00002" / "stray.jpg").write_bytes(b"")
    write_synthetic(target, settings_from(SMALL), workers=1)
    assert tree(target) == tree(root)


def test_baselines_and_observers_are_scored(tmp_path, capsys):
    root = write_synthetic(tmp_path / "set", settings_from(SIDES), workers=1)
    common = ["evaluate", "--dataset", "synthetic", "--root", str(root), "--metrics", "cc"]
    scores = {}
    for model, options in (("centre", []), ("human", ["--observers", str(root / "event_data")])):
        assert main([*common, "--model", model, *options, "--output", str(tmp_path / model)]) == 0
        scores[model] = json.loads((tmp_path / model / "summary.json").read_text())["metrics"]["cc"]["mean"]
    assert "centre prior" in capsys.readouterr().out
    assert scores["human"] > scores["centre"] + 0.3


@pytest.mark.parametrize("grade", ["position", "identity", "synchrony"])
@pytest.mark.parametrize("domain", ["a", "b"])
def test_the_sound_identifies_its_object_as_the_grade_says(grade, domain):
    settings = settings_from({"grade": grade, "domain": domain, "inconsistent": "0.25", "frames": "60"})
    objects = []
    for number in range(80):
        scene = make_scene(settings, number)
        reach = 1.2 * scene.radii[:, None, None]
        assert (scene.centres - reach > 0).all() and (scene.centres + reach < (64, 96)).all()
        assert len(set(scene.appearances)) == settings.objects == len(scene.radii)
        gaps = [scene.centres[i] - scene.centres[j] for i in range(settings.objects) for j in range(i)]
        assert all(np.hypot(*gap.T).min() > 2 * scene.radii.min() for gap in gaps)
        if scene.sounding is None:
            assert scene.kind is None and scene.off_screen in ("narration", "music")
            continue
        objects.append(scene.sounding)
        assert scene.off_screen is None
        with_it = [np.array_equal(scene.sound_pulses, pulses) for pulses in scene.pulses]
        assert with_it == [grade == "synchrony" and i == scene.sounding for i in range(settings.objects)]
        if grade == "position":
            right = scene.centres[..., 1] > 48
            assert (right == right[:, :1]).all() and right[0, 0] != right[1, 0]
            assert scene.kind == int(right[scene.sounding, 0])
        if grade == "identity":
            assert scene.kind == scene.appearances[scene.sounding]
    assert len(objects) == 60  # a quarter of 80 is inconsistent
    assert np.bincount(objects).min() > 60 / settings.objects / 2


def test_the_grade_changes_the_sound_and_not_the_picture():
    pair = [make_scene(settings_from({"grade": grade}), 3) for grade in ("identity", "synchrony")]
    assert pair[0].sounding == pair[1].sounding and np.array_equal(pair[0].centres, pair[1].centres)
    assert not np.array_equal(pair[0].sound_pulses, pair[1].sound_pulses)


def test_loudness_and_pitch_rise_at_the_pulses():
    settings = settings_from({"grade": "position", "frames": "100"})
    number = next(k for k in range(50) if make_scene(settings, k).kind == 1)  # chirps
    scene = make_scene(settings, number)
    sound = make_sound(settings, number, scene).astype(np.float64)
    assert len(sound) == 4 * 22_050

    def measure(time):
        piece = sound[int((time - 0.01) * 22_050) :][:441] * np.hanning(441)
        return np.abs(piece).max(), np.abs(np.fft.rfft(piece)).argmax()

    inside = scene.sound_pulses[(scene.sound_pulses > 0.2) & (scene.sound_pulses < 3.7)]
    at, between = (np.array([measure(t) for t in times]) for times in (inside, inside + 0.14))
    assert len(inside) >= 4 and (at[:, 0] > 5 * between[:, 0]).all()
    np.testing.assert_allclose(np.median(at[:, 1]) / np.median(between[:, 1]), 2**0.8, rtol=0.1)


def test_observers_follow_the_sounding_object_and_nothing_where_the_sound_is_off_screen(root):
    near = {True: [], False: []}
    for entry in entries_of(root):
        scene = read_scene(root, entry.name)
        exact = make_scene(settings_from(SMALL), int(entry.name[-5:]) - 1)
        np.testing.assert_allclose(scene.centres, exact.centres, atol=1e-3)
        for observer in diem_observers(root / "event_data" / entry.name, 48, 32):
            apart = observer.points + 0.5 - scene.centres[:, observer.frames]
            within = np.hypot(apart[..., 0], apart[..., 1]) < 1.6 * scene.radii[:, None]
            silent = scene.sounding is None
            near[silent] += within.mean(0).tolist() if silent else within[scene.sounding].tolist()
    assert np.mean(near[False]) > 0.6 and np.mean(near[True]) < 0.3


def test_a_contact_sheet(root, tmp_path):
    path = contact_sheet(root, tmp_path / "new" / "sheet.png", videos=3, frames=5)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    height = 16 + 2 * (107 + 4) + 4
    assert pixels.shape == (3 * height, 5 * 164, 3) and [p.name for p in path.parent.iterdir()] == [path.name]
    plain, heated = pixels[16:123, :160].astype(int), pixels[127:234, :160].astype(int)
    assert (heated - plain)[..., 0].mean() > 1 > (heated - plain)[..., 2].mean()  # redder


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"preset": "huge"}, "preset 'huge' is not one of tiny, experiment"),
        ({"colour": "red"}, "no setting 'colour'; it has preset, videos, frames, height"),
        ({"grade": "loudness"}, "grade 'loudness' is not one of position, identity, synchrony"),
        ({"domain": "c"}, "domain 'c' is not one of a, b"),
        ({"videos": "2"}, "videos must be a whole number from 3 to 100000; got 2"),
        ({"frames": "many"}, "frames must be a whole number from 2 to 10000; got 'many'"),
        ({"fps": "nan"}, "fps must be a number from 5 to 120; got 'nan'"),
        ({"fps": "fast"}, "fps must be a number from 5 to 120; got 'fast'"),
        ({"inconsistent": "1.5"}, "inconsistent must be a number from 0 to 1; got 1.5"),
        ({"grade": "position", "objects": "3"}, "position has 2 objects, .*; leave out objects=3"),
        ({"sound_weight": "0.8"}, "centre_weight must be 1; got 1.1"),
        (
            {"sound_weight": "1", "motion_weight": "0", "contrast_weight": "0", "centre_weight": "0",
             "inconsistent": "0.1"},
            "sound_weight must be below 1",
        ),
        ({"frames": "5000", "height": "480", "width": "640"}, "too many for one video.*at most 30000000"),
    ],
)  # fmt: skip
def test_wrong_settings(pairs, message):
    with pytest.raises(AvsalError, match=message):
        settings_from(pairs)


def test_presets():
    experiment = settings_from({})
    assert experiment == settings_from({"preset": "experiment"}) == SyntheticSettings()
    assert experiment.videos >= 300 and experiment.frames >= 32
    assert (experiment.height, experiment.width, experiment.objects) == (64, 96, 3)
    assert settings_from({"grade": "position"}).objects == 2
    assert settings_from({"fps": "25"}) == settings_from({"fps": "25.0"})


def test_a_root_of_something_else(root, tmp_path):
    other = dataclasses.replace(settings_from(SMALL), seed=5)
    with pytest.raises(
        AvsalError, match=r"other settings \(seed=0 there, seed=5 here\); choose another folder"
    ):
        write_synthetic(root, other)
    (tmp_path / "video_frames" / "synthetic").mkdir(parents=True)
    with pytest.raises(AvsalError, match="exists, but .* has no synthetic.json; choose another folder"):
        write_synthetic(tmp_path, other)
    (tmp_path / "file").write_text("")
    with pytest.raises(AvsalError, match="cannot write the synthetic set to .*file: "):
        write_synthetic(tmp_path / "file", other)
    with pytest.raises(AvsalError, match="holds no synthetic set: it has no synthetic.json"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")
    with pytest.raises(AvsalError, match="cannot write .*sheet.png"):
        contact_sheet(root, tmp_path / "file" / "sheet.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "synthetic.json is damaged"),
        ("[]", "is damaged: it holds no object"),
        ('{"format": "avsal_jax synthetic 0"}', "has format 'avsal_jax synthetic 0', not"),
        ('{"format": "avsal_jax synthetic 1", "settings": {"seed": "x"}}', r"is damaged \(seed must be"),
        ('{"format": "avsal_jax synthetic 1", "settings": {"speed": 1}}', r"is damaged \(.*speed"),
    ],
)
def test_damaged_settings(content, message, tmp_path):
    (tmp_path / "synthetic.json").write_text(content)
    with pytest.raises(AvsalError, match=message):
        read_settings(tmp_path)


def test_damaged_scenes(root, tmp_path):
    good = json.loads((root / "annotations/synthetic/scene_00001/scene.json").read_text())
    path = tmp_path / "annotations" / "synthetic" / "scene_00001" / "scene.json"
    with pytest.raises(AvsalError, match="cannot read .*scene.json"):
        read_scene(tmp_path, "scene_00001")
    path.parent.mkdir(parents=True)
    for change in ({"sounding": 9}, {"centres": [[1, 2]]}, {"radii": "wide"}, {"appearances": None}):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(AvsalError, match="scene.json is damaged; remove the folder of the video"):
            read_scene(tmp_path, "scene_00001")
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(AvsalError, match="too large for a file of a synthetic set"):
        read_scene(tmp_path, "scene_00001")
