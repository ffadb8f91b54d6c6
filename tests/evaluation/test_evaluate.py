"""`avsal evaluate` on small data sets: values by plain formulas, resuming, shares, folds, errors."""

import argparse
import csv
import dataclasses
import importlib.resources
import json
import math
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from PIL import Image

from avsal_jax import AudioSpec, AvsalError
from avsal_jax.cli import flags
from avsal_jax.cli.main import main
from avsal_jax.data.datasets import open_dataset
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.protocols import METRICS, PROTOCOLS
from avsal_jax.evaluation.sources import ModelMaps, read_map
from avsal_jax.storage import write_model
from avsal_jax.testing import fake_data
from avsal_jax.testing.models import hearing_probe, tiny_stored

NAMES = ("first_52x36", "second_64x40", "third_40x48")


@pytest.fixture(scope="module")
def videos():
    """Long enough for the STAViS protocol, which leaves out the first eight frames."""
    return (
        fake_data.fake_video(NAMES[0], 14, (36, 52), seed=1),
        fake_data.fake_video(NAMES[1], 13, (40, 64), 29.9997, black=(2, 10), seed=2),
        fake_data.fake_video(NAMES[2], 12, (48, 40), listed=13, seed=3),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory, videos):
    lists = {"test": NAMES, "train": NAMES[:2]}
    return fake_data.write_stavis(tmp_path_factory.mktemp("data"), "DIEM", videos, lists)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory, videos):
    """Saved maps of a method: random, at the size of the truth, so that nothing is resized."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    for video in videos:
        (folder / video.name).mkdir()
        for index in range(len(video.frames)):
            smooth = scipy.ndimage.gaussian_filter(rng.random(video.densities.shape[1:]), 3)
            grey = np.uint8(255 * (smooth - smooth.min()) / (smooth.max() - smooth.min()))
            Image.fromarray(grey).save(folder / video.name / f"img_{index + 1:05d}.png")
    return folder


def request(root, **settings):
    return Request("diem", root, **settings)


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


# What the metrics are, written once more as plain formulas.


def plain_cc(p, g):
    return np.corrcoef(p.ravel(), g.ravel())[0, 1] if g.std() > 0 else math.nan


def plain_sim(p, g):
    def normal(m):
        if not m.any():
            return m
        m = (m - m.min()) / (m.max() - m.min())
        return m / m.sum()

    return np.minimum(normal(p), normal(g)).sum()


def plain_kl(p, g):
    eps = 2.0**-52
    p = p / p.sum()
    g = g / g.sum() if g.any() else g
    return (g * np.log(eps + g / (p + eps))).sum()


def plain_nss(p, points):
    z = (p - p.mean()) / p.std(ddof=1)
    return np.mean([z[y, x] for y, x in points]) if len(points) else math.nan


def prepared(grey, protocol):
    p = grey / 255
    if protocol != "stavis":
        return p
    p = p / p.max()
    p = (p - p.min()) / (p.max() - p.min())
    taps = np.exp(-(np.arange(-6, 7) ** 2) / 8)
    taps = np.outer(taps, taps) / taps.sum() ** 2
    padded = np.pad(p, 6, mode="symmetric")
    return sum(
        taps[i, j] * padded[i : i + p.shape[0], j : j + p.shape[1]] for i in range(13) for j in range(13)
    )


def expected_rows(root, video, predictions, protocol):
    for index in range(8 if protocol == "stavis" else 0, len(video.frames)):
        name = f"img_{index + 1:05d}.png"
        p = prepared(np.asarray(Image.open(predictions / video.name / name)).astype(float), protocol)
        truth = root / "annotations" / "DIEM" / video.name / "maps" / f"eyeMap_{index + 1:05d}.jpg"
        g = np.asarray(Image.open(truth)).astype(float) / 255
        points = video.fixations[index]
        yield index + 1, (plain_cc(p, g), plain_sim(p, g), plain_nss(p, points), plain_kl(p, g))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_by_plain_formulas(root, videos, predictions, tmp_path, protocol):
    summary = evaluate(request(root, predictions=predictions, protocol=protocol), tmp_path)
    frames = table(tmp_path / "frames.csv")
    expected, means = {}, []
    for video in videos:
        rows = dict(expected_rows(root, video, predictions, protocol))
        expected |= {(video.name, frame): values for frame, values in rows.items()}
        means.append(np.nanmean(np.array(list(rows.values())), 0))
    assert [(row["video"], int(row["frame"])) for row in frames] == list(expected)
    for row, values in zip(frames, expected.values(), strict=True):
        got = [float(row[name] or "nan") for name in ("cc", "sim", "nss", "kl")]
        np.testing.assert_allclose(got, values, rtol=1e-9, atol=1e-12, err_msg=str(row))
    frame_mean = np.nanmean(np.array(list(expected.values())), 0)
    wanted = frame_mean if protocol == "dhf1k" else np.mean(means, 0)
    got = [summary["metrics"][name]["mean"] for name in ("cc", "sim", "nss", "kl")]
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    black = 1 if protocol == "stavis" else 2  # frames without fixations
    assert [summary["metrics"][m]["dropped"] for m in METRICS] == [black, 0, black, 0, black, black]
    assert summary["frames"] == len(expected) and summary["videos"] == 3


def test_negatives_are_those_of_the_protocol(root, videos, tmp_path):
    """A map that is high where anybody looked in the video, and low elsewhere."""
    folder = tmp_path / "maps"
    for video in videos:
        (folder / video.name).mkdir(parents=True)
        union = np.zeros(video.densities.shape[1:], np.uint8)
        for points in video.fixations:
            union[tuple(points.T)] = 255
        for index in range(len(video.frames)):
            Image.fromarray(union).save(folder / video.name / f"{index + 1:04d}.png")

    def shuffled(protocol):
        asked = request(root, predictions=folder, protocol=protocol, metrics=("auc_shuffled",))
        return evaluate(asked, tmp_path / protocol)["metrics"]["auc_shuffled"]["mean"]

    assert shuffled("vinet") == pytest.approx(0.5)  # negatives are high as well
    assert shuffled("dhf1k") > 0.7  # most negatives come from other videos


def test_saved_maps_and_the_model_that_made_them_agree(root, tmp_path):
    stored = tiny_stored()
    model = write_model(tmp_path / "model", stored.preset, stored.variables)
    direct = evaluate(request(root, model=str(model), protocol="vinet"), tmp_path / "direct")
    saved = tmp_path / "saved"
    for name in NAMES:
        frames = root / "video_frames" / "DIEM" / name
        arguments = ["predict", str(frames), "--model", str(model), "--output", str(saved / name)]
        assert main([*arguments, "--save", "maps", "--postprocess", "vinet"]) == 0
    again = evaluate(request(root, predictions=saved, protocol="vinet"), tmp_path / "again")
    for name in METRICS:
        assert again["metrics"][name]["mean"] == direct["metrics"][name]["mean"], name


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in ("summary.json", "frames.csv", "videos.csv")}


def test_two_shares_give_the_same_digits_as_one_run(root, predictions, tmp_path):
    evaluate(request(root, predictions=predictions), tmp_path / "whole")
    first = evaluate(request(root, predictions=predictions, shard=(2, 2)), tmp_path / "shares")
    assert (first["videos"], first["of"]) == (1, 3)
    assert not (tmp_path / "shares" / "summary.json").exists()
    evaluate(request(root, predictions=predictions, shard=(1, 2)), tmp_path / "shares")
    assert files_of(tmp_path / "shares") == files_of(tmp_path / "whole")


def test_killed_and_resumed_it_gives_the_same_digits(root, predictions, tmp_path):
    command = [
        sys.executable,
        "-m",
        "avsal_jax.cli.main",
        "evaluate",
        "--dataset",
        "diem",
        "--root",
        str(root),
    ]
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
    assert all((killed / "parts" / name).stat().st_mtime_ns == when for name, when in before.items())


def test_the_table_stands_beside_published_numbers(root, predictions, tmp_path):
    summary = evaluate(request(root, predictions=predictions, label="noise"), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert f"| **noise** | {summary['metrics']['cc']['mean']:.4f} |" in text
    assert "STAViS" in text and "AViNet" in text and "casp_net, Table" in text
    page = (tmp_path / "report.html").read_text()
    assert "Best frames by cc" in page and "Worst frames by cc" in page and page.count("<img") >= 18
    assert sorted(p.name for p in (tmp_path / "examples").iterdir()) == sorted(NAMES)


def test_folds_are_pooled_and_diem_counts_its_models_evenly(root, tmp_path):
    models = []
    for fold in (1, 2, 3):
        stored = tiny_stored(seed=fold)
        models.append(write_model(tmp_path / f"m{fold}", stored.preset, stored.variables))
    joined = ",".join(f"{fold}={path}" for fold, path in enumerate(models, 1))
    metrics = ("cc", "sim")
    pooled = evaluate(request(root, model=joined, metrics=metrics), tmp_path / "pooled")
    alone = [
        evaluate(request(root, model=str(path), metrics=metrics), tmp_path / f"alone{i}")
        for i, path in enumerate(models)
    ]
    assert pooled["videos"] == 9
    for name in metrics:
        mean = np.mean([one["metrics"][name]["mean"] for one in alone])
        assert pooled["metrics"][name]["mean"] == pytest.approx(mean, rel=1e-12)
    with pytest.raises(AvsalError, match="is not of the form 1=DIR,2=DIR,3=DIR"):
        evaluate(request(root, model="1=a,2b"), tmp_path / "x")


def test_baselines(root, tmp_path):
    centre = evaluate(request(root, model="centre"), tmp_path / "centre")["metrics"]
    mean = evaluate(request(root, model="mean_map"), tmp_path / "mean")["metrics"]
    for result in (centre, mean):
        assert 0.5 < result["auc_judd"]["mean"] < 1 and result["cc"]["mean"] > 0
    with pytest.raises(AvsalError, match="needs --observers"):
        evaluate(request(root, model="human"), tmp_path / "human")


def test_the_human_ceiling_from_raw_observers(root, videos, tmp_path):
    """Observers who agree predict each other; ones who look elsewhere do not."""

    def write(folder, wander):
        rng = np.random.default_rng(5)
        for video in videos:
            height, width = video.densities.shape[1:]
            observers = []
            for _ in range(6):
                rows = []
                for frame in range(1, len(video.frames) + 1):
                    x, y = width / 3, height / 3
                    if wander:
                        x, y = rng.uniform(2, width - 2), rng.uniform(2, height - 2)
                    rows.append((frame, (x, y, 1), (x, y, 1)))
                observers.append(rows)
            fake_data.write_diem_events(folder / video.name / "event_data", observers, width, height)
        return folder

    def ceiling(name, wander):
        observers = write(tmp_path / name, wander)
        asked = request(root, model="human", observers=observers, metrics=("cc", "nss"))
        return evaluate(asked, tmp_path / f"out_{name}")["metrics"]

    agreeing, wandering = ceiling("agree", False), ceiling("wander", True)
    assert agreeing["cc"]["mean"] > 0.99 and agreeing["nss"]["mean"] > 1
    assert wandering["nss"]["mean"] < 0.8 * agreeing["nss"]["mean"]


def test_a_split_without_truth_writes_the_submission(tmp_path, tiny_dir):
    videos = tuple(fake_data.fake_video(f"{n:04d}", 5, (36, 52), 30.0, seed=n) for n in (701, 702))
    root = fake_data.write_dhf1k(tmp_path / "data", videos, "withheld")
    out = tmp_path / "out"
    arguments = ["evaluate", "--dataset", "dhf1k", "--root", str(root), "--model", str(tiny_dir)]
    assert main([*arguments, "--output", str(out)]) == 0
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*.png"))
    assert names == [f"{v.name}/{i:04d}.png" for v in videos for i in range(1, 6)]
    assert read_map(out / "0701" / "0001.png").shape == (36, 52)
    assert not (out / "summary.json").exists()


def run_cli(capsys, root, predictions, out, *more):
    arguments = ["evaluate", "--dataset", "diem", "--root", str(root), "--predictions", str(predictions)]
    code = main([*arguments, "--output", str(out), *more])
    return code, capsys.readouterr()


def test_a_bad_video_loses_no_other(root, predictions, tmp_path, capsys):
    broken = tmp_path / "maps"
    shutil.copytree(predictions, broken)
    (broken / NAMES[0] / "img_00004.png").unlink()
    code, printed = run_cli(capsys, root, broken, tmp_path / "out")
    assert code == 1
    assert f"{NAMES[0]}: 1 of 14 frames have no prediction (the first is frame 4)" in printed.err
    assert f"failed: {NAMES[0]}: frame 4 has no prediction" in printed.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["videos"] == 2 and summary["missing"] == [NAMES[0]]
    # Mended, only what was missing is done.
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
    assert "img_00003.png is no map that can be read" in printed.err
    assert f"{NAMES[2]}: no predictions in" in printed.err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["videos"] == 1


def test_lists_that_disagree_with_files_are_told(root, predictions, tmp_path, capsys):
    _, printed = run_cli(capsys, root, predictions, tmp_path / "out")
    assert f"note: {NAMES[2]}: " in printed.err and "13" in printed.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": "nowhere"}, "there is no folder"),
        ({"dataset": "diem2"}, "is no data set"),
        ({"protocol": "mine"}, "unknown protocol 'mine'; there are stavis, vinet, dhf1k"),
        ({"predictions": "nowhere"}, "there is no folder of predictions"),
        ({"split": "val"}, "has no split 'val'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(root, predictions, tmp_path, capsys, change, message):
    given = {"dataset": "diem", "root": root, "predictions": predictions} | change
    arguments = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    assert main(["evaluate", *arguments, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_other_settings_are_not_mixed_in(root, predictions, tmp_path):
    first = evaluate(request(root, predictions=predictions, metrics=("cc",)), tmp_path)
    asked = request(root, predictions=predictions, metrics=("cc", "sim"), protocol="stavis")
    second = evaluate(asked, tmp_path)
    assert set(first["metrics"]) == {"cc"} and set(second["metrics"]) == {"cc", "sim"}
    assert first["metrics"]["cc"]["mean"] != second["metrics"]["cc"]["mean"]


def test_draws_depend_on_the_seed(root, predictions, tmp_path):
    def score(seed):
        asked = request(root, predictions=predictions, seed=seed, metrics=("auc_shuffled",))
        return evaluate(asked, tmp_path / str(seed))["metrics"]["auc_shuffled"]["mean"]

    assert score(1) != score(2)
    assert abs(score(1) - score(2)) < 0.02


def test_a_perfect_map_is_perfect(root, videos, tmp_path):
    """High at the frame's own fixations alone: both areas are 1, wherever the negatives fall."""
    folder = tmp_path / "maps"
    for video in videos:
        (folder / video.name).mkdir(parents=True)
        for index, grey in enumerate(fake_data.fixation_maps(video)):
            Image.fromarray(grey).save(folder / video.name / f"pred_sal_{index + 1:06d}.png")
    asked = request(root, predictions=folder, protocol="vinet", metrics=("auc_judd", "auc_shuffled"))
    result = evaluate(asked, tmp_path / "out")["metrics"]
    assert result["auc_judd"]["mean"] == pytest.approx(1, abs=1e-9)
    assert result["auc_shuffled"]["mean"] == pytest.approx(1, abs=1e-9)


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


