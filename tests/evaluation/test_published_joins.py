"""What `evaluate` writes is in one table with what papers print: sets, splits, categories, folds."""

import csv
import importlib.resources
import json

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, metrics
from avsal_jax.cli.main import main
from avsal_jax.evaluation.compare import compare
from avsal_jax.evaluation.compare_tables import csv_text, grids, markdown
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.results import read_results
from avsal_jax.pictures import resize_map
from avsal_jax.testing import fake_data
from tests.evaluation.folders import write_result
from tests.evaluation.sets import NAMES, request

AVE_SETS = {"diem": "DIEM", "coutrot1": "Coutrot_db1", "coutrot2": "Coutrot_db2"}


def compared(*texts):
    return compare([result for text in texts for result in read_results(str(text))])


def table_of(comparison, dataset):
    (grid,) = [grid for name, grid in grids(comparison) if name == dataset]
    return [dict(zip(grid.columns, row, strict=True)) for row in grid.rows]


@pytest.fixture(scope="module")
def ave_rows():
    with (importlib.resources.files("avsal_jax.data") / "lists/gasp/test_ave.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [(row["dataset"], row["video_id"].replace("clip_", "clip"), row["scene_type"]) for row in rows]


@pytest.fixture(scope="module")
def ave(tmp_path_factory, ave_rows):
    root = tmp_path_factory.mktemp("ave")
    for dataset, folder in AVE_SETS.items():
        names = [name for of, name, _ in ave_rows if of == dataset]
        videos = [fake_data.fake_video(name, 3, seed=i) for i, name in enumerate(names)]
        fake_data.write_stavis(root, folder, videos)
    return root


@pytest.mark.parametrize(
    ("dataset", "label", "cc"),
    [  # CASP-Net, Tables 1, 2 and 3; AVRSP, Tables III, IV and V
        ("etmd", "CASP-Net(V, decoder FCN)", 0.606),
        ("avad", "CASP-Net(V+A+I linear+C)", 0.685),
        ("avad", "CASP-Net(AVIM on 2,3,4)", 0.674),
        ("diem", "AVRSP(AV, MS+MRG)", 0.685),
        ("diem", "AVRSP(V, 0 pairs)", 0.652),
        ("diem", "AVRSP(AV, add)", 0.665),
    ],
)
def test_printed_ablations_are_in_the_table_of_the_test_list(tmp_path, dataset, label, cc):
    folder = write_result(tmp_path / "a", {"cc": {"x": 0.5, "y": 0.25}}, dataset=dataset)
    comparison = compared(folder, f"published:{label}")
    lines = {line["method"]: line for line in table_of(comparison, dataset)}
    measured = lines.pop("ours")
    ((name, printed),) = lines.items()
    assert measured["split"] == "test" and measured["CC"] == "0.3750"
    assert printed["split"] == "val" and float(printed["CC"]) == cc
    assert (
        f"{dataset} was scored on splits of different names: test of ours; val of {name}" in comparison.notes
    )


@pytest.mark.parametrize(
    ("method", "dataset", "figures"),
    [
        ("AVRSP(V)", "summe", {"CC": "0.494", "NSS": "2.57", "AUC-J": "0.900"}),
        ("AViNet(B)", "coutrot1", {"CC": "0.56", "NSS": "2.73", "AUC-J": "0.889"}),
        ("Dual-domain(CM)", "Mean of the six sets", {"NSS": "3.428", "AUC-J": "0.9191"}),
        ("AViNet(B)", "Mean of the six sets", {"CC": "0.6090", "NSS": "3.4117"}),  # computed here
    ],
)
def test_figures_are_shown_as_printed(method, dataset, figures):
    comparison = compared(f"published:{method}")
    (line,) = table_of(comparison, dataset)
    assert {title: line[title] for title in figures} == figures
    for text in figures.values():
        assert f"| {text} |" in markdown(comparison)


def test_figures_in_the_csv_file_are_as_printed():
    lines = list(csv.DictReader(csv_text(compared("published:AVRSP(V)")).splitlines()))
    (summe,) = [line for line in lines if line["dataset"] == "summe"]
    assert (summe["auc_judd"], summe["nss"]) == ("0.900", "2.57")


def test_categories_of_ave_are_joined_with_what_is_printed(ave, ave_rows, tmp_path):
    centre = Request("ave", ave, model="centre", metrics=("cc",))
    summary = evaluate(centre, tmp_path / "centre")
    evaluate(Request("ave", ave, model="motion", metrics=("cc",)), tmp_path / "motion")
    comparison = compared(tmp_path / "centre", tmp_path / "motion", "published:AViNet")
    kinds = [kind for _, _, kind in ave_rows]
    # AViNet paper, Table 6: the rows of nature, social and miscellaneous videos.
    for category, dataset, printed in (
        ("Nature", "ave:nature", 0.649),
        ("Social", "ave:social", 0.688),
        ("Other", "ave:miscellaneous", 0.635),
    ):
        first, _, last = table_of(comparison, dataset)
        mean = summary["categories"][category]["metrics"]["cc"]["mean"]
        assert first["CC"] == f"{mean:.4f}" and first["videos"] == str(kinds.count(category))
        assert last["method"].startswith("AViNet, printed") and float(last["CC"]) == printed
        (pair,) = [d for d in comparison.differences if d.dataset == dataset]
        assert pair.videos == kinds.count(category)
    text = (tmp_path / "centre" / "table.md").read_text()
    assert "## Nature, " in text and "avinet, Table 6" in text.partition("## Nature, ")[2].partition("##")[0]
    assert main(["compare", str(tmp_path / "centre"), "--output", str(tmp_path / "compared")]) == 0
    assert "centre prior,ave:nature,test" in (tmp_path / "compared" / "comparison.csv").read_text()


def test_people_of_several_sets(ave, ave_rows, tmp_path, capsys):
    """Observers who agree, one folder or file for each set; a name that two sets share would be mixed up."""
    observers = {}
    for dataset in AVE_SETS:
        names = [name for of, name, _ in ave_rows if of == dataset]
        path = tmp_path / dataset
        if dataset == "diem":
            for name in names:
                rows = [(frame, (20, 12, 1), (20, 12, 1)) for frame in range(1, 4)]
                fake_data.write_diem_events(path / name / "event_data", [rows, rows], 52, 36)
        else:
            clips = {
                name.replace("clip", "clip_"): (25.0, 52, 36, np.full((2, 3, 2), 12.0)) for name in names
            }
            number = int(dataset[-1])
            condition = {1: "OriginalSounds", 2: "AudioVisual"}[number]
            fake_data.write_coutrot(path.with_suffix(".mat"), clips, number, condition)
            path = path.with_suffix(".mat")
        observers[dataset] = path
    task = Request("ave", ave, model="human", metrics=("nss",))
    with pytest.raises(AvsalError, match="--observers diem=PATH,coutrot1=PATH,coutrot2=PATH"):
        evaluate(task, tmp_path / "none")
    joined = ",".join(f"{name}={path}" for name, path in observers.items())
    call = ["evaluate", "--dataset", "ave", "--root", str(ave), "--model", "human", "--metrics", "nss"]
    assert main([*call, "--observers", joined, "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["videos"] == 29
    capsys.readouterr()
    assert main([*call, "--observers", "diem=x,avad=y", "--output", str(tmp_path / "wrong")]) == 2
    assert "is not of the form diem=PATH,coutrot1=PATH,coutrot2=PATH" in capsys.readouterr().err


def test_folds_are_averaged_as_papers_do(tmp_path):
    """Folds of 1 and 3 videos: the papers' mean is (.2 + .6) / 2, that of all videos (.2 + 1.8) / 4."""
    values = {"1:a": 0.2, "2:a": 0.4, "2:b": 0.6, "2:c": 0.8}
    part = {"1": ["1:a"], "2": ["2:a", "2:b", "2:c"]}
    folds = {
        fold: {"names": names, "metrics": {"cc": {"mean": float(np.mean([values[n] for n in names]))}}}
        for fold, names in part.items()
    }
    pooled = write_result(tmp_path / "pooled", {"cc": values}, dataset="avad", folds=folds)
    alone = [
        write_result(tmp_path / f"{i}", {"cc": dict(v)}, method="alone", dataset="avad", fold=i)
        for i, v in ((1, [("a", 0.2)]), (2, [("a", 0.4), ("b", 0.6), ("c", 0.8)]))
    ]
    comparison = compared(pooled, *alone, "published:ViNet")
    by_method = {line["method"]: line for line in table_of(comparison, "avad")}
    assert by_method["ours"]["CC"] == by_method["alone"]["CC"] == "0.4000"
    assert by_method["ours"]["folds"] == "1, 2" and by_method["ours"]["videos"] == "4"
    assert {d.mean for d in comparison.differences} == {0.0}
    assert "ViNet, printed by avinet" in by_method


def test_information_gain_and_borji_are_metrics_of_every_protocol(root, videos, tmp_path):
    """Against the centre prior and uniform negatives, from saved maps as the protocol scores them."""
    folder = tmp_path / "maps"
    rng = np.random.default_rng(3)
    for video in videos:
        (folder / video.name).mkdir(parents=True)
        for index in range(len(video.frames)):
            noise = rng.integers(0, 256, video.densities.shape[1:], np.uint8)
            Image.fromarray(noise).save(folder / video.name / f"{index + 1:04d}.png")
    names = ("auc_borji", "information_gain")
    for protocol in ("vinet", "dhf1k"):
        task = request(root, predictions=folder, protocol=protocol, metrics=names)
        summary = evaluate(task, tmp_path / protocol)
        assert summary["metrics"]["auc_borji"]["mean"] == pytest.approx(0.5, abs=0.1)
        assert summary["metrics"]["information_gain"]["mean"] < 0.1 and summary["prior"] == "centre prior"
    task = request(root, model="centre", protocol="vinet", metrics=names)
    centre = evaluate(task, tmp_path / "centre")["metrics"]
    assert centre["information_gain"]["mean"] == pytest.approx(0, abs=1e-9)
    assert 0.5 < centre["auc_borji"]["mean"] < 1
    rows = {(row["video"], row["frame"]): row for row in _frames(tmp_path / "vinet")}
    video, index = videos[0], 4
    size = video.densities.shape[1:]
    fixated = np.zeros(size, bool)
    fixated[tuple(video.fixations[index].T)] = True
    saliency = np.asarray(Image.open(folder / video.name / f"{index + 1:04d}.png")) / 255
    grid = [np.linspace(-2, 2, n) for n in (224, 384)]
    prior = np.exp(-(grid[0][:, None] ** 2 + grid[1] ** 2) / 2).astype(np.float32)
    enlarged = resize_map(prior, *video.frames.shape[1:3])
    expected = metrics.information_gain(
        saliency, fixated, metrics.imresize(enlarged.astype(np.float64), *size)
    )
    value = float(rows[video.name, str(index + 1)]["information_gain"])
    assert value == pytest.approx(float(expected), abs=0.05)  # the stored prior is blurred, and has 8 bits


def _frames(folder):
    with (folder / "frames.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_mean_map_honours_a_list(root, videos, tmp_path):
    """The first video is list_file: the mean is of the second, the other one of the training list."""
    list_file = tmp_path / "list.txt"
    list_file.write_text(f"{NAMES[0]}\n")
    task = request(root, model="mean_map", list_file=list_file, metrics=("cc",), protocol="vinet")
    value = evaluate(task, tmp_path / "out")["metrics"]["cc"]["mean"]
    truth = [density for i, density in enumerate(videos[1].densities) if i not in (2, 10)]  # others are black
    mean = np.mean([resize_map(d.astype(np.float32) / 255, 224, 384) for d in truth], 0)
    folder = tmp_path / "maps" / NAMES[0]
    folder.mkdir(parents=True)
    saved = np.uint8(255 * mean / mean.max() + 0.5)
    for index in range(len(videos[0].frames)):
        Image.fromarray(saved).save(folder / f"{index + 1:04d}.png")
    task = request(root, predictions=folder.parent, list_file=list_file, metrics=("cc",), protocol="vinet")
    expected = evaluate(task, tmp_path / "expected")["metrics"]["cc"]["mean"]
    assert value == pytest.approx(expected, abs=0.02)
    whole_list = tmp_path / "all.txt"
    whole_list.write_text("".join(f"{name}\n" for name in NAMES))
    with pytest.raises(AvsalError, match="excludes every training video, which the mean map needs"):
        evaluate(request(root, model="mean_map", list_file=whole_list), tmp_path / "none")
