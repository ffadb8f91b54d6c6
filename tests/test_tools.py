"""The benchmark runs, checks parity with its PyTorch peer, and needs no package of training or sound."""

import json
import subprocess
import sys

import pytest

from tests import needs
from tests.tools import load_tool

BLOCKED = ("tensorflow", "tensorflow_datasets", "librosa", "ml_collections", "av", "orbax", "jinja2")


def run_benchmark(tests_dir, *arguments, blocked=()):
    tools = tests_dir.parent / "tools"
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(tools)!r})\n"
        f"for name in {tuple(blocked)!r}: sys.modules[name] = None\n"
        f"sys.argv = ['benchmark.py', *{arguments!r}]\n"
        f"runpy.run_path({str(tools / 'benchmark.py')!r}, run_name='__main__')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_forward_without_torch_and_without_what_training_needs(tests_dir, tmp_path):
    size = ("--height", "32", "--width", "64", "--repeats", "2")
    table = run_benchmark(
        tests_dir, "forward", "--no-torch", *size, "--output", str(tmp_path), blocked=BLOCKED
    )
    assert "| avsal_jax |" in table and "torch" not in table
    report = json.loads((tmp_path / "forward.json").read_text())
    assert len(report["seconds"]["avsal_jax"]) == 2 and report["machine"]["jax"]


@pytest.mark.slow
def test_forward_agrees_with_its_peer(tests_dir, tmp_path):
    needs.torch()
    size = ("--height", "32", "--width", "64", "--repeats", "2")
    table = run_benchmark(tests_dir, "forward", *size, "--output", str(tmp_path))
    report = json.loads((tmp_path / "forward.json").read_text())
    assert report["disagreement"] < 1e-4 and "x torch, " in table
    assert set(report["seconds"]) == {"avsal_jax", "torch, contiguous", "torch, channels-last"}


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [False, True])
def test_the_image_encoder_agrees_with_its_peer(tests_dir, tmp_path, gradient):
    needs.torch()
    size = ("--height", "32", "--width", "64", "--repeats", "1", "--output", str(tmp_path))
    table = run_benchmark(tests_dir, "encoder", *size, *(["--gradient"] if gradient else []))
    report = json.loads((tmp_path / "encoder.json").read_text())
    assert "| avsal_jax, grouped |" in table and report["compile_seconds"] > 0
    assert gradient or report["disagreement"] < 1e-4
    assert {"torch, contiguous", "torch, channels_last"} < set(report["seconds"])


@pytest.mark.slow
def test_the_chain_prints_every_stage(tests_dir):
    table = run_benchmark(tests_dir, "chain", "--repeats", "1")
    for stage in (
        "decode",
        "resize",
        "PNG",
        "heat colours",
        "H.264",
        "whole: maps and overlay",
        "idle share",
    ):
        assert stage in table


@pytest.mark.slow
@pytest.mark.parametrize("form", ["linear", "stage"])
def test_the_interaction_of_the_finest_stage_takes_less_than_a_gibibyte(tests_dir, form):
    """Forward and gradient at 43,008 tokens of 256 channels: an L x L matrix alone would take seven."""
    row = run_interaction(tests_dir, form, "43008", "gradient", "1")
    assert row["base_mib"] < row["peak_mib"] < 1024 and row["seconds"] > 0


@pytest.mark.slow
def test_the_quadratic_interaction_of_the_finest_stage_is_refused(tests_dir):
    row = run_interaction(tests_dir, "quadratic", "43008", "forward", "1")
    assert "use the linear one" in row["refused"] and "seconds" not in row


def run_interaction(tests_dir, *arguments):
    tool = tests_dir.parent / "tools" / "interaction.py"
    process = subprocess.run(
        [sys.executable, str(tool), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_table_of_the_interaction_shows_what_is_refused():
    row = {"form": "linear", "tokens": 43_008, "pass": "forward", "base_mib": 150.0}
    rows = [
        {**row, "seconds": 0.5, "peak_mib": 440.0},
        {**row, "pass": "gradient", "seconds": 1.25, "peak_mib": 700.4},
        {**row, "form": "quadratic", "refused": "too large"},
        {**row, "form": "quadratic", "pass": "gradient", "refused": "too large"},
        {**row, "form": "casp_net", "seconds": 4.0, "peak_mib": 1752.0, "parameters": 111_721_590},
    ]
    table = load_tool("interaction").table(rows)
    assert "| linear | 43,008 | 0.500 | 440 | 1.250 | 700 |" in table
    assert "| quadratic | 43,008 | refused |  | refused |  |" in table
    assert "| casp_net | 111.7 M parameters | 4.000 | 1752 |  |  |" in table