def test_stretched_maps_and_silent_sound_are_told(root, videos, predictions, tmp_path):
    stretched = tmp_path / "maps"
    shutil.copytree(predictions, stretched)
    first = stretched / NAMES[0] / "img_00001.png"
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(first)
    said = []
    evaluate(request(root, predictions=stretched, metrics=("cc",)), tmp_path / "out", said.append)
    assert f"note: {NAMES[0]}: maps are 50x50, but the truth is 52x36; they are stretched" in said

    silent = tuple(dataclasses.replace(v, sound=np.zeros_like(v.sound)) for v in videos[:1])
    mute = fake_data.write_stavis(tmp_path / "mute", "DIEM", silent, {"test": NAMES[:1]})
    said.clear()
    evaluate(request(mute, predictions=predictions, metrics=("cc",)), tmp_path / "out2", said.append)
    assert said == [f"note: {NAMES[0]}: {NAMES[0]}.wav is silent from beginning to end"]
    hearing = ModelMaps(hearing_probe(AudioSpec("waveform", 35_280)), "probe")
    assert hearing.problems(open_dataset("diem", mute)[0], PROTOCOLS["vinet"]) == []
    open_dataset("diem", mute)[0].sound.unlink()
    assert "has no sound" in hearing.problems(open_dataset("diem", mute)[0], PROTOCOLS["vinet"])[0]


