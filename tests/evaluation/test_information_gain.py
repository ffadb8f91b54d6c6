"""`avsal evaluate --prior`: information gain and calibration on small sets, from the definition."""

import json

import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.data.gaze.stimuli import Blur, GazeOptions
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.human import LeaveOneOut
from avsal_jax.evaluation.priors import fit_prior, read_prior
from avsal_jax.evaluation.protocols import find_protocol
from avsal_jax.metrics import imresize
from tests.evaluation.sets import table

TOLERANCE = 1e-9
IG = ("information_gain",)


def fitted(dataset, root, path, **options):
    fit_prior(open_dataset(dataset, root, "train", **options), path, lambda entries: entries)
    return path


def densities(*maps):
    return [0.99 * m / m.sum() + 0.01 / m.size for m in maps]


def test_photographs(osie, tmp_path):
    prior = fitted("osie", osie, tmp_path / "prior.npz")
    metrics = ("nss", "information_gain", "top_20", "mass_20")
    evaluate(Request("osie", osie, model="centre", prior=prior, metrics=metrics), tmp_path / "out")
    rows = {row["video"]: row for row in table(tmp_path / "out" / "videos.csv")}
    with np.load(prior) as file:
        saliency = file["saliency"]
    for entry in open_dataset("osie", osie):
        height, width = entry.frame_size
        columns = round(72 * width / height)
        y, x = np.mgrid[:72, :columns] + 0.5
        centre = np.exp(-8 * ((x / columns - 0.5) ** 2 + (y / 72 - 0.5) ** 2))
        points = entry.truth(0).grid_points((72, columns))
        p, b = densities(centre, imresize(saliency.astype(float), 72, columns).clip(0, 1))
        bits = [np.log2(p[row, column] / b[row, column]) for row, column in points]
        row = rows[entry.name]
        assert float(row["information_gain"]) == pytest.approx(np.mean(bits), abs=TOLERANCE)
        level = np.quantile(centre, 0.8)
        inside = np.mean([centre[row, column] > level for row, column in points])
        # A fifth of the cells is not a whole number, and four cells tie for the last place.
        assert float(row["top_20"]) == pytest.approx(inside, abs=1.5 / len(points))
        assert float(row["mass_20"]) == pytest.approx(
            centre[centre > level].sum() / centre.sum(), abs=4 / centre.size
        )


def test_a_prior_gains_nothing_over_itself(hevc, tmp_path):
    prior = fitted("hevc_gaze", hevc, tmp_path / "prior.npz", fold=5)
    request = Request("hevc_gaze", hevc, fold=5, model=str(prior), prior=prior, metrics=IG)
    summary = evaluate(request, tmp_path / "out")
    assert summary["metrics"]["information_gain"]["mean"] == pytest.approx(0, abs=TOLERANCE)


def test_people_have_an_information_gain(hevc, tmp_path):
    """It is a mean over fixations of each observer's gain by the map of the others."""
    prior = fitted("hevc_gaze", hevc, tmp_path / "prior.npz", fold=4)
    summary = evaluate(
        Request("hevc_gaze", hevc, fold=4, model="human", prior=prior, metrics=("nss",)), tmp_path / "out"
    )
    assert list(summary["metrics"]) == ["nss", "information_gain"]
    (entry,) = open_dataset("hevc_gaze", hevc, fold=4)
    source, values = read_prior(prior), []
    protocol = find_protocol("gaze")
    for frame in protocol.scored_indices(entry):
        stored = next(source.maps(entry, protocol))
        trials = LeaveOneOut().trials(entry, frame, truth=entry.truth(frame), stored=None, protocol=protocol)
        for trial in trials:
            p, b = densities(trial.saliency, stored)
            values += [np.log2(p[row, column] / b[row, column]) for row, column in trial.points]
    assert summary["metrics"]["information_gain"]["mean"] == pytest.approx(np.mean(values), abs=TOLERANCE)


def test_a_prior_that_has_seen_the_stimulus_or_a_near_duplicate_is_refused(hevc, tmp_path):
    names, prior = tmp_path / "names.txt", tmp_path / "prior.npz"
    names.write_text("BasketballDrill\n")
    fit_prior(open_dataset("hevc_gaze", hevc, list_file=names), prior, lambda entries: entries)
    request = Request("hevc_gaze", hevc, fold=5, model="centre", prior=prior, metrics=IG)
    messages = []
    with_prior = evaluate(request, tmp_path / "out", say=messages.append)
    assert with_prior["videos"] == 0 and with_prior["of"] == 2
    assert "BasketballDrill: " in with_prior["failed"][0] and "was fitted on it" in with_prior["failed"][0]
    assert "fitted on a stimulus that shows nearly the same" in with_prior["failed"][1]
    assert any("was fitted on it" in line for line in messages[:4])  # before any work


def test_another_prior_changes_results_in_the_same_folder_and_none_keeps_parts(osie, tmp_path):
    first = fitted("osie", osie, tmp_path / "first.npz")
    second = tmp_path / "second.npz"
    names = tmp_path / "names.txt"
    names.write_text("1001\n")
    wide = GazeOptions(sigma=Blur(30))
    fit_prior(open_dataset("osie", osie, list_file=names, gaze=wide), second, lambda entries: entries)
    means = []
    for prior in (first, second, first):
        request = Request("osie", osie, model="centre", prior=prior, metrics=IG)
        means.append(evaluate(request, tmp_path / "out")["metrics"]["information_gain"]["mean"])
    assert means[0] == means[2] != means[1]
    evaluate(Request("osie", osie, model="centre", metrics=("nss",)), tmp_path / "plain")
    part = json.loads((tmp_path / "plain" / "parts" / "1004.json").read_text())
    assert "prior" not in part["job"]  # parts of earlier versions remain valid


def test_the_command(osie, tmp_path, capsys):
    prior = fitted("osie", osie, tmp_path / "prior.npz")
    call = ["evaluate", "--dataset", "osie", "--root", str(osie), "--model", "centre", "--metrics", "nss"]
    assert main([*call, "--prior", str(prior), "--output", str(tmp_path / "out")]) == 0
    assert "| method | nss | information_gain |" in capsys.readouterr().out
    assert main([*call[:-1], "nss,information_gain", "--output", str(tmp_path / "centre")]) == 0
    table = capsys.readouterr().out
    assert "| **centre prior** |" in table and "| 0.0000 |" in table  # the centre prior, over itself
    assert "The information gain is over the centre prior, in bits per fixation." in table


@pytest.mark.parametrize("name", ["top_5", "mass_1"])
def test_other_protocols_do_not_have_these_metrics(osie, tmp_path, name):
    request = Request("osie", osie, model="centre", protocol="vinet", metrics=("nss", name))
    with pytest.raises(AvsalError, match=f"{name} is a metric of the protocol gaze, not of vinet"):
        evaluate(request, tmp_path)
