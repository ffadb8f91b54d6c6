"""`avsal evaluate` on a small set: values by plain formulas, protocols, folds, baselines, categories."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.data.sets.video_lists import read_domain
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.metrics import default_metrics
from avsal_jax.storage import write_model
from avsal_jax.testing import fake_data
from avsal_jax.testing.models import tiny_stored
from tests.evaluation.sets import NAMES, request, table


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


@pytest.mark.parametrize("protocol", ["stavis", "vinet", "dhf1k"])
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
        scores = [float(row[name] or "nan") for name in ("cc", "sim", "nss", "kl")]
        np.testing.assert_allclose(scores, values, rtol=1e-9, atol=1e-12, err_msg=str(row))
    frame_mean = np.nanmean(np.array(list(expected.values())), 0)
    reference = frame_mean if protocol == "dhf1k" else np.mean(means, 0)
    scores = [summary["metrics"][name]["mean"] for name in ("cc", "sim", "nss", "kl")]
    np.testing.assert_allclose(scores, reference, rtol=1e-12)
    black = 1 if protocol == "stavis" else 2  # frames without fixations
    assert [summary["metrics"][m]["dropped"] for m in default_metrics()] == [black, 0, black, 0, black, black]
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
        query = request(root, predictions=folder, protocol=protocol, metrics=("auc_shuffled",))
        return evaluate(query, tmp_path / protocol)["metrics"]["auc_shuffled"]["mean"]

    assert shuffled("vinet") == pytest.approx(0.5)  # negatives are high as well
    assert shuffled("dhf1k") > 0.7  # most negatives come from other videos


@pytest.mark.parametrize("settings", [{"protocol": "vinet"}, {"protocol": "dhf1k", "postprocess": "vinet"}])
def test_saved_maps_and_the_model_that_made_them_agree(root, tmp_path, settings):
    stored = tiny_stored()
    model = write_model(tmp_path / "vinet_t16" / "model", stored.preset, stored.variables)
    direct = evaluate(request(root, model=str(model), **settings), tmp_path / "direct")
    assert direct["method"] == "vinet_t16"
    saved = tmp_path / "saved"
    for name in NAMES:
        frames = root / "video_frames" / "DIEM" / name
        arguments = ["predict", str(frames), "--model", str(model), "--output", str(saved / name)]
        assert main([*arguments, "--save", "maps", "--postprocess", "vinet"]) == 0
    result = evaluate(request(root, predictions=saved, protocol=settings["protocol"]), tmp_path / "again")
    for name in default_metrics():
        assert result["metrics"][name]["mean"] == direct["metrics"][name]["mean"], name


def test_how_maps_are_stored_is_stated_and_not_mixed(root, tmp_path, capsys):
    command = ["evaluate", "--dataset", "diem", "--root", str(root), "--model", "spectral_residual"]
    command += ["--metrics", "cc", "--protocol", "dhf1k", "--output", str(tmp_path)]
    means = []
    for flags in ([], ["--postprocess", "none"], ["--postprocess", "vinet"]):
        assert main([*command, *flags]) == 0
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary.get("postprocess") == (flags[1] if flags else None)
        assert ("Evaluated with --postprocess vinet." in (tmp_path / "table.md").read_text()) == (
            "vinet" in flags
        )
        means.append(summary["metrics"]["cc"]["mean"])
    assert means[0] == means[1] != means[2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"predictions": "maps"}, "remove it for saved maps"),
        ({"model": "human", "observers": "raw"}, "remove it for .* people"),
        ({"model": "centre", "protocol": "gaze"}, "protocol gaze scores maps before they are stored"),
    ],
)  # fmt: skip
def test_what_stores_no_maps_is_refused(root, predictions, tmp_path, settings, words):
    paths = {"predictions": predictions, "observers": tmp_path}
    settings = {name: paths.get(name, value) for name, value in settings.items()}
    with pytest.raises(AvsalError, match=words):
        evaluate(request(root, postprocess="vinet", **settings), tmp_path / "out")


def test_the_table_stands_beside_published_numbers(root, predictions, tmp_path):
    summary = evaluate(request(root, predictions=predictions, label="noise"), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert f"| **noise** | {summary['metrics']['cc']['mean']:.4f} |" in text
    assert "STAViS" in text and "AViNet" in text and "casp_net, Table" in text
    assert "| AViNet(C) | 0.631 | 0.497 | 2.50 |  | 0.897 | 0.720 | test | avinet, Table 4 | dhf1k |" in text
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
    assert pooled["videos"] == 9 and pooled["method"] == "m1 and 2 more"
    assert [summary["method"] for summary in alone] == ["m1", "m2", "m3"]
    for name in metrics:
        mean = np.mean([result["metrics"][name]["mean"] for result in alone])
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
        query = request(root, model="human", observers=observers, metrics=("cc", "nss"))
        return evaluate(query, tmp_path / f"out_{name}")["metrics"]

    agreeing, wandering = ceiling("agree", False), ceiling("wander", True)
    assert agreeing["cc"]["mean"] > 0.99 and agreeing["nss"]["mean"] > 1
    assert wandering["nss"]["mean"] < 0.8 * agreeing["nss"]["mean"]


def test_draws_depend_on_the_seed(root, predictions, tmp_path):
    def score(seed):
        query = request(root, predictions=predictions, seed=seed, metrics=("auc_shuffled",))
        return evaluate(query, tmp_path / str(seed))["metrics"]["auc_shuffled"]["mean"]

    assert score(1) != score(2)
    assert abs(score(1) - score(2)) < 0.02


def test_a_perfect_map_is_perfect(root, videos, tmp_path):
    """High at the frame's own fixations alone: both areas are 1, wherever the negatives fall."""
    folder = tmp_path / "maps"
    for video in videos:
        (folder / video.name).mkdir(parents=True)
        for index, grey in enumerate(fake_data.fixation_maps(video)):
            Image.fromarray(grey).save(folder / video.name / f"pred_sal_{index + 1:06d}.png")
    query = request(root, predictions=folder, protocol="vinet", metrics=("auc_judd", "auc_shuffled"))
    result = evaluate(query, tmp_path / "out")["metrics"]
    assert result["auc_judd"]["mean"] == pytest.approx(1, abs=1e-9)
    assert result["auc_shuffled"]["mean"] == pytest.approx(1, abs=1e-9)


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
    reference = evaluate(request(root, predictions=predictions, protocol=protocol), tmp_path / "all")
    for name in ("auc_judd", "auc_shuffled"):
        query = request(root, predictions=predictions, protocol=protocol, metrics=(name,))
        alone = evaluate(query, tmp_path / name)
        assert alone["metrics"][name] == reference["metrics"][name]


