"""A recording of your own goes from its folder to figures, in each form that `gaze:NAME` takes."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from avsal_jax.cli.main import main
from avsal_jax.testing.videos import moving_spot, spot_centre, write_video

FRAMES, RATE, SIZE = 50, 25, (72, 128)  # two seconds
OBSERVERS = ("ann", "bob", "eva", "tom")
PICTURES = {
    "beach.png": (30.0, 90.0),
    "street.png": (50.0, 40.0),
}  # name -> (row, column) of what is looked at
HEADER = ["stimulus", "observer", "x", "y", "start_ms", "duration_ms"]


def places(stimulus: str, seconds: float) -> tuple[float, float]:
    """Where the interesting thing is: (row, column) in pixels."""
    if stimulus in PICTURES:
        return PICTURES[stimulus]
    return spot_centre(min(FRAMES - 1, int(seconds * RATE)), count=FRAMES, height=SIZE[0], width=SIZE[1])


def write_stimuli(root: pathlib.Path) -> None:
    folder = root / "stimuli"
    folder.mkdir(parents=True)
    for name, (row, column) in PICTURES.items():
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        grey = 40 + 200 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200)
        Image.fromarray(np.repeat(grey[..., None], 3, 2).astype(np.uint8)).save(folder / name)
    write_video(folder / "spot.mp4", moving_spot(FRAMES, *SIZE), rate=RATE)


def fixation_rows() -> list[list]:
    """Four fixations of 450 ms by each observer of each stimulus, some pixels from what is interesting."""
    rng, rows = np.random.default_rng(3), []
    for stimulus in (*PICTURES, "spot.mp4", "lost.png"):
        for observer in OBSERVERS:
            for start in (0, 500, 1000, 1500):
                row, column = places(stimulus if stimulus != "lost.png" else "beach.png", start / 1e3 + 0.2)
                dy, dx = rng.normal(0, 2, 2)
                rows.append([stimulus, observer, round(column + dx, 1), round(row + dy, 1), start, 450])
    return rows


def write_fixations(root: pathlib.Path, delimiter: str = ",", decimal: str = ".", scale: float = 1) -> None:
    header = HEADER if scale == 1 else ["stimulus", "observer", "x", "y", "start_s", "duration_s"]
    with (root / "fixations.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter=delimiter)
        table.writerow(header)
        for row in [*fixation_rows(), ["beach.png", "ann", "", "", 1900, 50]]:  # the last one is damaged
            cells = [*row[:4], *(value * scale for value in row[4:])]
            table.writerow(
                [str(cell).replace(".", decimal) if i > 1 else cell for i, cell in enumerate(cells)]
            )


def write_samples(root: pathlib.Path) -> None:
    """The same fixations at 120 Hz, with a blink in each viewing and a damaged row."""
    rng = np.random.default_rng(4)
    with (root / "gaze.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["stimulus", "observer", "time_ms", "x", "y", "pupil"])
        for stimulus, observer, x, y, start, duration in fixation_rows():
            for time in np.arange(start, start + duration, 1000 / 120):
                blinks = start == 500 and 200 <= time - start < 300
                dx, dy = rng.normal(0, 0.1, 2)
                position = ("", "") if blinks else (f"{x + dx:.2f}", f"{y + dy:.2f}")
                table.writerow([stimulus, observer, f"{time:.2f}", *position, 0 if blinks else 3.1])
        table.writerow(["beach.png", "ann", "what", "1", "2", "3"])


FORMS = {
    "fixations": (write_fixations, []),
    "semicolon": (lambda root: write_fixations(root, ";", ",", 1e-3), []),
    "samples": (write_samples, ["--pixels-per-degree", "20"]),
}


def summary(folder: pathlib.Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def train(prepared: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """Trains a small network for a few steps; returns its model directory."""
    values = {
        "data.root": prepared,
        "data.sources": "(('gaze:mine',None),)",
        "data.validation": "holdout",
        "data.holdout": ".4",
        "model.visual_encoder": "{'name': 'small', 'width': .05}",
        "model.heads.saliency": "small",
    }
    settings = [f"--config.{key}={value}" for key, value in values.items()]
    assert main(["train", "--config", "vinet_synthetic:smoke", "--workdir", str(workdir), *settings]) == 0
    return workdir / "model"


@pytest.mark.parametrize("trains", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
def test_a_recording_is_prepared_trained_on_scored_and_compared(form, trains, tmp_path, capsys):
    root, (write, flags) = tmp_path / "mine", FORMS[form]
    write_stimuli(root)
    write(root)
    dataset = ["--dataset", "gaze:mine", "--root", str(root), *flags]
    prepared = tmp_path / "prepared"
    assert main(["prepare", *dataset, "--output", str(prepared), "--size", "64x96"]) == 0
    report = (prepared / "gaze-mine" / "report.md").read_text()
    assert "lost" in report and "left out" in report and "1 row" in report

    models = ["human", "human_half", "centre"]
    if trains:
        models.append(str(train(prepared, tmp_path / "run")))
    results = {}
    for model in models:
        folder = tmp_path / pathlib.Path(model).name
        main(["evaluate", *dataset, "--model", model, "--output", str(folder)])
        results[folder.name] = summary(folder)
        assert results[folder.name]["videos"] == 3 and list(results[folder.name]["not_scored"]) == ["lost"]
    nss = {name: result["metrics"]["nss"]["mean"] for name, result in results.items()}
    # All look at the same thing, which a Gaussian of 5 % of the height covers narrowly.
    assert min(nss["human"], nss["human_half"]) > 3 > nss["centre"]
    assert results["human"]["sigma"] == "5%"
    assert results["human"]["metrics"]["cc"]["mean"] is None
    assert results["human_half"]["metrics"]["cc"]["mean"] > 0.5
    folders = [str(tmp_path / name) for name in results]
    assert main(["compare", *folders, "--output", str(tmp_path / "compared")]) == 0
    assert "human (leave one out)" in capsys.readouterr().out


def test_maps_of_photographs_are_scored_though_a_stimulus_is_missing(tmp_path, capsys):
    root, maps = tmp_path / "mine", tmp_path / "maps"
    write_stimuli(root)
    write_fixations(root)
    maps.mkdir()
    Image.fromarray(np.arange(72 * 128, dtype=np.uint8).reshape(72, 128)).save(maps / "beach.png")
    dataset = ["--dataset", "gaze:mine", "--root", str(root), "--metrics", "nss"]
    output = tmp_path / "out"
    assert main(["evaluate", *dataset, "--predictions", str(maps), "--output", str(output)]) == 1
    assert summary(output)["videos"] == 1
    reasons = summary(output)["not_scored"]
    assert "lost.png has no file in stimuli/" in reasons["lost"]
    assert "expected: the map of a photograph as FOLDER/NAME.png" in reasons["street"]
    assert "map of a photograph" not in reasons["spot"]
    capsys.readouterr()
