"""The speed benchmark: PyTorch peers give the same output, results are kept, tables come from their files."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from avsal_jax.inference.predictor import load_model
from avsal_jax.training import recipes
from avsal_jax.training.schema import build_config
from tests import needs
from tests.tools import FOLDER, load_tool

systems, tables = load_tool("speed_systems"), load_tool("speed_tables")
ROOT = pathlib.Path(__file__).parent.parent
TITLES = {name: system.title for name, system in systems.SYSTEMS.items()}


def run_tool(name, *arguments):
    process = subprocess.run(
        [sys.executable, str(FOLDER / name), *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
@pytest.mark.parametrize("task", ["forward", "step", "predict"])
@pytest.mark.parametrize("system", ["vinet_quarter", "avinet_b", "gaze"])
def test_peers_give_the_same_output(system, task):
    """In both memory formats: logits, the loss of the first step, or maps of a video."""
    needs.torch()
    size = ("64", "96") if system == "gaze" else ("32", "64")
    options = ["--height", size[0], "--width", size[1], "--batch", "2", "--maps", "3", "--repeats", "1"]
    options += [] if system == "gaze" else ["--multiplier", "0.0625"]
    result = json.loads(run_tool("speed_case.py", system, task, *options).splitlines()[-1])
    assert result["disagreement"] < (1e-3 if task == "step" else 1e-4)
    assert set(result["seconds"]) == {"avsal_jax", "torch, contiguous", "torch, channels-last"}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_steps_of_the_gaze_peer_remain_the_same(layout, monkeypatch):
    """Losses of ten steps: gradients, clipping, groups, schedule and weight decay are those of the recipe."""
    needs.torch()
    monkeypatch.syspath_prepend(FOLDER)  # the peers are imported when they are used
    torch_side, jax_side = load_tool("torch_side"), load_tool("jax_side")
    system = systems.SYSTEMS["gaze"].resized(64, 96, step_batch=4)
    clips, side, peer = (
        systems.clips_of(system, "step"),
        jax_side.JaxSide(system),
        torch_side.TorchSide(system),
    )
    side.share_weights(peer)
    calls = side.call("step", clips, None), peer.call("step", layout, clips, None)
    losses = np.array([[float(call()) for call in calls] for _ in range(10)])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-3)
    assert losses[-1, 0] < losses[0, 0] - 0.01


@pytest.mark.slow
@pytest.mark.parametrize("side", ["avsal_jax", "torch, channels-last"])
def test_the_memory_of_one_side_is_measured_without_the_other(side):
    needs.torch()
    size = ("--height", "64", "--width", "96", "--batch", "2")
    measured = json.loads(run_tool("speed_case.py", "gaze", "step", "--memory", side, *size).splitlines()[-1])
    assert 50 < measured["base_mib"] < measured["peak_mib"]


def test_the_torch_side_does_not_import_jax():
    needs.torch()
    code = "import sys, torch_side, torch_video, torch_gaze, torch_avinet; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, env={"PYTHONPATH": str(ROOT)}, check=True)


def test_the_step_of_gaze_is_that_of_the_recipe():
    peers, jax_side = load_tool("peers"), load_tool("jax_side")
    system, config = systems.SYSTEMS["gaze"], build_config(recipes.config("gaze:clips").to_dict())
    assert peers.optimizer_of(system.training) == config.optimizer
    assert {term.name: term.weight for term in config.loss.terms()} == dict(system.training.losses)
    assert (config.steps, config.data.batch) == (system.training.steps, system.step_batch)
    assert config.data.cached_features and system.shares_features and not config.ema
    preset = jax_side.preset_of(system)
    assert preset.input == system.spec == load_model().spec
    assert preset.complete().parts == config.model.preset().complete().parts


def test_clips_of_the_systems_fit_them():
    for system in systems.SYSTEMS.values():
        spec = system.spec
        clips = systems.clips_of(system.resized(64, 96, batch=2, step_batch=3), "step")
        assert clips.frames.shape == (3, spec.frames, 64, 96, 3) and clips.frames.dtype == np.uint8
        assert (clips.audio is None) == (spec.audio is None)
        assert clips.density.shape == (3, 64, 96) and clips.fixations.any((1, 2)).all()
        assert len(clips.features) == (5 if system.network == "gaze" else 0)


RATIO = {"against": "torch, channels-last", "median": 1.25, "low": 1.2, "high": 1.31, "called": True}
LOW = {"median": 0.25, "low": 0.2, "high": 0.31}
RESULT = {
    "date": "2026-12-01",
    "medians": {
        "avsal_jax": 1.09,
        "torch, contiguous": 1.5,
        "torch, channels-last": 1.36,
        "torch, compiled": 0.25,
    },
    "ratio": RATIO,
    "ratios_apart": {
        "torch, compiled": {**RATIO, **LOW, "against": "torch, compiled", "called": False},
    },
}
MEMORY = {"avsal_jax": {"peak_mib": 1234.4}, "torch, contiguous": {"peak_mib": 900.0}}
MEMORY["torch, channels-last"] = {"error": "killed"}
REPORT = {
    "machine": {"processor": "AMD EPYC", "cores": 2, "memory GiB": 23.5, "jax": "0.10.2", "torch": "2.13.0"},
    "results": {
        "gaze": {"forward": {"date": "2026-12-02", "medians": {"avsal_jax": 0.025}}},
        "vinet": {
            "step": {**RESULT, "memory": MEMORY},
            "forward": {"date": "2026-12-01", "error": "out of memory"},
        },
    },
}


def test_the_tables_of_a_machine():
    lines = tables.tables(REPORT, {"vinet": "ViNet", "gaze": "Gaze"})
    assert lines[0] == "### AMD EPYC, 2 cores"
    assert lines[2] == "jax 0.10.2, torch 2.13.0, 23.5 GiB of memory, float32; 2026-12-01 to 2026-12-02."
    rows = [line for line in lines if line.startswith(("| ViNet", "| Gaze"))]
    assert rows == [
        "| ViNet | step | 1.09 s | 1.36 s, channels-last | 1.25 (1.20 to 1.31) "
        "| 250 ms | unclear (0.20 to 0.31) |",
        "| ViNet | forward | failed: out of memory |  |  |  |  |",
        "| Gaze | forward | 25.0 ms |  |  |  |  |",
        "| ViNet | step | 1,234 | 900 | failed |",
    ]


def test_a_page_is_rewritten_between_its_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.rewrite(page, [REPORT], {"vinet": "ViNet"})
    text = page.read_text()
    assert text.startswith(f"before\n{tables.BEGIN}\n\n### AMD EPYC") and text.endswith(
        f"{tables.END}\nafter\n"
    )
    assert "old" not in text
    tables.rewrite(page, [REPORT], {"vinet": "ViNet"})
    assert page.read_text() == text
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="needs the lines"):
        tables.rewrite(page, [], {})


def test_the_page_has_the_tables_of_the_files():
    """Run `python tools/benchmark.py table` after a measurement."""
    reports = tables.read_reports(ROOT / "docs" / "benchmarks")
    assert tables.section_of(ROOT / "docs" / "performance.md") == tables.section(reports, TITLES)


FAKE_CASE = """
import json, os, sys
if sys.argv[2] == "predict":
    sys.exit("no such video")
