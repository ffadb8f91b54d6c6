"""Protocol gaze on small sets, against a plain transcription of its definition.

Grid of 72 rows x round(72*W/H) columns; a fixation (x, y) falls in cell (int(y/H*72), int(x/W*columns));
those outside are dropped. Densities are counts blurred by a Gaussian of 5 % of the height. NSS is the
z-scored map (population) at each fixation, averaged over the fixations of a stimulus, then over stimuli. Of a
video, the first frames at or after 0.6, 1.6, ... s with at least five fixations are scored.
"""

import dataclasses
import json
import types

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from avsal_jax import AvsalError, load_model
from avsal_jax.cli.main import main
from avsal_jax.data.gaze.stimuli import Blur, GazeOptions
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.truth.fixation_maps import Fixations
from avsal_jax.data.truth.frame_truth import ArrayTruth
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.gaze_grid import GazeGrid
from avsal_jax.evaluation.map_sources import ModelMaps, Trial
from avsal_jax.evaluation.protocols import find_protocol
from avsal_jax.evaluation.scoring import OtherFixations
from avsal_jax.evaluation.units import Settings, Unit
from avsal_jax.inference import predictor
from avsal_jax.testing.fake_gaze import fake_clips, fake_photographs, write_eye_mat, write_hevc_gaze
from avsal_jax.testing.models import order_probe
from tests.evaluation.sets import table

SIGMA = 3.6  # cells: 5 % of 72
TOLERANCE = 1e-9  # of float64 sums in different orders


def repeated(photograph):
    """Three more observers' worth of fixations at the place of the first one."""
    rows = photograph.rows.copy()
    rows[[5, 9, 12], 1:3] = rows[0, 1:3]
    return dataclasses.replace(photograph, rows=rows)


PHOTOGRAPHS = tuple(map(repeated, fake_photographs(("1004", "1008", "1015"), observers=5)))
CLIPS = fake_clips()


@pytest.fixture(scope="module")
def osie(tmp_path_factory):
    return write_eye_mat(tmp_path_factory.mktemp("data") / "osie", PHOTOGRAPHS)


