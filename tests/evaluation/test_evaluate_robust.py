"""`avsal evaluate` cut into shares, killed, or given bad files: the same digits, one clear line."""

import argparse
import dataclasses
import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from PIL import Image

from avsal_jax import Waveform
from avsal_jax.cli import flags
from avsal_jax.cli.main import main
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation.evaluate import evaluate
from avsal_jax.evaluation.map_sources import ModelMaps
from avsal_jax.evaluation.protocols import find_protocol
from avsal_jax.storage import write_model
from avsal_jax.testing import COMMAND, fake_data
from avsal_jax.testing.models import hearing_probe, tiny_stored
from tests.evaluation.sets import NAMES, cc_of, copied, files_of, request, run_cli


def test_two_shares_give_the_same_digits_as_one_run(root, predictions, tmp_path):
    evaluate(request(root, predictions=predictions), tmp_path / "whole")
    first = evaluate(request(root, predictions=predictions, shard=(2, 2)), tmp_path / "shares")
    assert (first["videos"], first["of"]) == (1, 3)
    assert not (tmp_path / "shares" / "summary.json").exists()
    evaluate(request(root, predictions=predictions, shard=(1, 2)), tmp_path / "shares")
    assert files_of(tmp_path / "shares") == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_killed_and_resumed_it_gives_the_same_digits(root, predictions, tmp_path):
    command = [*COMMAND, "evaluate", "--dataset", "diem", "--root", str(root)]
    command += ["--predictions", str(predictions), "--output"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True, timeout=300)
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(killed.glob("parts/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    before = {p.name: p.stat().st_mtime_ns for p in killed.glob("parts/*.json")}
    assert not (killed / "summary.json").exists()
    subprocess.run([*command, str(killed)], check=True, capture_output=True, timeout=300)
    assert files_of(killed) == files_of(tmp_path / "whole")
    assert all((killed / "parts" / name).stat().st_mtime_ns == mtime for name, mtime in before.items())


def test_a_split_without_truth_writes_the_submission(tmp_path, tiny_dir):
    videos = tuple(fake_data.fake_video(f"{n:04d}", 5, (36, 52), 30.0, seed=n) for n in (701, 702))
    root = fake_data.write_dhf1k(tmp_path / "data", videos, "withheld")
    out = tmp_path / "out"
    arguments = ["evaluate", "--dataset", "dhf1k", "--root", str(root), "--model", str(tiny_dir)]
    assert main([*arguments, "--output", str(out)]) == 0
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*.png"))
    assert names == [f"{v.name}/{i:04d}.png" for v in videos for i in range(1, 6)]
    with Image.open(out / "0701" / "0001.png") as image:
        assert (image.size, image.mode) == ((52, 36), "L")
    assert not (out / "summary.json").exists()


def test_a_bad_video_does_not_affect_the_others(root, predictions, tmp_path, capsys):
    broken = tmp_path / "maps"
    shutil.copytree(predictions, broken)
    (broken / NAMES[0] / "img_00004.png").unlink()
    code, printed = run_cli(capsys, root, broken, tmp_path / "out")
    assert code == 1
    assert f"{NAMES[0]}: 1 of 14 frames have no prediction (the first is frame 4)" in printed.err
    assert f"failed: {NAMES[0]}: frame 4 has no prediction" in printed.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["videos"] == 2 and summary["missing"] == [NAMES[0]]
    # After the repair, only the missing video is evaluated.
    shutil.copy(predictions / NAMES[0] / "img_00004.png", broken / NAMES[0])
    code, printed = run_cli(capsys, root, broken, tmp_path / "out")
    assert code == 0 and json.loads((tmp_path / "out" / "summary.json").read_text())["videos"] == 3


def test_a_wrong_count_and_an_unreadable_map_are_told(root, predictions, tmp_path, capsys):
    broken = tmp_path / "maps"
    shutil.copytree(predictions, broken)
    for number in range(20, 24):
        shutil.copy(broken / NAMES[0] / "img_00001.png", broken / NAMES[0] / f"img_{number:05d}.png")
    (broken / NAMES[1] / "img_00003.png").write_text("no picture")
    shutil.rmtree(broken / NAMES[2])
    code, printed = run_cli(capsys, root, broken, tmp_path / "out")
    assert code == 1
    assert f"{NAMES[0]}: predictions up to frame 23, but it has 14 frames" in printed.err
    assert "img_00003.png is not an image that can be read" in printed.err
    assert f"{NAMES[2]}: no predictions in" in printed.err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["videos"] == 1


def test_lists_that_disagree_with_files_are_told(root, predictions, tmp_path, capsys):
    _, printed = run_cli(capsys, root, predictions, tmp_path / "out")
    assert f"note: {NAMES[2]}: " in printed.err and "13" in printed.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": "nowhere"}, "there is no folder"),
        ({"dataset": "diem2"}, "is not a data set"),
        (
            {"protocol": "mine"},
            "unknown protocol 'mine' (did you mean 'vinet'?); there are stavis, vinet, dhf1k",
        ),
        ({"predictions": "nowhere"}, "there is no folder of predictions"),
        ({"split": "val"}, "has no split 'val'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(root, predictions, tmp_path, capsys, change, message):
    options = {"dataset": "diem", "root": root, "predictions": predictions} | change
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    assert main(["evaluate", *arguments, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_other_settings_are_not_mixed_in(root, predictions, tmp_path):
    first = evaluate(request(root, predictions=predictions, metrics=("cc",)), tmp_path)
    query = request(root, predictions=predictions, metrics=("cc", "sim"), protocol="stavis")
    second = evaluate(query, tmp_path)
    assert set(first["metrics"]) == {"cc"} and set(second["metrics"]) == {"cc", "sim"}
    assert first["metrics"]["cc"]["mean"] != second["metrics"]["cc"]["mean"]


def test_a_damaged_truth_loses_its_video_alone(root, predictions, tmp_path, capsys):
    copy = tmp_path / "data"
    shutil.copytree(root, copy)
    truth = copy / "annotations" / "DIEM" / NAMES[1] / "fixMap_00005.mat"
    truth.write_bytes(truth.read_bytes()[:50])
    scipy.io.savemat(
        copy / "annotations" / "DIEM" / NAMES[2] / "fixMap_00003.mat", {"other": np.zeros((2, 2))}
    )
    code, printed = run_cli(capsys, copy, predictions, tmp_path / "out")
    assert code == 1
    failed = [line for line in printed.err.splitlines() if line.startswith("failed: ")]
    assert any(NAMES[1] in line and "fixMap_00005.mat" in line for line in failed)
    assert any(NAMES[2] in line and "eyeMap" in line for line in failed)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["videos"] == 1


def test_stretched_maps_and_silent_sound_are_reported(root, videos, predictions, tmp_path):
    stretched = tmp_path / "maps"
    shutil.copytree(predictions, stretched)
    first = stretched / NAMES[0] / "img_00001.png"
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(first)
    messages = []
    evaluate(request(root, predictions=stretched, metrics=("cc",)), tmp_path / "out", messages.append)
    assert f"note: {NAMES[0]}: maps are 50x50, but the truth is 52x36; they are stretched" in messages

    silent = tuple(dataclasses.replace(v, sound=np.zeros_like(v.sound)) for v in videos[:1])
    mute = fake_data.write_stavis(tmp_path / "mute", "DIEM", silent, {"test": NAMES[:1]})
    messages.clear()
    evaluate(request(mute, predictions=predictions, metrics=("cc",)), tmp_path / "out2", messages.append)
    assert messages == [f"note: {NAMES[0]}: {NAMES[0]}.wav is silent from beginning to end"]
    hearing = ModelMaps(hearing_probe(Waveform(35_280)), "probe")
    assert hearing.problems(open_dataset("diem", mute)[0], find_protocol("vinet")) == []
    open_dataset("diem", mute)[0].sound.unlink()
    assert "has no sound" in hearing.problems(open_dataset("diem", mute)[0], find_protocol("vinet"))[0]


def test_results_of_other_files_are_not_reused(root, predictions, tmp_path):
    data, maps = copied(root, predictions, tmp_path)
    first = cc_of(data, tmp_path / "out", predictions=maps)
    assert cc_of(data, tmp_path / "out", predictions=maps) == first
    for path in (maps / NAMES[0]).iterdir():
        shutil.copy(maps / NAMES[0] / "img_00001.png", path) if path.name != "img_00001.png" else None
    second = cc_of(data, tmp_path / "out", predictions=maps)
    assert second != first
    truth = data / "annotations" / "DIEM" / NAMES[1] / "maps"
    shutil.copy(truth / "eyeMap_00002.jpg", truth / "eyeMap_00004.jpg")
    assert cc_of(data, tmp_path / "out", predictions=maps) != second


def test_models_with_the_same_weights_and_another_input_are_not_mixed(root, tmp_path):
    scores = []
    for size in ((64, 96), (96, 160)):
        stored = tiny_stored(height=size[0], width=size[1])
        path = write_model(tmp_path / f"m{size[0]}", stored.preset, stored.variables)
        scores.append(cc_of(root, tmp_path / "out", model=str(path)))
    assert scores[0] != scores[1]


def test_the_first_video_may_be_the_bad_one(root, predictions, tmp_path, capsys):
    """Without files, with a damaged truth, with maps of two sizes: each fails alone, first or not."""
    data, maps = copied(root, predictions, tmp_path)
    shutil.rmtree(data / "video_frames" / "DIEM" / NAMES[0])
    scipy.io.savemat(data / "annotations" / "DIEM" / NAMES[1] / "fixMap_00002.mat", {"eyeMap": np.eye(9)})
    for protocol in ("vinet", "dhf1k"):
        code, printed = run_cli(capsys, data, maps, tmp_path / protocol, "--protocol", protocol)
        assert code == 1 and "Traceback" not in printed.err
        assert f"failed: {NAMES[0]}: it cannot be scored: no images in" in printed.err
        assert "they must be the same size" in printed.err
        summary = json.loads((tmp_path / protocol / "summary.json").read_text())
        assert summary["videos"] == 1 and summary["missing"] == [NAMES[0], NAMES[1]]
    fix = data / "annotations" / "DIEM" / NAMES[2] / "fixMap_00001.mat"
    fix.write_bytes(b"damaged")
    code, printed = run_cli(capsys, data, maps, tmp_path / "none")
    assert code == 1 and not (tmp_path / "none" / "summary.json").exists()
    assert "0 of 3 videos" in printed.out
    assert main(["evaluate", "--dataset", "diem", "--root", str(root), "--model", "mean_map", "--output",
                 str(tmp_path / "mean"), "--metrics", "cc"]) == 0  # fmt: skip


def test_shares_with_a_bad_video_make_the_same_tables(root, predictions, tmp_path):
    data, maps = copied(root, predictions, tmp_path)
    shutil.rmtree(data / "video_frames" / "DIEM" / NAMES[0])
    evaluate(request(data, predictions=maps), tmp_path / "whole")
    for index in (1, 2):
        evaluate(request(data, predictions=maps, shard=(index, 2)), tmp_path / "shares")
    assert files_of(tmp_path / "shares") == files_of(tmp_path / "whole")


def test_a_submission_is_complete_per_video(tmp_path, tiny_dir, capsys):
    videos = tuple(fake_data.fake_video(f"{n:04d}", 5, (36, 52), 30.0, seed=n) for n in (701, 702))
    root = fake_data.write_dhf1k(tmp_path / "data", videos, "withheld")
    (root / "frames" / "0701" / "0003.png").write_bytes(b"no picture")
    arguments = ["evaluate", "--dataset", "dhf1k", "--root", str(root), "--model", str(tiny_dir)]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    assert "failed: 0701: " in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["0702"]
    Image.fromarray(videos[0].frames[2]).save(root / "frames" / "0701" / "0003.png")
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert "0702 exists already" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "0701").iterdir())) == 5


def test_an_output_that_cannot_be_written_is_one_line(root, predictions, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "parts").write_text("in the way")
    code, printed = run_cli(capsys, root, predictions, tmp_path / "out")
    assert code == 2 and "cannot write to" in printed.err and "Traceback" not in printed.err


def test_flags_say_what_they_take():
    assert flags.shard("2/3") == (2, 3)
    for check, wrong in (
        (flags.shard, ("0/3", "4/3", "2", "a/b")),
        (flags.seed, ("-1", "x", "²")),
        (flags.batch, ("0", "5000000")),
        (flags.label, ("", "a\nb", "x" * 101)),
    ):
        for text in wrong:
            with pytest.raises(argparse.ArgumentTypeError, match="is not"):
                check(text)
