"""The check of an accelerator: what it may import, its order and time, what it keeps when it is killed."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import needs
from tests.tools import load_tool

ROOT = pathlib.Path(__file__).parents[1]
TOOL = ROOT / "tools" / "gpu_check.py"
# What the machine with the GPU lacks, and what it would take to record a run.
MISSING = (
    *("av", "librosa", "ml_collections", "tensorflow", "tensorflow_datasets", "array_record"),
    *("importlib_resources", "tensorboard", "soxr", "soundfile"),
)


def test_its_modules_need_nothing_that_the_machine_lacks():
    """Models, operations, the training step, the sliding window and the benchmark."""
    modules = ("benchmark", "gpu_cases", "gpu_check", "gpu_parity", "gpu_record", "gpu_speed", "peers")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({MISSING!r}))\n"
        f"sys.path.insert(0, {str(TOOL.parent)!r})\n"
        "import avsal_jax.convert.convert, avsal_jax.inference.streaming, avsal_jax.losses\n"
        "import avsal_jax.metrics, avsal_jax.storage, avsal_jax.training.schema, avsal_jax.training.step\n"
        "import avsal_jax.training.objectives.domain_adversarial\n"
        "import avsal_jax.training.optimizers, avsal_jax.types\n"
        f"import {', '.join(modules)}\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_what_is_left_out_is_said_with_its_reason(tmp_path):
    result = check(tmp_path, "--minutes", "0")
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    assert last.startswith("left out: small (0 s left of the 10 s that it takes); roof (")
    cases = load_tool("gpu_check").CASES
    assert all(f"{case.name} (" in last for case in cases) and len(cases) > 10
    assert "nothing" not in (tmp_path / "summary.md").read_text()


def test_an_unknown_case_is_one_line_with_the_known_ones(tmp_path):
    result = check(tmp_path, "--only", "rooof")
    assert result.returncode == 2 and "unknown case 'rooof'; there are small, roof, parity" in result.stderr


def test_a_case_that_takes_too_long_is_stopped_and_keeps_its_results(tmp_path, monkeypatch, capsys):
    """And one that fails is named; both leave JSON that can be read."""
    tool = load_tool("gpu_check")
    monkeypatch.setattr(tool, "ROOT", root_with(tmp_path, PLAIN_CASES))
    cases = (
        tool.Case("slow", "never ends", 3, 1),
        tool.Case("bad", "fails", 20, 1),
        tool.Case("crash", "is killed", 20, 1),
    )
    monkeypatch.setattr(tool, "CASES", cases)
    output, work = tmp_path / "out", tmp_path / "work"
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--output", str(output), "--work", str(work)])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert stop.value.code == 1
    results = json.loads((output / "results.json").read_text())["cases"]
    assert results["slow"]["results"] == {"first": 1} and results["slow"]["complete"] is False
    text = (output / "summary.md").read_text()
    assert "- never ends (`slow`): stopped after 3 s; it kept 1 results" in text
    assert "- fails (`bad`): failed with exit code 1; it kept 0 results" in text
    assert "- is killed (`crash`): failed with exit code -6" in text
    assert "**failed**: ValueError: no such operation" in text
    assert "the last words of bad" in (output / "log.txt").read_text()
    printed = capsys.readouterr().out
    assert "failed or out of bounds: bad\nthe last words of bad\n" in printed
    assert "failed or out of bounds: crash" in printed and "of bounds: slow" not in printed


def test_a_result_out_of_its_bounds_fails_the_run():
    tool = load_tool("gpu_check")
    fine = {"within": True, "finite": True, "error_over_absmax": 0.1}
    assert not tool._out_of_bounds({"results": {"a": fine, "machine": {}, "torch": "2.11"}})
    for name in ("within", "finite"):
        assert tool._out_of_bounds({"results": {"a": fine, "b": {**fine, name: False}}})


def test_numbers_that_are_not_finite_are_in_the_tables_too():
    tables = load_tool("gpu_tables")
    result = {
        "per_second": "nan",
        "flops_per_second": "inf",
        "share_of_roof": 0.25,
        "peak_bytes_in_use": 2**30,
    }
    report = {"results": {"batch 8": result}, "programs": {"step": {"compile_seconds": 2.0, "cached": True}}}
    text = tables.summary({"a": report}, {"a": "Speed"}, {})
    row = "| batch 8 | **nan per second**; inf TFLOP/s; 25 % of the roof; peak so far 1 GiB |"
    assert row in text and "step 2.0 s (from the cache)" in text


def test_without_an_accelerator_it_fails_and_says_so(tmp_path):
    result = check(tmp_path, "--only", "small")
    assert result.returncode == 1 and "RuntimeError: jax sees no accelerator" in result.stdout


def test_it_ends_with_the_process_that_started_it(tmp_path):
    """A case does not hold the accelerator after its parent was killed."""
    root = root_with(tmp_path, ENDLESS_CASE)
    code = (
        f"import sys; sys.path.insert(0, {str(TOOL.parent)!r}); import gpu_check, pathlib\n"
        f"gpu_check.ROOT = pathlib.Path({str(root)!r})\n"
        "gpu_check.CASES = (gpu_check.Case('slow', 'never ends', 60, 1),)\n"
        f"folders = ['--output', {str(tmp_path / 'out')!r}, '--work', {str(tmp_path)!r}]\n"
        "sys.argv = ['gpu_check.py', *folders, '--rehearse']\n"
        "gpu_check.main()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    path = tmp_path / "slow.json"
    wait_for(lambda: path.exists() and json.loads(path.read_text())["results"])
    case = json.loads(path.read_text())["results"]["process"]
    parent.kill()
    parent.wait()
    wait_for(lambda: not pathlib.Path(f"/proc/{case}").exists())


# Stand in for `gpu_cases.py`: the first without jax, so that three seconds are enough; the second is the real
# one with a case more.
PLAIN_CASES = """
import json, os, pathlib, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[3])
report = {"case": name, "complete": False, "seconds": 0.0, "programs": {}, "results": {}}
if name == "crash":
    os.abort()