def test_categories_of_ave(tmp_path):
    """The shipped lists say which of the test videos of AVE show nature, people or something else."""
    with (importlib.resources.files("avsal_jax.data") / "lists/gasp/test_ave.csv").open() as file:
        rows = list(csv.DictReader(file))
    for dataset, folder in (("diem", "DIEM"), ("coutrot1", "Coutrot_db1"), ("coutrot2", "Coutrot_db2")):
        names = [row["video_id"].replace("clip_", "clip") for row in rows if row["dataset"] == dataset]
        videos = [fake_data.fake_video(name, 2, seed=i) for i, name in enumerate(names)]
        fake_data.write_stavis(tmp_path / "data", folder, videos)
    asked = Request("ave", tmp_path / "data", model="centre", metrics=("cc",))
    summary = evaluate(asked, tmp_path / "out")
    counts = {kind: value["cc"]["videos"] for kind, value in summary["categories"].items()}
    kinds = [row["scene_type"] for row in rows]
    assert counts == {kind: kinds.count(kind) for kind in ("Nature", "Other", "Social")}
    assert sum(counts.values()) == summary["videos"] == 29
    assert "Nature: cc" in (tmp_path / "out" / "table.md").read_text()


def test_two_methods_are_compared(root, predictions, tmp_path):
    """From evaluations as they are written to intervals, pictures and the strip with the sound."""
    evaluate(request(root, predictions=predictions, label="noise"), tmp_path / "noise")
    evaluate(request(root, model="centre"), tmp_path / "centre")
    out = tmp_path / "comparison"
    arguments = [str(tmp_path / "noise"), str(tmp_path / "centre"), "published:STAViS(AV)"]
    assert main(["compare", *arguments, "--output", str(out)]) == 0
    table = json.loads((out / "comparison.json").read_text())
    cc = {name: json.loads((tmp_path / name / "summary.json").read_text()) for name in ("noise", "centre")}
    text = (out / "comparison.md").read_text()
    for name in cc:
        assert f"{cc[name]['metrics']['cc']['mean']:.4f}" in text
    page = (out / "report.html").read_text()
    assert table and page.count("<img") >= 4 and f"Sound: {NAMES[0]}" in page