if "--memory" in sys.argv:
    print(json.dumps({"base_mib": 1, "peak_mib": float(os.environ["MALLOC_MMAP_THRESHOLD_"])}))
else:
    seconds = {"avsal_jax": [1.0], "torch, contiguous": [2.0]}
    malloc = os.environ["MALLOC_MMAP_MAX_"]
    print("a line before")
    print(json.dumps({"seconds": seconds, "malloc": malloc, "machine": {"cores": 2}}))
"""


def test_results_are_written_after_each_case(tmp_path, monkeypatch):
    ratios = load_tool("ratios")
    case, lines = tmp_path / "case.py", []
    case.write_text(FAKE_CASE)
    monkeypatch.setattr(ratios, "CASE", case)
    path = ratios.measure_ratios(ratios.Plan(("gaze",), ("step", "predict")), tmp_path, say=lines.append)
    report = json.loads(path.read_text())
    step = report["results"]["gaze"]["step"]
    assert step["malloc"] == "0" and step["date"] and report["machine"] == {"cores": 2}
    assert {side: row["peak_mib"] for side, row in step["memory"].items()} == {
        "avsal_jax": 1e6,
        "torch, contiguous": 1e6,
    }
    assert report["results"]["gaze"]["predict"]["error"] == "no such video"
    assert len(lines) == 2 and "failed: no such video" in lines[1]
    ratios.measure_ratios(ratios.Plan(("vinet",), ("forward",)), tmp_path, say=lines.append)
    assert set(json.loads(path.read_text())["results"]) == {"gaze", "vinet"}


@pytest.mark.slow
def test_one_command_measures_and_prints_the_table(tmp_path):
    needs.torch()
    size = ("--height", "64", "--width", "96", "--batch", "2", "--repeats", "2", "--most-repeats", "2")
    options = ("--systems", "gaze", "--what", "step", "--output", str(tmp_path))
    output = run_tool("benchmark.py", "ratios", *options, *size)
    (path,) = tmp_path.glob("*-cores.json")
    result = json.loads(path.read_text())["results"]["gaze"]["step"]
    assert result["ratio"]["pairs"] == 2 and not result["ratio"]["called"]
    assert result["disagreement"] < 1e-3 and set(result["memory"]) == set(load_tool("ratios").MEMORY_SIDES)
    assert "gaze, step: unclear: " in output and "| unclear (" in output