if name == "slow":
    report["results"]["first"] = 1
else:
    report["error"] = "ValueError: no such operation"
(folder / f"{name}.json").write_text(json.dumps(report))
print("the last words of", name, flush=True)
time.sleep(60 if name == "slow" else 0)
sys.exit(1)
"""
ENDLESS_CASE = f"""
import os, sys, time
sys.path[:0] = [{str(TOOL.parent)!r}, {str(ROOT)!r}]
import importlib.util
spec = importlib.util.spec_from_file_location("cases", {str(TOOL.parent / "gpu_cases.py")!r})
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
def slow(check):
    check.record("process", os.getpid())
    time.sleep(60)
cases.CASES["slow"] = slow
cases.main()
"""


def root_with(folder, cases):
    """Returns a root with a `tools/gpu_cases.py` of this text."""
    (folder / "tools").mkdir()
    (folder / "tools" / "gpu_cases.py").write_text(cases)
    return folder


def wait_for(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def check(folder, *arguments, python=sys.executable, environment=None, timeout=60):
    return subprocess.run(
        [python, str(TOOL), "--output", str(folder), "--work", str(folder / "work"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )


def image_python(folder):
    """Makes an environment of `tools/gpu_image.txt` alone, of Python 3.12 where there is one; or skips."""
    uv = shutil.which("uv", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("needs uv: run .venv/bin/pip install uv")
    finder = subprocess.run(
        [uv, "python", "find", "--no-python-downloads", "3.12"], capture_output=True, text=True, check=False
    )
    base = finder.stdout.strip() if finder.returncode == 0 else sys.executable
    subprocess.run([uv, "venv", "--quiet", "--python", base, str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "-r",
        str(ROOT / "tools/gpu_image.txt"),
    ]
    installation = subprocess.run(install, capture_output=True, text=True, check=False)
    if "error sending request" in installation.stderr or "Failed to fetch" in installation.stderr:
        pytest.skip("needs a network to install the packages of tools/gpu_image.txt")
    assert installation.returncode == 0, installation.stderr
    return str(python)


@pytest.mark.slow
def test_the_rehearsal_passes_with_what_the_machine_has(tmp_path):
    python = image_python(tmp_path / "environment")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    arguments = ("--rehearse", "--minutes", "8")
    result = check(tmp_path / "out", *arguments, python=python, environment=environment, timeout=540)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "left out: nothing"
    reports = results_of(tmp_path / "out")
    assert set(reports) == {case.name for case in load_tool("gpu_check").CASES}
    assert all(report["complete"] and report["results"] for report in reports.values())
    assert sum(path.is_file() for path in (tmp_path / "out").iterdir()) == 3
    for name in ("av", "librosa", "tensorflow", "ml_collections"):
        assert subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode


@pytest.mark.slow
def test_the_rehearsal_measures_torch_too(tmp_path):
    needs.torch()
    cases = "forward_float32,train_float32"
    result = check(tmp_path, "--rehearse", "--only", cases, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    forward, step = (results_of(tmp_path)[case]["results"] for case in cases.split(","))
    pair = forward["batch 1, with torch"]
    assert set(pair["seconds"]) == {"avsal_jax", "torch, contiguous", "torch, channels-last"}
    assert 0 < max(pair["disagreement"].values()) < 1e-4 and pair["ratio"]["pairs"] == 3
    assert max(step["step, with torch"]["disagreement"].values()) < 1e-4  # of the loss of the first step


@pytest.mark.slow
def test_a_run_that_is_killed_keeps_whole_cases(tmp_path):
    arguments = [sys.executable, str(TOOL), "--output", str(tmp_path), "--rehearse", "--only", "roof,parity"]
    parent = subprocess.Popen([*arguments, "--work", str(tmp_path / "work")], stdout=subprocess.DEVNULL)
    wait_for((tmp_path / "summary.md").exists, 120)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    reports = results_of(tmp_path)
    assert set(reports) == {"roof"} and reports["roof"]["complete"] and len(reports["roof"]["results"]) == 11
    assert json.loads((tmp_path / "work" / "parity.json").read_text())["complete"] is False
    assert "| matrix product, float32 | " in (tmp_path / "summary.md").read_text()


def results_of(folder):
    return json.loads((folder / "results.json").read_text())["cases"]