def test_best_and_worst_know_that_kl_is_a_distance(root, predictions, tmp_path):
    evaluate(request(root, predictions=predictions, metrics=("kl",)), tmp_path)
    part = json.loads((tmp_path / "parts" / f"{NAMES[0]}.json").read_text())
    values = dict(part["rows"])
    assert values[part["extremes"]["best"]] == min(values.values())
    assert values[part["extremes"]["worst"]] == max(values.values())


def test_shots_of_hollywood_may_be_named_as_their_frames(tmp_path):
    video = fake_data.fake_video("actioncliptest00001_2", 5, (36, 52), 24.0, seed=4)
    form = "actioncliptest00001_{:05d}.png"
    root = fake_data.write_rearranged(tmp_path / "data", "testing", (video,), form, first=37)
    for style, first in (("frames", 37), ("numbers", 1)):
        folder = tmp_path / style / video.name
        folder.mkdir(parents=True)
        for index, density in enumerate(video.densities):
            Image.fromarray(density).save(folder / f"x_{index + first:05d}.png")
        query = Request("hollywood2", root, predictions=tmp_path / style, metrics=("cc",))
        assert evaluate(query, tmp_path / f"out_{style}")["metrics"]["cc"]["mean"] == pytest.approx(
            1, abs=1e-3
        )


def test_the_table_of_a_shipped_domain_has_the_published_rows(tmp_path):
    """`--list domain:nature_test` has videos of several sets: the papers' rows are Nature's, not DIEM's."""
    for dataset, folder in (("diem", "DIEM"), ("coutrot1", "Coutrot_db1")):
        names = [row.video for row in read_domain("domain:nature_test") if row.dataset == dataset]
        videos = [fake_data.fake_video(name, 2, seed=i) for i, name in enumerate(names)]
        fake_data.write_stavis(tmp_path / "data", folder, videos)
    out = tmp_path / "out"
    query = Request(
        "diem", tmp_path / "data", list_file="domain:nature_test", model="centre", metrics=("cc",)
    )
    assert evaluate(query, out)["videos"] == 10
    text = (out / "table.md").read_text()
    assert text.startswith("## nature, test") and "| Dual-domain(from Social, DA(audio)) | 0.4951 |" in text
    assert "STAViS" not in text
    assert (
        main(["compare", str(out), "published:Dual-domain(from Faces, w/o DA)", "--output", str(out / "c")])
        == 0
    )
    assert "0.4099" in (out / "c" / "comparison.md").read_text()