@pytest.mark.parametrize("protocol", ["vinet", "dhf1k"])
def test_no_metric_changes_another_ones_draws(root, predictions, tmp_path, protocol):
    everything = evaluate(request(root, predictions=predictions, protocol=protocol), tmp_path / "all")
    for name in ("auc_judd", "auc_shuffled"):
        asked = request(root, predictions=predictions, protocol=protocol, metrics=(name,))
        alone = evaluate(asked, tmp_path / name)
        assert alone["metrics"][name] == everything["metrics"][name]


def test_best_and_worst_know_that_kl_is_a_distance(root, predictions, tmp_path):
    evaluate(request(root, predictions=predictions, metrics=("kl",)), tmp_path)
    part = json.loads((tmp_path / "parts" / f"{NAMES[0]}.json").read_text())
    values = dict(part["rows"])
    assert values[part["extremes"]["best"]] == min(values.values())
    assert values[part["extremes"]["worst"]] == max(values.values())


def copied(root, predictions, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    shutil.copytree(predictions, tmp_path / "maps")
    return tmp_path / "data", tmp_path / "maps"


def cc_of(root, out, **settings):
    return evaluate(request(root, metrics=("cc",), **settings), out)["metrics"]["cc"]["mean"]


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
    made = []
    for size in ((64, 96), (96, 160)):
        stored = tiny_stored(height=size[0], width=size[1])
        path = write_model(tmp_path / f"m{size[0]}", stored.preset, stored.variables)
        made.append(cc_of(root, tmp_path / "out", model=str(path)))
    assert made[0] != made[1]


def test_the_first_video_may_be_the_bad_one(root, predictions, tmp_path, capsys):
    """Without files, with a damaged truth, with maps of two sizes: each fails alone, first or not."""
    data, maps = copied(root, predictions, tmp_path)
    shutil.rmtree(data / "video_frames" / "DIEM" / NAMES[0])
    scipy.io.savemat(
        data / "annotations" / "DIEM" / NAMES[1] / "fixMap_00002.mat", {"eyeMap": np.ones((9, 9))}
    )
    for protocol in ("vinet", "dhf1k"):
        code, printed = run_cli(capsys, data, maps, tmp_path / protocol, "--protocol", protocol)
        assert code == 1 and "Traceback" not in printed.err
        assert f"failed: {NAMES[0]}: it has no frames" in printed.err
        assert "they must be one" in printed.err
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
    assert "0702 is there already" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "0701").iterdir())) == 5


def test_an_output_that_cannot_be_written_is_one_line(root, predictions, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "parts").write_text("in the way")
    code, printed = run_cli(capsys, root, predictions, tmp_path / "out")
    assert code == 2 and "cannot write to" in printed.err and "Traceback" not in printed.err


def test_shots_of_hollywood_may_be_named_as_their_frames(tmp_path):
    video = fake_data.fake_video("actioncliptest00001_2", 5, (36, 52), 24.0, seed=4)
    form = "actioncliptest00001_{:05d}.png"
    root = fake_data.write_rearranged(tmp_path / "data", "testing", (video,), form, first=37)
    for style, first in (("frames", 37), ("numbers", 1)):
        folder = tmp_path / style / video.name
        folder.mkdir(parents=True)
        for index, density in enumerate(video.densities):
            Image.fromarray(density).save(folder / f"x_{index + first:05d}.png")
        asked = Request("hollywood2", root, predictions=tmp_path / style, metrics=("cc",))
        assert evaluate(asked, tmp_path / f"out_{style}")["metrics"]["cc"]["mean"] == pytest.approx(
            1, abs=1e-3
        )


def test_flags_know_the_metrics():
    assert flags.METRICS == METRICS
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
