"""The report on the time of the tests, and the budget that CI holds it to."""

import importlib.util
import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def tool(tests_dir):
    spec = importlib.util.spec_from_file_location("report", tests_dir.parent / "tools" / "test_times.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("seconds", "slowness", "within"),
    [(899, 1.0, True), (901, 1.0, False), (1799, 2.0, True), (1801, 2.0, False), (451, 0.5, False)],
)
def test_a_budget_is_exceeded_by_half_on_a_machine_of_any_speed(tool, seconds, slowness, within):
    line, result = tool.verdict(seconds, 10, slowness)
    assert result == within and ("OVER" in line) != within
    assert f"tests took {seconds / 60:.1f} min" in line and f"x {slowness:.2f} for this machine" in line


def test_time_is_split_by_file_cause_and_fixture(tool):
    run = {
        "arguments": ["-m", "not slow"],
        "cores": 2,
        "seconds": 120.0,
        "tests": {
            "tests/a.py::one": {
                "phases": {"setup": 1.0, "call": 6.0, "teardown": 0.0},
                "causes": {"trace": 1.0, "compile": 3.5, "children": 0.25},
                "fixtures": [["model", 1.0], ["clip", 0.5]],
            },
            "tests/a.py::two": {"phases": {"call": 2.0}, "causes": {}, "fixtures": [["model", 3.0]]},
            "tests/b.py::three": {"phases": {"call": 0.5}, "causes": {}, "fixtures": []},
        },
    }
    lines = tool.report(run, top=2).splitlines()
    assert lines[0].startswith("3 tests in 2.0 min, by -m not slow on 2 cores")
    assert "| all files | 3 | 9.5 | 1.0 | 1.0 | 0.0 | 3.5 | 0.2 | 4.8 |" in lines
    assert "| tests/a.py | 2 | 9.0 | 1.0 | 1.0 | 0.0 | 3.5 | 0.2 | 4.2 |" in lines
    assert "| tests/b.py | 1 | 0.5 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.5 |" in lines
    assert not any(line.startswith("| tests/b.py::three |") for line in lines)  # the two slowest
    assert "| model | 2 | 4.0 | 2.0 |" in lines


MEASURED = """
import jax, pytest, subprocess, sys

@pytest.fixture(scope="module")
def program():
    return jax.jit(lambda x: x + 1)

def test_compiles(program):
    assert program(1.0) == 2

def test_starts_a_process():
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
"""


def test_a_run_is_measured(tests_dir, tmp_path):
    (tmp_path / "test_measured.py").write_text(MEASURED)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.times", "-n", "1", "--rootdir", tmp_path]
    command += ["--times", tmp_path / "times.json", tmp_path / "test_measured.py"]
    subprocess.run(command, cwd=tests_dir.parent, check=True, capture_output=True, timeout=120)
    run = json.loads((tmp_path / "times.json").read_text())
    compiles, starts = run["tests"].values()
    assert run["seconds"] > sum(sum(test["phases"].values()) for test in (compiles, starts)) > 0
    assert [name for name, _ in compiles["fixtures"]] == ["test_measured.py::program"]
    assert compiles["causes"]["trace"] > 0 and compiles["causes"]["compile"] > 0
    assert starts["causes"]["children"] > 0 and compiles["outcome"] == starts["outcome"] == "passed"
