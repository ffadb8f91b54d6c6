"""The report on the time of the tests, and the budget that CI holds it to."""

import json
import subprocess
import sys

import pytest

from tests.tools import load_tool


@pytest.fixture(scope="module")
def tool():
    return load_tool("test_times")


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


def measured(folder, root, source):
    """Runs tests in a process of its own; returns what it printed, and the times."""
    (folder / "test_measured.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.times", "-n", "1", "--rootdir", folder]
    command += ["--times", folder / "times.json", folder / "test_measured.py"]
    process = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True, timeout=120)
    return process.stdout, json.loads((folder / "times.json").read_text())


@pytest.mark.slow
def test_a_run_is_measured(tests_dir, tmp_path):
    output, run = measured(tmp_path, tests_dir.parent, MEASURED)
    assert "2 passed" in output
    compiles, starts = run["tests"].values()
    assert run["seconds"] > sum(sum(test["phases"].values()) for test in (compiles, starts)) > 0
    assert [name for name, _ in compiles["fixtures"]] == ["test_measured.py::program"]
    assert compiles["causes"]["trace"] > 0 and compiles["causes"]["compile"] > 0
    assert starts["causes"]["children"] > 0 and compiles["outcome"] == starts["outcome"] == "passed"


@pytest.mark.slow
def test_a_worker_that_crashes_is_reported_with_its_test(tests_dir, tmp_path):
    source = "import os\n\ndef test_crashes():\n    os.abort()\n\ndef test_passes():\n    pass\n"
    output, run = measured(tmp_path, tests_dir.parent, source)
    assert "crashed while running 'test_measured.py::test_crashes'" in output
    assert "1 failed, 1 passed" in output and len(run["tests"]) == 2
