"""A metric of a plugin, in every place where a metric is chosen by name."""

import json

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.data.prepared.prepare import prepare_generated
from avsal_jax.plugins import isolated, load_plugins
from avsal_jax.registry import find, origin_of
from avsal_jax.testing import fake_data
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.schema import build_config, plain_values
from avsal_jax.training.train import Trainer
from tests.extending.conftest import FOLDER

VIDEOS = ("first", "second")
MODEL = {
    "frames": 8,
    "height": 32,
    "width": 64,
    "visual_encoder": {"name": "small", "width": 1 / 64},
    "heads": {"saliency": {"name": "small"}},
}


@pytest.fixture
def sideways(plugin):
    return plugin("sideways")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    videos = [fake_data.fake_video(name, 3, (24, 32), seed=seed) for seed, name in enumerate(VIDEOS)]
    return fake_data.write_stavis(
        tmp_path_factory.mktemp("data"), "DIEM", videos, {"test": VIDEOS, "train": VIDEOS}
    )


def evaluated(root, output, model, metrics="cc,sideways"):
    arguments = ["evaluate", "--dataset", "diem", "--root", str(root), "--model", model]
    assert main([*arguments, "--metrics", metrics, "--output", str(output)]) == 0
    return output


@pytest.mark.usefixtures("sideways")
def test_its_values_are_distances():
    metric = find("metric", "sideways")
    left, right = np.zeros((2, 4, 10)), np.zeros((2, 4, 10))
    left[:, 1, 2], right[0, 3, 2], right[1, 3, 7] = 1, 5, 1
    np.testing.assert_allclose(metric.validation(left, {"density": right}), [0, 0.5], atol=1e-9)
    traced = jax.jit(metric.validation)(left.astype(np.float32), {"density": right.astype(np.float32)})
    np.testing.assert_allclose(traced, [0, 0.5], atol=1e-5)
    assert str(origin_of("metric", "sideways")) == "sideways 1.0"


@pytest.mark.usefixtures("sideways")
def test_it_is_in_the_tables_and_in_a_comparison(root, tmp_path, capsys):
    folders = [evaluated(root, tmp_path / model, model) for model in ("centre", "motion")]
    assert "| method | cc | sideways |" in capsys.readouterr().out
    assert main(["compare", *map(str, folders), "--output", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("|") for line in printed.splitlines() if line.startswith(("| centre", "| motion"))]
    assert "| method | CC | EMD-x ↓ |" in printed and "except for KL, EMD-x" in printed
    cells = [row[3].strip() for row in rows[:2]]
    assert [cell.startswith("**") for cell in cells] == [
        float(cell.strip("*")) == min(float(cell.strip("*")) for cell in cells) for cell in cells
    ]


@pytest.mark.usefixtures("sideways")
def test_a_result_states_the_version_of_the_plugin(root, tmp_path):
    part = json.loads((evaluated(root, tmp_path, "centre") / "parts" / "first.json").read_text())
    assert part["job"]["plugins"] == {"sideways": "sideways 1.0"}


def test_results_can_be_compared_without_the_plugin(root, tmp_path, capsys):
    with isolated():
        load_plugins([str(FOLDER / "sideways.py")])
        folders = [evaluated(root, tmp_path / model, model, "sideways") for model in ("centre", "motion")]
    capsys.readouterr()
    assert main(["compare", *map(str, folders), "--output", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    assert "| method | sideways |" in printed and "**" not in printed
    assert "whether more or less of sideways is better is unknown" in printed


@pytest.mark.usefixtures("sideways")
def test_training_validates_by_it(tmp_path):
    prepare_generated(
        "synthetic", {"preset": "tiny", "grade": "position"}, output=tmp_path, size=(32, 64), workers=1
    )
    values = {
        "model": MODEL,
        "data": {"root": str(tmp_path), "sources": (("synthetic", None),), "batch": 2},
        "evaluation": {"every": 1, "pictures": 0, "metric": "sideways", "metrics": ("nss",)},
        "steps": 1,
    }
    config = build_config(values)
    assert config.evaluation.mode == "min"
    assert build_config(plain_values(config)).evaluation == config.evaluation
    result = Trainer(config, tmp_path / "run", lambda line: None).run()
    (record,) = (r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "val/sideways" in r)
    assert {name for name in record if name.startswith("val/")} == {"val/loss", "val/nss", "val/sideways"}
    assert 0 < record["val/sideways"] < 1
    assert result["best"] == ("sideways", pytest.approx(record["val/sideways"]), 1)


def test_a_metric_that_validation_cannot_compute_is_refused():
    data = {"sources": (("synthetic", None),)}
    for field, value in (("metric", "auc_judd"), ("metrics", ("cc", "auc_judd"))):
        with pytest.raises(
            AvsalError, match=f"evaluation.{field} 'auc_judd' cannot be computed in validation"
        ):
            build_config({"data": data, "evaluation": {field: value}, "steps": 1})


@pytest.mark.usefixtures("sideways")
def test_an_unknown_metric_is_one_line(root, tmp_path, capsys):
    arguments = ["evaluate", "--dataset", "diem", "--root", str(root), "--model", "centre"]
    assert main([*arguments, "--metrics", "sidewys", "--output", str(tmp_path)]) == 2
    assert "avsal: unknown metric 'sidewys' (did you mean 'sideways'?)" in capsys.readouterr().err
