"""`avsal prepare`: what it finds, bad input, a full disk, a killed run; and where videos are taken from."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io
import scipy.io.wavfile

from avsal_jax import AvsalError, InputSpec, Waveform
from avsal_jax.cli.main import main
from avsal_jax.data.prepared.prepare import prepare
from avsal_jax.data.prepared.sampling import Sampling
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.data.prepared.shards import KINDS, ShardFolder
from avsal_jax.data.prepared.videos import PreparedSet, read_preparation
from avsal_jax.data.truth import frame_truth as truth
from avsal_jax.testing import fake_data
from tests import needs

SIZE = (32, 64)
SPEC = InputSpec(frames=4, height=32, width=64, audio=Waveform(35_280))


@pytest.fixture
def root(tmp_path):
    videos = fake_data.fake_videos(("a", "b", "c"))
    fake_data.write_stavis(tmp_path / "root", "DIEM", videos, {"train": ("a", "b"), "test": ("c",)})
    return tmp_path / "root"


def clips(videos, **options):
    from avsal_jax.data.prepared.pipeline import clip_batches

    return list(clip_batches(videos, SPEC, **options).as_numpy_iterator())


def content(folder):
    """Every record of a prepared set, and the names of its files."""
    preparation = read_preparation(folder)
    size = preparation.height, preparation.width
    shards = ShardFolder(folder, len(preparation.videos), size, preparation.encoding)
    records = {
        (kind, index): str(shards.read(kind, index, range(shards.count_records(kind, index))))
        for kind in KINDS
        for index in range(shards.count)
    }
    return records, sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_the_command_and_its_report(root, tmp_path, capsys):
    arguments = ["prepare", "--dataset", "diem", "--root", str(root), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--size", "32x64"]) == 0
    out = capsys.readouterr().out
    assert "3 videos, 18 frames" in out and "3 prepared now" in out
    report = (tmp_path / "out/diem/report.md").read_text()
    assert "## black truth: 1 of 3 videos\n- diem b: 2 of 7 frames" in report
    assert "- diem c: 6 frames in the list, 5 images" in report
    assert main([*arguments, "--size", "32x64"]) == 0
    assert "0 prepared now" in capsys.readouterr().out
    assert (tmp_path / "out/diem/report.md").read_text() == report
    assert main([*arguments, "--size", "64x64"]) == 2
    assert "holds a different preparation: 32x64 jpeg, not 64x64 jpeg; choose another --output" in (
        capsys.readouterr().err
    )


def test_tensorflow_datasets_opens_what_was_prepared(root, tmp_path):
    import tensorflow_datasets as tfds

    prepare("diem", root, tmp_path / "out", SIZE, "png")
    for kind, count in (("pictures", 18), ("targets", 18), ("videos", 3)):
        builder = tfds.builder_from_directory(str(tmp_path / "out/diem" / kind / "1.0.0"))
        source = builder.as_data_source(split="data")
        assert len(source) == count
    names = [source[i]["name"].decode() for i in range(3)]
    assert names == ["a", "b", "c"] and abs(source[1]["fps"] - 29.9997) < 1e-12
    pictures = tfds.builder_from_directory(str(tmp_path / "out/diem/pictures/1.0.0")).as_data_source("data")
    assert pictures[17]["image"].shape == (32, 64, 3)


def test_any_number_of_workers_writes_the_same(root, tmp_path):
    prepare("diem", root, tmp_path / "one", SIZE, workers=1)
    prepare("diem", root, tmp_path / "three", SIZE, workers=3)
    assert content(tmp_path / "one/diem") == content(tmp_path / "three/diem")


def damage_frame(root):
    (root / "video_frames/DIEM/a/img_00003.jpg").unlink()
    (root / "video_frames/DIEM/a/img_00009.jpg").write_bytes(
        (root / "video_frames/DIEM/a/img_00001.jpg").read_bytes()
    )
    return "there is no file .*img_00003.jpg"


def empty_frame(root):
    (root / "video_frames/DIEM/a/img_00003.jpg").write_bytes(b"")
    return "img_00003.jpg is not an image that can be read"


def corrupt_jpeg(root):
    path = root / "video_frames/DIEM/a/img_00003.jpg"
    path.write_bytes(path.read_bytes()[:300])
    return "img_00003.jpg is not an image that can be read"


def corrupt_map(root):
    path = root / "annotations/DIEM/a/maps/eyeMap_00002.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return "eyeMap_00002.jpg is not an image that can be read"


def corrupt_mat(root):
    (root / "annotations/DIEM/a/fixMap_00002.mat").write_bytes(b"no MATLAB file")
    return "fixMap_00002.mat is not a MATLAB file that can be read"


@pytest.mark.parametrize("damage", [damage_frame, empty_frame, corrupt_jpeg, corrupt_map, corrupt_mat])
def test_a_bad_video_fails_alone_and_is_tried_again(root, tmp_path, capsys, damage):
    backup = shutil.copytree(root, tmp_path / "backup")
    words = damage(root)
    arguments = ["prepare", "--dataset", "diem", "--root", str(root), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--size", "32x64"]) == 1
    streams = capsys.readouterr()
    assert "2 prepared now" in streams.out
    import re

    assert re.search(f"failed: a: .*{words}", streams.err)
    assert "## failed: 1 of 3 videos" in (tmp_path / "out/diem/report.md").read_text()
    videos = PreparedSources(tmp_path / "out").videos([("diem", 1)], "train")
    assert [v.name for v in videos] == ["b"] and len(clips(videos, batch=2, steps=1)) == 1
    with pytest.raises(AvsalError, match="names diem a, which could not be prepared; .*report.md says why"):
        (tmp_path / "list.txt").write_text("diem a\n")
        PreparedSources(tmp_path / "out").videos([str(tmp_path / "list.txt")], "train")
    shutil.rmtree(root)
    shutil.move(backup, root)
    assert main([*arguments, "--size", "32x64"]) == 0
    assert [v.name for v in PreparedSources(tmp_path / "out").videos([("diem", 1)], "train")] == ["a", "b"]


def write_wav(root, rate, wave):
    scipy.io.wavfile.write(root / "video_audio/DIEM/a/a.wav", rate, wave)


def test_sound_of_any_kind(root, tmp_path):
    """Another rate, stereo, float with NaN, too short, silent, damaged, none: each as far as it goes."""
    t = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 300 * t)
    gap = np.where(t < 0.1, np.nan, tone).astype(np.float32)
    cases = {
        "stereo": (48_000, np.stack([tone, 0 * tone], 1).astype(np.float32), None),
        "nan": (44_100, gap, "## changed sound: 1 of 3 videos"),
        "short": (44_100, tone[:4_410].astype(np.float32), "it ends 0.14 s before the picture"),
        "silent": (44_100, 0 * tone.astype(np.float32), "every sample of a.wav is zero"),
        "damaged": (0, None, "## sound: 1 of 3 videos"),
        "none": (None, None, "no sound: there is no file"),
    }
    for name, (rate, wave, words) in cases.items():
        path = root / "video_audio/DIEM/a/a.wav"
        path.unlink(missing_ok=True)
        if wave is not None:
            write_wav(root, rate, wave)
        elif rate == 0:
            path.write_bytes(b"RIFF no sound at all")
        prepare("diem", root, tmp_path / name, SIZE)
        report = (tmp_path / name / "diem/report.md").read_text()
        assert words is None or words in report, (name, report)
        videos = PreparedSources(tmp_path / name).videos([("diem", 1)], "train")[:1]
        sounds = np.concatenate([b["audio"] for b in clips(videos, batch=1, steps=3)])
        assert np.isfinite(sounds).all()
        assert bool(sounds.any()) == (name not in ("silent", "damaged", "none")), name
        if name == "stereo":
            assert abs(np.abs(sounds).max() - 128) < 3  # the mean of a full tone and of nothing


def test_nan_in_fixation_maps_is_told(root, tmp_path):
    path = root / "annotations/DIEM/a/fixMap_00002.mat"
    fixated = scipy.io.loadmat(path)["eyeMap"].astype(float)
    row, column = np.argwhere(fixated == 0)[0]
    fixated[row, column] = np.nan
    scipy.io.savemat(path, {"eyeMap": fixated})
    prepare("diem", root, tmp_path / "out", SIZE)
    assert "## NaN: 1 of 3 videos\n- diem a: 1 values" in (tmp_path / "out/diem/report.md").read_text()


def test_frames_without_truth_are_never_trained_on(root, tmp_path):
    """Of the densities one is missing, of the fixation maps another; the first frame is one of them."""
    (root / "annotations/DIEM/a/maps/eyeMap_00001.jpg").unlink()
    (root / "annotations/DIEM/a/fixMap_00005.mat").unlink()
    prepare("diem", root, tmp_path / "out", SIZE)
    report = (tmp_path / "out/diem/report.md").read_text()
    assert "## truth: 1 of 3 videos\n- diem a: 2 of 6 frames have none; no clip is trained on" in report
    assert "6 density maps" not in report and "5 density maps, 5 fixation maps: 4 are used" in report
    videos = PreparedSources(tmp_path / "out").videos([("diem", 1)], "train")[:1]
    assert videos[0].black.tolist() == [k in (0, 4) for k in range(6)] and videos[0].size == (36, 52)
    for policy in ("one_per_video_per_epoch", "uniform", "all_windows"):
        for batch in clips(videos, batch=1, steps=12, sampling=Sampling(policy, skip_black=False)):
            assert bool(batch["mask"][0]) == (int(batch["label"][0]) not in (0, 4))
    batches = clips(videos, batch=1, steps=12)  # with frames 3 and 5 there is always another one
    assert {int(batch["label"][0]) for batch in batches} == {3, 5}


def test_a_video_whose_numbers_do_not_fit_fails_alone(root, tmp_path, capsys):
    folder = root / "annotations/DIEM/a/maps"
    for number in range(6, 0, -1):
        (folder / f"eyeMap_{number:05d}.jpg").rename(folder / f"eyeMap_{number + 2:05d}.jpg")
    arguments = ["prepare", "--dataset", "diem", "--root", str(root), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--size", "32x64"]) == 1
    words = "the density maps are numbered 3 to 8, the frames 1 to 6: which belongs to which is not certain"
    assert f"failed: a: {words}" in capsys.readouterr().err
    assert words in (tmp_path / "out/diem/report.md").read_text()
    assert [v.name for v in PreparedSources(tmp_path / "out").videos([("diem", 1)], "train")] == ["b"]


def test_what_is_unusual_about_fixation_maps_is_reported(root, tmp_path):
    """Counts are points; a density in the place of a fixation map fails its video."""
    for number in (1, 2):
        path = root / f"annotations/DIEM/a/fixMap_{number:05d}.mat"
        counts = scipy.io.loadmat(path)["eyeMap"].astype(float)
        row, column = np.argwhere(counts)[0]
        counts[row, column] = 3
        scipy.io.savemat(path, {"eyeMap": counts})
    smooth = np.hypot(*np.mgrid[-9:9:36j, -9:9:52j])
    scipy.io.savemat(root / "annotations/DIEM/c/fixMap_00002.mat", {"eyeMap": np.exp(-smooth)})
    prepare("diem", root, tmp_path / "out", SIZE)
    report = (tmp_path / "out/diem/report.md").read_text()
    assert "- diem a: 2 of 6 fixation maps hold counts: a pixel counts once" in report
    assert "fixMap_00002.mat is not a fixation map (binary: 0, and one other number" in report


def test_an_unexpected_fault_fails_one_video(root, tmp_path, monkeypatch):
    def fails(path, variable):
        if path.name == "fixMap_00002.mat" and path.parent.name == "b":
            raise ZeroDivisionError("of a simulated bug")
        return read(path, variable)

    read = truth.read_fixation_map
    monkeypatch.setattr(truth, "read_fixation_map", fails)
    summary = prepare("diem", root, tmp_path / "out", SIZE)
    (failed,) = summary["failed"]
    assert failed.startswith("b: unexpected error: ZeroDivisionError: of a simulated bug (")
    assert summary["prepared"] == 2


def test_a_list_that_names_an_absent_video(root, tmp_path):
    (root / "fold_lists/DIEM_list_train_fps.txt").write_text("a 6 25\nabsent 6 25\n")
    prepare("diem", root, tmp_path / "out", SIZE)
    report = (tmp_path / "out/diem/report.md").read_text()
    assert "- diem absent is listed, but left out: no images in" in report
    (tmp_path / "list.txt").write_text("diem a\ndiem absent\n")
    with pytest.raises(AvsalError, match="names diem absent, which is not in"):
        PreparedSources(tmp_path / "out").videos([str(tmp_path / "list.txt")], "train")


PREPARE = (
    "import sys, resource; from avsal_jax.data.prepared.prepare import prepare\n"
    "limit = int(sys.argv[3])\n"
    "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
    "prepare('diem', sys.argv[1], sys.argv[2], (224, 384), 'png', workers=1)"
)


def start(root, output, limit=0):
    command = [sys.executable, "-c", PREPARE, str(root), str(output), str(limit)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_leaves_nothing_that_seems_whole(root, tmp_path):
    """The operating system refuses to write more, as on a full disk."""
    process = start(root, tmp_path / "out", 150_000)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "cannot write" in errors.splitlines()[-1] and "File too large" in errors.splitlines()[-1]
    with pytest.raises(AvsalError, match="is not complete: preparing diem was interrupted; run the same"):
        PreparedSet(tmp_path / "out/diem")
    assert not list((tmp_path / "out").rglob("dataset_info.json"))
    prepare("diem", root, tmp_path / "out", (224, 384), "png")
    prepare("diem", root, tmp_path / "whole", (224, 384), "png")
    assert content(tmp_path / "out/diem") == content(tmp_path / "whole/diem")


def test_a_really_full_disk(root, tmp_path):
    with needs.small_disk(tmp_path / "small", "1m") as small:
        with pytest.raises(AvsalError, match="cannot write .*: .*No space left on device"):
            prepare("diem", root, small, (224, 384), "png")
        with pytest.raises(AvsalError):
            PreparedSet(small / "diem")


def test_a_killed_run_resumes(tmp_path):
    videos = [fake_data.fake_video(f"v{i}", 30, seed=i) for i in range(4)]
    names = tuple(v.name for v in videos)
    fake_data.write_stavis(tmp_path / "root", "DIEM", videos, {"train": names, "test": names[:1]})
    output = tmp_path / "out"
    process = start(tmp_path / "root", output)
    deadline = time.monotonic() + 60
    while not list(output.rglob("videos-data*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shards = list(output.rglob("videos-data*"))
    assert 0 < len(shards) < 4, "the run must be killed before it ends"
    with pytest.raises(AvsalError, match="is not complete"):
        PreparedSet(output / "diem")
    times = {path: path.stat().st_mtime_ns for path in shards}
    summary = prepare("diem", tmp_path / "root", output, (224, 384), "png")
    assert summary["prepared"] == 4 - len(shards)
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    prepare("diem", tmp_path / "root", tmp_path / "whole", (224, 384), "png")
    assert content(output / "diem") == content(tmp_path / "whole/diem")
    assert not [p for p in output.rglob("*") if p.name.startswith(".")]


def test_a_video_that_changed_is_prepared_again(root, tmp_path):
    prepare("diem", root, tmp_path / "out", SIZE)
    fake_data.Image.new("RGB", (52, 36)).save(root / "video_frames/DIEM/a/img_00001.jpg")
    assert prepare("diem", root, tmp_path / "out", SIZE)["prepared"] == 1


def test_preparations_from_elsewhere_are_checked(root, tmp_path):
    prepare("diem", root, tmp_path / "out", SIZE)
    path = tmp_path / "out/diem/preparation.json"
    sound = json.loads(path.read_text())
    for change, words in (
        ({"format": 99}, "of another version"),
        ({"lists": {"train": {"": [5]}}}, "is damaged: a list has the index of a video that does not exist"),
        ({"height": 10**9}, "is damaged: its height and width are"),
        ({"surprise": 1}, "is damaged"),
    ):
        path.write_text(json.dumps({**sound, **change}))
        with pytest.raises(AvsalError, match=words):
            PreparedSet(tmp_path / "out/diem")
    path.write_text("{")
    with pytest.raises(AvsalError, match="cannot be read"):
        PreparedSet(tmp_path / "out/diem")
    path.write_text(json.dumps(sound))
    shard = next((tmp_path / "out/diem/pictures").rglob("*00001-of*"))
    shard.unlink()
    with pytest.raises(AvsalError, match=f"there is no file {shard}; prepare the set again"):
        PreparedSet(tmp_path / "out/diem").video(1)
    shutil.copy(next((tmp_path / "out/diem/pictures").rglob("*00002-of*")), shard)
    with pytest.raises(AvsalError, match="has 5 records, but its video states 7; prepare the set again"):
        PreparedSet(tmp_path / "out/diem").video(1)


def test_other_mistakes(root, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for arguments, words in (
        (["--dataset", "diem"], "--root is missing: the folder where diem was unpacked"),
        (["--dataset", "nothing", "--root", str(root)], "'nothing' is not a data set"),
        (
            ["--dataset", "diem", "--root", str(root), "--set", "grade=identity"],
            "--set applies only to generated sets",
        ),
        (["--dataset", "avad", "--root", str(root)], "has no avad"),
    ):
        assert main(["prepare", *arguments, "--output", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "mine/diem").mkdir()
    (tmp_path / "mine/diem/photo.jpg").write_bytes(b"mine")
    with pytest.raises(AvsalError, match="is not empty and holds no preparation"):
        prepare("diem", root, tmp_path / "mine", SIZE)
    with pytest.raises(AvsalError, match="encoding 'gif' is not one of jpeg, png"):
        prepare("diem", root, tmp_path / "out", SIZE, "gif")
    with pytest.raises(SystemExit):
        main(["prepare", "--dataset", "diem", "--output", "x", "--size", "big"])
    assert "'big' is not HxW in pixels" in capsys.readouterr().err


def test_sources_and_validation(tmp_path):
    videos = {name: fake_data.fake_video(name, 5, seed=i) for i, name in enumerate("abcdefghij")}
    for number, (folder, names) in enumerate((("Coutrot_db1", "abcdef"), ("ETMD_av", "ghij"))):
        members = [videos[n] for n in names]
        lists = {"train_2": tuple(names[1:]), "test_2": tuple(names[:1]), "train_1": tuple(names[:2])}
        fake_data.write_stavis(tmp_path / "root", folder, members, lists)
        prepare(("coutrot1", "etmd")[number], tmp_path / "root", tmp_path / "out", SIZE)
    sources = PreparedSources(tmp_path / "out")
    union = [("coutrot1", 2), ("etmd", 2)]
    train, validation, rule = sources.split(union)
    assert "".join(v.name for v in train) == "bcdefhij" and "".join(v.name for v in validation) == "ag"
    assert rule == "coutrot1: test list, etmd: test list"
    train, validation, rule = sources.split(union, "holdout", 0.25, 3)
    assert len(validation) == 2 and len(train) == 6 and rule == "holdout(0.25, 3) of the training list"
    assert sources.split(union, "holdout", 0.25, 3)[1] == validation
    draws = {"".join(v.name for v in sources.split(union, "holdout", 0.25, s)[1]) for s in range(8)}
    assert len(draws) > 3
    (tmp_path / "domain.txt").write_text("etmd g\ncoutrot1 c\n")
    assert [v.name for v in sources.videos([str(tmp_path / "domain.txt")], "train")] == ["g", "c"]
    mixed = [("coutrot1", 1), str(tmp_path / "domain.txt")]
    assert [v.name for v in sources.videos(mixed, "train")] == ["a", "b", "g", "c"]
    for call, words in (
        (lambda: sources.split(mixed), "a list file has no published validation list"),
        (lambda: sources.split(union, "random"), "validation 'random' is not one of published, holdout"),
        (lambda: sources.split(union, "holdout", 0.01), "both parts need at least one"),
        (
            lambda: sources.videos([("diem", 1)], "train"),
            "diem is not prepared in .*coutrot1, etmd: avsal prep",
        ),
        (lambda: sources.videos([("etmd", 3)], "train"), "etmd was prepared with the folds 1, 2; got 3"),
        (lambda: sources.videos([("etmd", 2)], "val"), "has no split val; it has train, test"),
        (lambda: sources.videos(["domain:mars"], "train"), "available lists are nature"),
    ):
        with pytest.raises(AvsalError, match=words):
            call()


def test_videos_without_truth_are_for_adaptation_only(tmp_path):
    silent = fake_data.fake_videos(("0701", "0702", "0703"))
    fake_data.write_dhf1k(tmp_path / "root", silent, "withheld")
    prepare("dhf1k", tmp_path / "root", tmp_path / "out", SIZE)
    sources = PreparedSources(tmp_path / "out")
    with pytest.raises(AvsalError, match="0701 and 2 more videos have no published truth"):
        sources.videos([("dhf1k", None)], "test")
    videos = sources.videos([("dhf1k", None)], "test", labelled=False)
    batch = clips(videos, batch=3, steps=1)[0]
    assert batch["frames"].any() and not batch["density"].any() and not batch["mask"].any()


def test_the_nature_list_is_that_of_the_scene_types():
    import csv

    from avsal_jax.data.sets.video_lists import read_domain, stavis_name

    rows = read_domain("domain:nature")
    lists = pathlib.Path(fake_data.__file__).parents[1] / "data/lists/gasp"
    expected = set()
    for path in lists.glob("*_ave.csv"):
        for row in csv.DictReader(path.read_text().splitlines()):
            if row["scene_type"] == "Nature":
                expected.add((row["dataset"], stavis_name(row["video_id"])))
    assert {(row.dataset, row.video) for row in rows} == expected and len(rows) == 35
    parts = {part: read_domain(f"domain:nature_{part}") for part in ("train", "test")}
    names = {part: {(row.dataset, row.video) for row in part_rows} for part, part_rows in parts.items()}
    # as many as the paper on dual domain-adversarial learning has, in its table 1
    assert len(names["train"]) == 18 and len(names["test"]) == 10
    assert names["train"] | names["test"] < expected and not names["train"] & names["test"]
