"""The console line, the timer, the overview, curves, prediction pictures and the report page."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avsal_jax.errors import AvsalError
from avsal_jax.runtime.durations import duration
from avsal_jax.testing.models import tiny_stored
from avsal_jax.training.records.overview import forward_flops, overview
from avsal_jax.training.records.progress import Rates, Timer, console_line, short
from avsal_jax.training.records.reporting import prediction_picture, write_curves, write_report

RECORDS = [
    {"step": 1, "loss": 2.0, "loss/kl": 1.5, "lr": 1e-4, "waiting": 0.5},
    {"step": 2, "loss": 1.0, "loss/kl": 0.5, "lr": 1e-4, "waiting": 0.1},
    {"step": 2, "val/cc": 0.25, "val/nss": 1.0},
    {"step": 3, "loss": math.nan, "lr": 5e-5, "waiting": 0.0, "device": "cpu"},
]


def test_the_console_line_says_rate_time_left_and_waiting():
    line = console_line(120, 4000, {"loss": 1.2341, "lr": 1e-4}, Rates(12.34, 0.034, 312.2))
    assert line == "step 120/4000  loss 1.234  lr 1e-4  12.3 steps/s  eta 05:12  waiting for data 3 %"
    assert console_line(1, 9, {"loss": math.nan}, Rates(math.nan, 0.0, math.nan)) == "step 1/9  loss nan"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (-12345.6, "-1.235e+04"),
        (1.5e-5, "1.5e-5"),
        (123456, "1.235e5"),
        (1e-2, "0.01"),
    ],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_durations():
    assert [duration(s) for s in (0.4, 59.6, 3912, 176712)] == ["00:00", "01:00", "1:05:12", "2 d 01:05:12"]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_timer_leaves_out_compiling_and_pauses():
    clock = Clock()
    timer = Timer(total=30, step=10, clock=clock)
    with timer.waiting():
        clock.now += 5
    clock.now += 60  # compiling
    timer.tick(11)
    first = timer.rates()
    assert math.isnan(first.steps_per_second) and math.isnan(first.seconds_left) and first.waiting == 0
    for step in (12, 13, 14, 15):
        with timer.waiting():
            clock.now += 0.25
        clock.now += 0.75
        timer.tick(step)
    with timer.paused():
        clock.now += 8  # evaluation
    rates = timer.rates()
    assert rates.steps_per_second == pytest.approx(1.0) and rates.waiting == pytest.approx(0.25)
    assert rates.seconds_left == pytest.approx(15 * 12 / 4)  # with its pauses a step takes 3 seconds
    clock.now += 0.5
    timer.tick(16)
    rates = timer.rates()
    assert rates.steps_per_second == pytest.approx(2.0) and rates.waiting == 0
    assert rates.seconds_left == pytest.approx(14 * 12.5 / 5)


def test_the_overview_counts_parameters_by_module():
    params = {
        "visual_encoder": {"conv1": {"kernel": np.zeros((3, 4)), "norm": {"scale": np.zeros(4)}}},
        "heads": {
            "saliency": {
                "readout": {"kernel": jax.ShapeDtypeStruct((2, 2), np.float32)},
                "bias": np.zeros(()),
            }
        },
    }
    summary = overview(params, flops=5e9)
    assert (summary.arrays, summary.parameters) == (4, 21)
    assert [tuple(line.split()) for line in summary.text().splitlines()] == [
        ("module", "arrays", "parameters", "share"),
        ("visual_encoder", "2", "16", "76.2", "%"),
        ("visual_encoder/conv1", "2", "16", "76.2", "%"),
        ("heads/saliency", "2", "5", "23.8", "%"),
        ("heads/saliency/readout", "1", "4", "19.0", "%"),
        ("total", "4", "21", "100.0", "%"),
        ("forward", "pass:", "2.5", "GMAC"),
    ]
    assert overview(params, flops=5e7).work == "25.0 MMAC" and overview(params).work == ""
    assert len({len(line) for line in summary.text().splitlines()[:-1]}) == 1
    stored = tiny_stored()
    expected = sum(leaf.size for leaf in jax.tree.leaves(stored.variables["params"]))
    assert overview(stored.variables["params"]).parameters == expected


def test_flops_of_a_forward_pass():
    shape = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    weights = np.ones((16, 32), np.float32)
    assert forward_flops(lambda x, w: x @ w, shape, weights) == 2 * 8 * 16 * 32


def test_curves_are_a_png(tmp_path):
    path = tmp_path / "curves.png"
    write_curves(path, [])
    empty = np.asarray(Image.open(path))
    write_curves(path, RECORDS)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (1000, 600)
        pixels = np.asarray(image)
    # Each of the four panels has got a line, in matplotlib's first colour.
    blue = (np.abs(pixels[..., :3].astype(int) - (31, 119, 180)).sum(-1) < 30) & (pixels != empty).any(-1)
    assert all(blue[rows, columns].sum() > 20 for rows in np.s_[:300, 300:] for columns in np.s_[:500, 500:])
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    with pytest.raises(AvsalError, match="cannot write .*none/curves.png: No such file"):
        write_curves(tmp_path / "none" / "curves.png", RECORDS)


def test_predictions_are_next_to_frame_and_truth():
    frames = np.zeros((2, 20, 30, 3), np.uint8)
    frames[0], frames[1] = (200, 0, 0), (0, 0, 200)
    truths, maps = np.zeros((2, 20, 30)), np.zeros((2, 10, 15), np.float32)
    truths[0, :, 20:] = 0.001  # stretched, whatever the range
    maps[1, :5] = 7
    picture = prediction_picture(frames, truths, maps)
    assert picture.shape == (2 * 24 - 4, 3 * 34 - 4, 3) and picture.dtype == np.uint8
    assert (picture[5, 5] == (200, 0, 0)).all() and (picture[30, 5] == (0, 0, 200)).all()
    assert (picture[5, 34 + 5] == 0).all() and (picture[5, 34 + 25] == 255).all()
    assert (picture[24 + 2, 68 + 5] == 255).all() and (picture[24 + 17, 68 + 5] == 0).all()
    assert (picture[20:24] == 255).all() and (picture[:, 30:34] == 255).all()
    wide = prediction_picture(
        np.zeros((1, 72, 640, 3), np.uint8), np.zeros((1, 72, 640)), np.zeros((1, 4, 8))
    )
    assert wide.shape == (36, 3 * 324 - 4, 3)


def test_the_report_is_one_page_that_needs_nothing_else(tmp_path):
    path, curves = tmp_path / "report.html", write_curves(tmp_path / "curves.png", RECORDS)
    write_report(
        path,
        "vinet on <synthetic>",
        {"optimizer": {"name": "adam", "lr": 1e-4}, "seed": 3},
        RECORDS,
        overview({"heads": {"saliency": {"kernel": np.zeros((2, 2))}}}, flops=3e9),
        curves,
        pictures=[(2, np.zeros((10, 30, 3), np.uint8)), (3, np.zeros((10, 30, 3), np.uint8))],
        best=("cc", 0.25, 2),
        restarts=(1, 2),
        notes=[("device", "cpu")],
    )
    page = path.read_text()
    for text in (
        "vinet on &lt;synthetic&gt;",
        "3 steps; best cc 0.25 at step 2.",
        "<th>optimizer.lr</th><td>0.0001</td>",
        "<th>seed</th><td>3</td>",
        "<th>restarts</th><td>from step 1, from step 2</td>",
        "<th>best checkpoint</th><td>step 2: cc 0.25</td>",
        "<th>last loss</th><td>nan at step 3</td>",
        "<th>last val/nss</th><td>1 at step 2</td>",
        "<th>device</th><td>cpu</td>",
        "A forward pass takes 1.5 GMAC.",
        "<figcaption>step 3</figcaption>",
    ):
        assert text in page, text
    assert page.count("data:image/jpeg;base64,") == 3 and "http" not in page
    write_report(path, "short", {}, [], overview({"heads": {"saliency": {"bias": np.zeros(2)}}}), curves)
    page = path.read_text()
    assert (
        "0 steps." in page and "<th>best checkpoint</th><td>none</td>" in page and "Predictions" not in page
    )
    with pytest.raises(AvsalError, match="cannot write .*none/report.html: No such file"):
        write_report(tmp_path / "none" / "report.html", "t", {}, [], overview({}), curves)
