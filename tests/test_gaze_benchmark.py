"""tools/gaze_benchmark.py on small sets: its figures again from the results, its errors, its second run."""

import csv
import functools
import json
import math
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from avsal_jax.evaluation import evaluate
from avsal_jax.evaluation.compare import bootstrap_interval
from avsal_jax.storage import write_model
from avsal_jax.testing.fake_gaze import fake_clips, fake_photographs, write_eye_mat, write_hevc_gaze
from avsal_jax.testing.models import tiny_stored
from tests import needs
from tests.tools import load_tool

PHOTOGRAPHS = {"osie": ("1001", "1004", "1008"), "eyecrowd": ("001", "008", "009")}
CLIPS = {"BasketballDrill": 5, "BasketballDrillText": 5, "Traffic": 4}  # of the folds that are scored
GROUPS = ["a", "a", "b"]


def write_tiny(path, seed):
    stored = tiny_stored(frames=2, height=32, width=64, seed=seed)
    return write_model(path, stored.preset, stored.variables)


@pytest.fixture(scope="module")
def gaze(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gaze")
    write_hevc_gaze(folder / "hevc", fake_clips())
    for name, stimuli in PHOTOGRAPHS.items():
        write_eye_mat(folder / name, fake_photographs(stimuli, observers=3))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of two seeds and folds, and an image-only network."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        for fold in (4, 5):
            write_tiny(folder / "runs" / f"seed{seed}" / f"fold{fold}" / "model", 10 * seed + fold)
    write_tiny(folder / "image", 1)
    return folder


def run(gaze, folder, *arguments) -> int:
    output = ["--results", str(folder / "results"), "--output", str(folder / "benchmark.md")]
    return load_tool("gaze_benchmark").main(["--gaze", str(gaze), *output, *arguments])


@pytest.fixture(scope="module")
def folder(gaze, models, tmp_path_factory):
    results = tmp_path_factory.mktemp("page")
    arguments = ("--models", str(models / "runs"), "--image-model", str(models / "image"), "--folds", "4,5")
    with pytest.MonkeyPatch.context() as patch:  # a network is traced once, not for every fold and set
        patch.setattr(evaluate, "load_model", functools.cache(evaluate.load_model))
        assert run(gaze, results, *arguments) == 0
    return results


def sections(folder) -> dict[str, str]:
    parts = re.split(r"^#+ (.*)\n", (folder / "benchmark.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text) -> dict[str, list[str]]:
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    return {label: row for label, *row in cells[2:]}


def numbers(cell) -> list[float]:
    return [float(text) for text in re.findall(r"[-+]?\d+\.\d+", cell)]


def values(folder, key, metric, seed=1):
    """Returns the value of each clip as `avsal evaluate` left it in videos.csv."""
    table = {}
    for fold in (4, 5):
        path = folder / "results" / "hevc_gaze" / key / f"seed{seed}" / f"fold{fold}" / "videos.csv"
        with path.open() as file:
            table |= {row["video"]: float(row[metric] or "nan") for row in csv.DictReader(file)}
    assert table.keys() == CLIPS.keys()
    return np.array([table[name] for name in CLIPS])


def test_every_row_is_the_mean_of_the_clips_with_its_interval(folder):
    table = rows(sections(folder)["Clips"])
    labels = {
        "centre prior": "centre",
        "prior of the other folds": "prior",
        "mean map of the photographs": "mean_map",
        "motion energy": "motion",
        "spectral residual": "spectral_residual",
        "image-only network": "image",
        "people (leave one out)": "people",
        "people (half)": "people_half",
    }
    assert table.keys() - labels.keys() == {"`avsal-gaze`, causal", "`avsal-gaze`, smoothed"}
    for label, key in labels.items():
        nss = values(folder, key, "nss")
        low, high = bootstrap_interval(nss, GROUPS)
        assert numbers(table[label][0]) == pytest.approx([nss.mean(), low, high], abs=0.0051)
        judd = values(folder, key, "auc_judd")
        assert table[label][4].split()[0] == f"{judd.mean():.3f}"
    assert table["people (leave one out)"][1:4] == ["-"] * 3
    assert table["prior of the other folds"][6] == "0.00 [0.00, 0.00]"
    assert float(table["people (leave one out)"][6].split()[0]) == pytest.approx(
        values(folder, "people", "information_gain").mean(), abs=0.006
    )


def test_seeds_are_averaged_before_the_interval_and_their_spread_is_shown(folder):
    seeds = [values(folder, "causal", "nss", seed) for seed in (1, 2)]
    assert not np.array_equal(*seeds)
    nss = np.mean(seeds, 0)
    low, high = bootstrap_interval(nss, GROUPS)
    spread = abs(seeds[0].mean() - seeds[1].mean()) / np.sqrt(2)
    cell = rows(sections(folder)["Clips"])["`avsal-gaze`, causal"][0]
    assert numbers(cell) == pytest.approx([nss.mean(), low, high, spread], abs=0.0051)


def test_differences_are_paired(folder):
    table = rows(sections(folder)["Paired differences"])
    nss = values(folder, "image", "nss") - values(folder, "prior", "nss")
    low, high = bootstrap_interval(nss, GROUPS)
    cell = table["image-only network minus prior of the other folds"][0]
    assert numbers(cell) == pytest.approx([nss.mean(), low, high], abs=0.0051)
    assert "`avsal-gaze`, causal minus image-only network" in table


def test_deficits_and_clips(folder):
    prior, image = values(folder, "prior", "nss"), values(folder, "image", "nss")
    below, largest = rows(sections(folder)["Clips below the fitted prior"])["image-only network"]
    assert below == f"{(image < prior).sum()} of 3"
    worst = int(np.argmax(prior - image))
    assert largest == (
        f"{(prior - image)[worst]:.2f} ({list(CLIPS)[worst]})" if (image < prior).any() else "-"
    )
    table = rows(sections(folder)["NSS of each clip"])
    assert list(table) == list(CLIPS)
    assert list(map(float, table["Traffic"][:2])) == pytest.approx([prior[2], image[2]], abs=0.0051)


def test_calibration(folder):
    lines = [line for line in sections(folder)["Calibration"].splitlines() if "| clips |" in line]
    (centre,) = [line for line in lines if line.startswith("| centre prior")]
    share, mass = (values(folder, "centre", f"{name}_20").mean() for name in ("top", "mass"))
    assert centre.split("|")[-2].strip() == f"{share:.1%} / {mass:.1%}"
    # In units of its deviations the prior covers a square of side 4, and the top cells are a circle.
    radius_squared = 0.2 * 16 / math.pi
    inside = (1 - math.exp(-radius_squared / 2)) / math.erf(math.sqrt(2)) ** 2
    assert mass == pytest.approx(inside, abs=0.003)  # of cells of a 72th of the height


def test_photographs_and_the_picture(folder):
    for title in ("Photographs of OSIE", "Photographs of EyeCrowd"):
        table = rows(sections(folder)[title])
        assert list(table) == [
            "centre prior",
            "mean map of the photographs",
            "image-only network",
            "people (leave one out)",
            "people (half)",
        ]
        assert table["mean map of the photographs"][6] == "0.00 [0.00, 0.00]"
    assert "](benchmark_worst.png)" in sections(folder)["The worst clips"]
    with Image.open(folder / "benchmark_worst.png") as image:
        assert image.width > 3 * 200 and image.height > 150


def test_the_page_names_its_command_and_no_path(folder):
    text = (folder / "benchmark.md").read_text()
    command = "python tools/gaze_benchmark.py --gaze GAZE --results RESULTS --models RUNS --image-model MODEL"
    assert f"{command} --folds 4,5\n" in text
    assert str(folder) not in text and "nan" not in text
    assert rows(sections(folder)["How these figures were made"])["jax"]


def test_a_second_run_evaluates_nothing_and_may_leave_models_out(folder, gaze, tmp_path):
    first, parts = sections(folder), sorted(folder.rglob("parts/*.json"))
    written = [os.stat(path).st_mtime_ns for path in parts]
    priors = sorted((folder / "results" / "priors").iterdir())
    arguments = ["--gaze", str(gaze), "--results", str(folder / "results"), "--folds", "4,5"]
    output = tmp_path / "docs" / "benchmark.md"
    assert load_tool("gaze_benchmark").main([*arguments, "--output", str(output)]) == 0
    assert [os.stat(path).st_mtime_ns for path in parts] == written and len(parts) > 30
    assert sorted((folder / "results" / "priors").iterdir()) == priors and len(priors) == 3
    second = sections(output.parent)
    before, after = rows(first["Clips"]), rows(second["Clips"])
    assert before.items() > after.items() and "image-only network" not in after
    assert "The worst clips" not in second and not list(output.parent.glob("*.png"))


def test_errors_say_what_to_do(gaze, models, tmp_path, capsys):
    def error(*arguments, root=gaze):
        assert run(root, tmp_path, *arguments) == 2
        return capsys.readouterr().err

    assert "--gaze names a folder that holds hevc, osie, eyecrowd" in error(root=tmp_path)
    assert "there is no clip of fold 1" in error("--folds", "1")
    words = error("--models", str(models / "runs"), "--folds", "3,5")
    assert "seed0/fold3/model" in words and "without the clips of its fold" in words
    assert "--image-model names a model directory" in error("--image-model", str(tmp_path / "no_model"))
    assert not (tmp_path / "benchmark.md").exists()


@pytest.mark.parametrize("source", [["hevc_gaze", 4], ["hevc_gaze", None]])
def test_a_model_that_was_trained_on_the_clips_of_its_fold_is_refused(gaze, models, tmp_path, capsys, source):
    shutil.copytree(models / "runs" / "seed0", tmp_path / "runs")
    config = {"data": {"sources": [["osie", None], source]}}
    (tmp_path / "runs" / "fold5" / "config.json").write_text(json.dumps(config))
    assert run(gaze, tmp_path, "--models", str(tmp_path / "runs"), "--folds", "5") == 2
    assert "so it may have seen the clips of fold 5" in capsys.readouterr().err


@pytest.mark.slow
def test_real_clips_without_models(tmp_path):
    """Two small clips of the recorded set and the test thirds of invented photographs."""
    folder = tmp_path / "gaze"
    (folder / "hevc" / "videos").mkdir(parents=True)
    real = needs.gaze_root() / "hevc"
    (folder / "hevc" / "video_database.mat").symlink_to(real / "video_database.mat")
    for name in ("BasketballPass", "RaceHorsesD"):
        (folder / "hevc" / "videos" / f"{name}.avi").symlink_to(real / "videos" / f"{name}.avi")
    for name, stimuli in PHOTOGRAPHS.items():
        write_eye_mat(folder / name, fake_photographs(stimuli, observers=3))
    assert run(folder, tmp_path) == 0
    table = {label: float(cells[0].split()[0]) for label, cells in rows(sections(tmp_path)["Clips"]).items()}
    assert table["people (leave one out)"] > table["people (half)"] > table["prior of the other folds"]
    _, people = rows(sections(tmp_path)["NSS of each clip"])["RaceHorsesD"]
    assert float(people) == pytest.approx(1.4, abs=0.06)  # as the folder's README states, to one digit
