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
    modules = ("benchmark", "gpu_cases", "gpu_check", "gpu_record", "gpu_tables", "measure", "peers")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({MISSING!r}))\n"
        f"sys.path.insert(0, {str(TOOL.parent)!r})\n"
        "import avsal_jax.convert.convert, avsal_jax.inference.streaming, avsal_jax.losses\n"
        "import avsal_jax.metrics, avsal_jax.storage, avsal_jax.training.schema, avsal_jax.training.step\n"
        "import avsal_jax.training.domain_adversarial, avsal_jax.training.optimizer, avsal_jax.types\n"
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


def test_a_case_that_takes_too_long_is_stopped_and_keeps_its_results(tmp_path, monkeypatch):
    """And one that fails is named; both leave JSON that can be read."""
    tool = load_tool("gpu_check")
    monkeypatch.setattr(tool, "ROOT", root_with(tmp_path, PLAIN_CASES))
    cases = (tool.Case("slow", "never ends", 3, 1), tool.Case("bad", "fails", 20, 1))
    monkeypatch.setattr(tool, "CASES", cases)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert stop.value.code == 1
    report = json.loads((tmp_path / "out" / "slow.json").read_text())
    assert report["results"] == {"first": 1} and report["complete"] is False
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "- never ends (`slow`): stopped after 3 s; it kept 1 results" in text
    assert "- fails (`bad`): failed with exit code 1; it kept 0 results" in text
    assert "**failed**: ValueError: no such operation" in text


def test_it_ends_with_the_process_that_started_it(tmp_path):
    """A case does not hold the accelerator after its parent was killed."""
    root = root_with(tmp_path, ENDLESS_CASE)
    code = (
        f"import sys; sys.path.insert(0, {str(TOOL.parent)!r}); import gpu_check, pathlib\n"
        f"gpu_check.ROOT = pathlib.Path({str(root)!r})\n"
        "gpu_check.CASES = (gpu_check.Case('slow', 'never ends', 60, 1),)\n"
        f"sys.argv = ['gpu_check.py', '--output', {str(tmp_path / 'out')!r}]\n"
        "gpu_check.main()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    path = tmp_path / "out" / "slow.json"
    wait_for(lambda: path.exists() and json.loads(path.read_text())["results"])
    case = json.loads(path.read_text())["results"]["process"]
    parent.kill()
    parent.wait()
    wait_for(lambda: not pathlib.Path(f"/proc/{case}").exists())


# Stand in for `gpu_cases.py`: the first without jax, so that three seconds are enough; the second is the real
# one with a case more.
PLAIN_CASES = """
import json, pathlib, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[3])
report = {"case": name, "complete": False, "seconds": 0.0, "programs": {}, "results": {}}
if name == "slow":
    report["results"]["first"] = 1
else:
    report["error"] = "ValueError: no such operation"
(folder / f"{name}.json").write_text(json.dumps(report))
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
    check.put("process", os.getpid())
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
        [python, str(TOOL), "--output", str(folder), *arguments],
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
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("needs a network to install the packages of tools/gpu_image.txt")
    return str(python)


@pytest.mark.slow
def test_the_rehearsal_passes_with_what_the_machine_has(tmp_path):
    python = image_python(tmp_path / "environment")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    arguments = ("--rehearse", "--minutes", "4", "--cache", str(tmp_path / "cache"))
    result = check(tmp_path / "out", *arguments, python=python, environment=environment, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "left out: nothing"
    reports = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert len(reports) == len(load_tool("gpu_check").CASES)
    assert all(report["complete"] and report["results"] for report in reports)
    for name in ("av", "librosa", "tensorflow", "ml_collections"):
        assert subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode


@pytest.mark.slow
def test_the_rehearsal_measures_torch_too(tmp_path):
    needs.torch()
    cases = "forward_float32,train_float32"
    result = check(tmp_path, "--rehearse", "--only", cases, "--cache", str(tmp_path / "cache"), timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    forward = json.loads((tmp_path / "forward_float32.json").read_text())["results"]
    step = json.loads((tmp_path / "train_float32.json").read_text())["results"]
    pair = forward["batch 1, with torch"]
    assert set(pair["seconds"]) == {"avsal_jax", "torch, contiguous", "torch, channels-last"}
    assert 0 < max(pair["disagreement"].values()) < 1e-4 and pair["ratio"]["pairs"] == 3
    assert max(step["step, with torch"]["disagreement"].values()) < 1e-4  # of the loss of the first step


@pytest.mark.slow
def test_a_run_that_is_killed_keeps_whole_cases(tmp_path):
    arguments = [sys.executable, str(TOOL), "--output", str(tmp_path), "--rehearse", "--only", "roof,parity"]
    parent = subprocess.Popen([*arguments, "--cache", str(tmp_path / "cache")], stdout=subprocess.DEVNULL)
    wait_for((tmp_path / "summary.md").exists, 120)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    reports = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert reports["roof"]["complete"] and len(reports["roof"]["results"]) == 10
    assert reports["parity"]["complete"] is False
    assert "| matrix product, float32 | " in (tmp_path / "summary.md").read_text()
