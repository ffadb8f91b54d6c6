"""Ratios of speed and memory to PyTorch, by machine: the files in docs/benchmarks.

`benchmark.py ratios` runs `speed_case.py` for each system and task. Each measurement has its own process, so
that neither its memory nor its threads disturb the next one. The file of the machine is written after each of
them, and a rerun replaces the results of the systems and tasks that it measures.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from measure import cores, host, machine_name, ratio_text
from speed_case import JAX, has_compiler
from speed_systems import SYSTEMS, TASKS

from avsal_jax.files import write_json

CASE = pathlib.Path(__file__).parent / "speed_case.py"
CALL_SECONDS = 0.5  # of a measurement: short calls are repeated
MEMORY_TASKS = ("step", "predict")
MEMORY_SIDES = (JAX, "torch, contiguous", "torch, channels-last")
_SECONDS_OF_CASE = 3600  # after which a process is stopped


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
      systems: names in `speed_systems.SYSTEMS`.
      tasks: of `speed_systems.TASKS`.
      arguments: of `speed_case.py`, such as `--repeats 7`.
    """

    systems: Sequence[str] = tuple(SYSTEMS)
    tasks: Sequence[str] = TASKS
    arguments: tuple[str, ...] = ()


def environment(keeps_memory: bool) -> dict[str, str]:
    """Returns the environment of a measurement, the same for both sides.

    Args:
      keeps_memory: whether the C library keeps freed memory for the next call. Without it, it returns large
        arrays to the kernel, which clears them page by page at their next use. For peaks of memory it is
        False.
    """
    count = str(cores())
    threads = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OMP_DYNAMIC": "FALSE"}
    if not keeps_memory:
        return {**os.environ, **threads, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 46)}
    return {**os.environ, **threads, **malloc}


def measure_ratios(plan: Plan, folder: pathlib.Path, say: Callable[[str], None] = print) -> pathlib.Path:
    """Measures and returns the file of this machine; a failure is recorded, and the next case runs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine_name(host())}.json"
    report = json.loads(path.read_text()) if path.exists() else {"machine": host(), "results": {}}
    for system in plan.systems:
        for task in plan.tasks:
            started = time.perf_counter()
            result = _measure_case(plan, system, task)
            report["machine"] = result.pop("machine", report["machine"])
            report["results"].setdefault(system, {})[task] = result
            write_json(path, report)
            say(f"{system}, {task}: {_summary(result)} ({time.perf_counter() - started:.0f} s)")
    return path


def _measure_case(plan: Plan, system: str, task: str) -> dict:
    options = ["--call-seconds", str(CALL_SECONDS), *(["--compiled"] if has_compiler() else [])]
    result = _run(system, task, [*options, *plan.arguments], keeps_memory=True)
    if task in MEMORY_TASKS and "error" not in result:
        sides = [side for side in MEMORY_SIDES if side in result["seconds"]]
        result["memory"] = {
            side: _run(system, task, ["--memory", side, *plan.arguments], keeps_memory=False)
            for side in sides
        }
    return {"date": datetime.date.today().isoformat(), **result}


def _run(system: str, task: str, arguments: Sequence[str], keeps_memory: bool) -> dict:
    """Returns what `speed_case.py` prints, or its `error`."""
    command = [sys.executable, str(CASE), system, task, *arguments]
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment(keeps_memory),
            timeout=_SECONDS_OF_CASE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {_SECONDS_OF_CASE} s"}
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        return {"error": lines[-1][:300]}
    return json.loads(process.stdout.splitlines()[-1])


def _summary(result: dict) -> str:
    if "error" in result:
        return f"failed: {result['error']}"
    return ratio_text(result["ratio"]) if "ratio" in result else "without PyTorch"