@pytest.fixture(scope="module")
def hevc(tmp_path_factory):
    return write_hevc_gaze(tmp_path_factory.mktemp("data") / "hevc", CLIPS)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Maps on the grid, so that nothing is resized: 8 bits for photographs, all of a clip in one file."""
    folder, random = tmp_path_factory.mktemp("maps"), np.random.default_rng(5)
    saved = {}
    for stimulus in (*PHOTOGRAPHS, *CLIPS):
        shape = (stimulus.frames, *grid_of(stimulus))
        values = scipy.ndimage.gaussian_filter(random.random(shape), (0, 4, 4))
        low, high = values.min(), values.max()
        saved[stimulus.name] = np.uint8(255 * (values - low) / (high - low))
        (folder / stimulus.name).mkdir()
        if stimulus.frames == 1:
            Image.fromarray(saved[stimulus.name][0]).save(folder / stimulus.name / "0001.png")
        else:
            np.savez(folder / stimulus.name / "maps.npz", maps=saved[stimulus.name])
    return folder, saved


# The definition, with NumPy and SciPy alone.


def grid_of(stimulus) -> tuple[int, int]:
    height, width = stimulus.size
    return 72, round(72 * width / height)


def cells(rows, stimulus) -> list[tuple[int, int]]:
    (height, width), (_, columns) = stimulus.size, grid_of(stimulus)
    return [
        (int(y / height * 72), int(x / width * columns))
        for _, x, y, _, _ in rows
        if 0 <= x < width and 0 <= y < height
    ]


def blurred(points, grid, sigma=SIGMA) -> np.ndarray:
    counts = np.zeros(grid)
    for row, column in points:
        counts[row, column] += 1
    return scipy.ndimage.gaussian_filter(counts, sigma)


def scores(values, points) -> list[float]:
    normalised = (values - values.mean()) / values.std()
    return [normalised[row, column] for row, column in points]


def scored_rows(stimulus) -> list[tuple[int, np.ndarray]]:
    """Returns (frame from 0, rows) of what is scored."""
    if stimulus.frames == 1:
        return [(0, stimulus.rows)]
    times = np.arange(stimulus.frames) / stimulus.rate
    result, due = [], 0.6
    while due <= times[-1]:
        frame = int(np.flatnonzero(times >= due - 1e-9)[0])
        _, _, _, start, duration = stimulus.rows.T
        rows = stimulus.rows[(start <= times[frame]) & (times[frame] < start + duration)]
        if len(cells(rows, stimulus)) >= 5:
            result.append((frame, rows))
        due += 1
    return result


def leave_one_out(rows, stimulus, frame, saved, sigma):
    result = []
    for observer in range(stimulus.observers):
        points = cells(rows[rows[:, 0] == observer], stimulus)
        rest = cells(rows[rows[:, 0] != observer], stimulus)
        result += scores(blurred(rest, grid_of(stimulus), sigma), points) if points else []
    return result


def centre(rows, stimulus, frame, saved, sigma):
    h, w = grid_of(stimulus)
    y, x = np.mgrid[:h, :w] + 0.5
    prior = np.exp(-((x - w / 2) ** 2 / (2 * (w / 4) ** 2) + (y - h / 2) ** 2 / (2 * (h / 4) ** 2)))
    return scores(prior, cells(rows, stimulus))


def halves(rows, stimulus, frame, saved, sigma):
    predicting, predicted = (cells(rows[rows[:, 0] % 2 == half], stimulus) for half in (0, 1))
    return scores(blurred(predicting, grid_of(stimulus), sigma), predicted)


def saved_map(rows, stimulus, frame, saved, sigma):
    return scores(saved[stimulus.name][frame] / 255, cells(rows, stimulus))


SOURCES = {"human": leave_one_out, "centre": centre, "human_half": halves, "predictions": saved_map}


def expected(source, stimuli, saved, sigma=SIGMA) -> dict[str, float]:
    """Returns the mean over the fixations of each stimulus, and of these means."""
    means = {}
    for stimulus in stimuli:
        values = [
            value
            for frame, rows in scored_rows(stimulus)
            for value in SOURCES[source](rows, stimulus, frame, saved, sigma)
        ]
        if values and stimulus.file is not None:
            means[stimulus.name] = np.mean(values)
    return means


def gaze_request(dataset, root, source, folder, **options) -> Request:
    model = {"predictions": folder} if source == "predictions" else {"model": source}
    return Request(dataset, root, **model, **{"metrics": ("nss",), **options})


def values_of(output) -> dict[str, float]:
    return {row["video"]: float(row["nss"]) for row in table(output / "videos.csv")}


@pytest.mark.parametrize("source", SOURCES)
def test_photographs(osie, maps, tmp_path, source):
    summary = evaluate(gaze_request("osie", osie, source, maps[0], split="all"), tmp_path)
    means = expected(source, PHOTOGRAPHS, maps[1])
    assert len(means) == 3
    assert values_of(tmp_path) == pytest.approx(means, abs=TOLERANCE)
    assert summary["metrics"]["nss"]["mean"] == pytest.approx(np.mean(list(means.values())), abs=TOLERANCE)
    assert summary["failed"] == []


@pytest.mark.parametrize("source", SOURCES)
def test_clips(hevc, maps, tmp_path, source):
    summary = evaluate(gaze_request("hevc_gaze", hevc, source, maps[0]), tmp_path)
    means = expected(source, CLIPS, maps[1])
    assert values_of(tmp_path) == pytest.approx(means, abs=TOLERANCE)
    assert summary["metrics"]["nss"]["mean"] == pytest.approx(np.mean(list(means.values())), abs=TOLERANCE)
    frames = [(row["video"], int(row["frame"]) - 1) for row in table(tmp_path / "frames.csv")]
    present = sorted((clip for clip in CLIPS if clip.file is not None), key=lambda clip: clip.name)
    assert frames == [(clip.name, frame) for clip in present for frame, _ in scored_rows(clip)]
    assert [
        line for line in summary["failed"] if not line.startswith("Kimono: it cannot be scored: there")
    ] == []


def test_the_clips_have_frames_of_either_kind():
    """Some have fewer than five fixations, and some are scored."""
    counts = [len(scored_rows(clip)) for clip in CLIPS]
    assert 0 < sum(counts) < 2 * len(CLIPS)


@pytest.mark.parametrize("fields", [{}, {"interval": 0.1, "smoothing": 0.1}, {"label_frame": "middle"}])
def test_a_model_predicts_the_frames_that_are_scored(hevc, monkeypatch, fields):
    """Their maps are those of whole clips, and fewer frames are resized for the network."""
    model, resized = order_probe(**fields), []
    fit = predictor.fitted_frame
    monkeypatch.setattr(predictor, "fitted_frame", lambda *args: resized.append(1) or fit(*args))
    entries = [entry for entry in open_dataset("hevc_gaze", hevc, "test") if entry.frames]
    clips = [clip for clip in CLIPS if clip.file is not None]
    assert len(entries) == len(clips) > 3
    for entry in entries:
        (clip,) = (clip for clip in clips if clip.name == entry.name)
        frames = {frame for frame, _ in scored_rows(clip)}
        resized.clear()
        maps = list(ModelMaps(model, "probe").maps(entry, find_protocol("gaze")))
        count = len(resized)
        assert {index for index, stored in enumerate(maps) if stored is not None} == frames
        complete = dict(model.iter_frames(entry.iter_frames(), fps=entry.fps))
        for index in frames:
            np.testing.assert_array_equal(maps[index], find_protocol("gaze").store(complete[index], entry))
        assert count < len(complete) / 2


def test_smoothing_is_of_the_maps_of_a_network(osie, tiny_dir, tmp_path):
    with pytest.raises(AvsalError, match="--smoothing applies only to a network"):
        evaluate(gaze_request("osie", osie, "centre", tmp_path, split="all", smoothing=0.5), tmp_path / "out")
    (entry, *_) = open_dataset("osie", osie, "all")
    identities = [
        ModelMaps(load_model(tiny_dir, smoothing=seconds), "tiny").identity(entry)
        for seconds in (None, 0, 0.5)
    ]
    assert identities[0].startswith("model ") and "smoothing" not in identities[0]
    assert identities[1:] == [f"{identities[0]}, smoothing 0", f"{identities[0]}, smoothing 0.5"]


@pytest.mark.parametrize("source", ["human_half", "predictions"])
def test_metrics_of_densities(osie, maps, tmp_path, source):
    evaluate(gaze_request("osie", osie, source, maps[0], split="all", metrics=("cc", "sim", "kl")), tmp_path)
    rows = {row["video"]: row for row in table(tmp_path / "videos.csv")}
    for photograph in PHOTOGRAPHS:
        grid, fixations = grid_of(photograph), photograph.rows
        truth, saliency = blurred(cells(fixations, photograph), grid), maps[1][photograph.name][0] / 255
        if source == "human_half":
            saliency, truth = (
                blurred(cells(fixations[fixations[:, 0] % 2 == half], photograph), grid) for half in (0, 1)
            )
        row = rows[photograph.name]
        assert float(row["cc"]) == pytest.approx(np.corrcoef(saliency.ravel(), truth.ravel())[0, 1], abs=1e-9)
        p, g = saliency / saliency.sum(), truth / truth.sum()
        kl = (g * np.log(2.0**-52 + g / (p + 2.0**-52))).sum()
        assert float(row["kl"]) == pytest.approx(kl, abs=1e-9)
        p, g = ((m - m.min()) / (m - m.min()).sum() for m in (saliency, truth))
        assert float(row["sim"]) == pytest.approx(np.minimum(p, g).sum(), abs=1e-9)


def test_people_who_are_left_out_have_no_density(osie, tmp_path):
    summary = evaluate(
        gaze_request("osie", osie, "human", None, split="all", metrics=("nss", "cc")), tmp_path
    )
    assert summary["metrics"]["cc"]["mean"] is None
    assert (
        "cc, sim and kl need the density of several observers: --model human_half has them."
        in (tmp_path / "table.md").read_text()
    )


@pytest.mark.parametrize(
    ("options", "sigma", "words"),
    [
        (GazeOptions(sigma=Blur(10)), 7.2, "10%"),
        (GazeOptions(sigma=Blur(6, "px")), 6 * 72 / 48, "6px"),
        (GazeOptions(sigma=Blur(0.5, "deg"), pixels_per_degree=8), 4 * 72 / 48, "0.5deg"),
    ],
)
def test_sigma_is_stated_and_used(osie, tmp_path, options, sigma, words):
    (tmp_path / "list.txt").write_text("1004\n")  # 48 pixels high
    request = gaze_request("osie", osie, "human", None, list_file=tmp_path / "list.txt", gaze=options)
    evaluate(request, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["sigma"], summary["grid_rows"], summary["protocol"]) == (words, 72, "gaze")
    means = expected("human", PHOTOGRAPHS[:1], None, sigma)
    assert values_of(tmp_path / "out") == pytest.approx(means, abs=TOLERANCE)


def test_sigma_on_the_command_line_changes_results_in_the_same_folder(osie, tmp_path, capsys):
    """Parts of a different sigma are not used again."""
    call = ["evaluate", "--dataset", "osie", "--root", str(osie), "--split", "all", "--model", "human"]
    call += ["--metrics", "nss", "--output", str(tmp_path)]
    results = []
    for sigma in ("5%", "10%", "30px", "5%"):
        assert main([*call, "--sigma", sigma]) == 0
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["sigma"] == sigma
        results.append(summary["metrics"]["nss"]["mean"])
    assert results[0] == results[3] and len(set(results)) == 3
    capsys.readouterr()


@pytest.mark.parametrize(
    ("sigma", "words"),
    [
        ("1deg", "a blur of 1deg needs --pixels-per-degree"),
        ("wide", "a blur is 5% (percent of the height), 30px (pixels), 1deg (degrees of visual angle)"),
        ("-1%", "a blur is"),
        ("nan%", "a blur is"),
        ("5", "a blur is"),
    ],
)
def test_blurs_that_do_not_exist(osie, tmp_path, capsys, sigma, words):
    call = ["evaluate", "--dataset", "osie", "--root", str(osie), "--split", "all", "--model", "human"]
    assert main([*call, "--metrics", "nss", "--output", str(tmp_path / "out"), f"--sigma={sigma}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1] and lines[-1].startswith("avsal: ")


def test_people_are_scored_by_the_protocol_gaze_alone(osie, tmp_path):
    summary = evaluate(gaze_request("osie", osie, "human", None, split="all", protocol="vinet"), tmp_path)
    assert summary["videos"] == 0
    assert "people are scored by the protocol gaze, not by vinet" in summary["failed"][0]


def test_one_observer_cannot_be_left_out(tmp_path):
    photographs = fake_photographs(("1004", "1008"), observers=1)
    root = write_eye_mat(tmp_path / "osie", photographs)
    summary = evaluate(gaze_request("osie", root, "human", None, split="all"), tmp_path / "out")
    assert summary["failed"][0] == "1004: 1 observers; at least 2 are needed"


def test_negatives_are_never_of_the_own_group(tmp_path):
    """People look at the left half of the two near-duplicates, and at the right half of all others."""
    clips = []
    for clip in CLIPS:
        rows, is_near = clip.rows.copy(), clip.name.startswith("BasketballDrill")
        rows[:, 1] = np.abs(rows[:, 1]) % (clip.size[1] / 2) + (0 if is_near else clip.size[1] / 2)
        clips.append(dataclasses.replace(clip, rows=rows))
    root = write_hevc_gaze(tmp_path / "hevc", clips)
    entries = [entry for entry in open_dataset("hevc_gaze", root, "all") if entry.frames]
    settings, pool = (
        Settings(find_protocol("gaze"), ("auc_shuffled",)),
        [Unit(entry, None) for entry in entries],
    )
    sides = set()
    for unit in pool:
        grid = find_protocol("gaze").grid.size(unit.entry)
        trial = Trial(np.zeros(grid), None, np.zeros((0, 2), int), grid)
        for seed in range(30):
            draw = lambda purpose, seed=seed: np.random.default_rng([seed, len(purpose)])  # noqa: E731
            negatives = OtherFixations(unit, pool, settings).map(0, trial=trial, draw=draw)
            left, right = negatives[:, : grid[1] // 2].any(), negatives[:, grid[1] // 2 :].any()
            sides.add((unit.entry.name.startswith("BasketballDrill"), bool(left), bool(right)))
            if unit.entry.name.startswith("BasketballDrill"):
                assert right and not left
    assert (False, True, True) in sides


def test_the_shuffled_auc_draws_from_the_whole_set(osie, tmp_path):
    """A single stimulus that is evaluated has negatives of those that are not."""
    (tmp_path / "list.txt").write_text("1004\n")
    options = {"metrics": ("auc_shuffled", "auc_judd")}
    request = gaze_request("osie", osie, "centre", None, list_file=tmp_path / "list.txt", **options)
    few = evaluate(request, tmp_path / "few")
    evaluate(gaze_request("osie", osie, "centre", None, split="all", **options), tmp_path / "all")
    (row, *_) = table(tmp_path / "all" / "videos.csv")
    assert row["video"] == "1004"
    for name in options["metrics"]:
        assert few["metrics"][name]["mean"] == pytest.approx(float(row[name]), abs=1e-12)


def test_a_clip_that_is_too_short_says_so(tmp_path):
    clips = [dataclasses.replace(CLIPS[0], frames=12), CLIPS[2]]
    root = write_hevc_gaze(tmp_path / "hevc", clips)
    summary = evaluate(gaze_request("hevc_gaze", root, "centre", None), tmp_path / "out")
    assert summary["failed"] == [
        "BasketballDrill: it cannot be scored: none of the frames of the protocol gaze has 5 fixations"
    ]


def test_a_missing_clip_is_reported_and_no_error(hevc, tmp_path):
    messages = []
    summary = evaluate(gaze_request("hevc_gaze", hevc, "centre", None), tmp_path, say=messages.append)
    words = "Kimono: it cannot be scored: there is no clip of it in videos/; its "
    assert summary["failed"] == [] and list(summary["not_scored"]) == ["Kimono"]
    assert any(line.startswith(f"note: {words}") for line in messages)
    assert summary["videos"] == len(CLIPS) - 1


def test_degrees_need_pixels_per_degree():
    entry_height = 480
    with pytest.raises(AvsalError, match="about 30 to 40 at a desk"):
        Blur(1, "deg").cells(entry_height, 72, None)
    assert Blur(1, "deg").cells(entry_height, 72, 40.0) == pytest.approx(6)


def test_a_frame_whose_time_is_far_off_takes_no_longer():
    times = [*np.arange(30) / 10, 1e12]  # of a damaged file; one search for each second would never end
    entry = types.SimpleNamespace(
        frames=len(times),
        is_still=False,
        frame_time=times.__getitem__,
        frame_size=(72, 72),
        observers=5,
        has_truth=lambda index: True,
        truth=lambda index: ArrayTruth(np.zeros((72, 72)), Fixations(np.zeros((5, 2), int))),
    )
    assert GazeGrid().frames(entry) == [6, 16, 26, 30]
