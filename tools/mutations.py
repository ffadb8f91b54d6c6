"""Mutation testing: makes small changes to the package, one at a time, and reports which test detects each.

  python tools/mutations.py --seed 0 --count 63 --output build/mutations.json
  python tools/mutations.py --seed 0 --count 63 --output build/mutations.json --resume --again
  python tools/mutations.py --seed 0 --count 7 --area metrics

Mutants are sampled evenly over the areas in `AREAS`. The same seed and source give the same mutants. The tool
works in a copy of the checkout and never modifies the checkout. For each mutant, it runs these tests in the
order of `STEPS`:

  named  the area's fast tests that are named after the module
  near   the area's fast tests that import the module, or otherwise the closest by imports (`reach`)
  own    the area's other fast tests
  wider  fast tests of code that uses the area
  slow   the slow tests of all of these

The first failure, or a run longer than `--timeout`, catches the mutant. The tool then runs the failed test
(after a timeout or a crash, all tests of the step) in the unchanged copy. If that fails as well, the tool
exits with an error.

The output file is updated after every mutant. `--resume` skips the mutants in it; add `--again` to retry the
survivors, for example after adding a test. Set `JAX_COMPILATION_CACHE_DIR` to share compiled programs between
runs.

mutmut and cosmic-ray also generate mutants, but neither samples a given number of them by a seed, nor chooses
tests per module and runs the nearest first. The whole test suite takes many minutes; in this order most
mutants are caught within seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import check_style
import mutants
import reach

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEMORY_BYTES = 12 << 30  # limit per process, since a mutant may append to a list in an endless loop
STEPS = ("named", "near", "own", "wider", "slow")


@dataclasses.dataclass(frozen=True)
class Area:
    """A group of modules and their tests.

    Attributes:
      modules: glob patterns of the modules to change, relative to the package.
      tests: glob patterns of the test files for these modules, relative to the checkout.
      wider: glob patterns of test files for other code that uses these modules.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    wider: tuple[str, ...]


AREAS = {
    "ops": Area(
        ("ops/*.py",), ("tests/ops/test_*.py",), ("tests/models/test_*.py", "tests/test_metrics*.py")
    ),
    "metrics": Area(
        ("metrics/*.py",),
        ("tests/test_metrics*.py", "tests/metrics/test_*.py"),
        ("tests/evaluation/test_*.py",),
    ),
    "windows": Area(
        ("inference/windows.py", "inference/streaming.py"),
        ("tests/inference/test_*.py",),
        ("tests/models/test_*.py", "tests/evaluation/test_*.py"),
    ),
    "sampling": Area(
        ("data/prepared/sampling.py", "data/prepared/pipeline.py"),
        ("tests/data/test_*.py", "tests/synthetic/test_*.py"),
        ("tests/training/test_*.py",),
    ),
    "checkpointing": Area(
        ("training/checkpointing.py",),
        ("tests/training/test_*.py",),
        ("tests/test_cluster*.py", "tests/fuzz/test_*.py"),
    ),
    "convert": Area(
        ("convert/*.py", "convert/tables/*.py"),
        ("tests/convert/test_*.py",),
        ("tests/models/test_*.py", "tests/fuzz/test_*.py"),
    ),
    "protocols": Area(
        ("evaluation/protocols.py",), ("tests/evaluation/test_*.py",), ("tests/test_metrics*.py",)
    ),
    "audio": Area(
        (
            "media/audio.py",
            "media/clip_sound.py",
            "media/sound_*.py",
            "spec/log_mel.py",
            "spec/front_ends.py",
        ),
        ("tests/media/test_*.py", "tests/spec/test_*.py"),
        ("tests/inference/test_*.py", "tests/fuzz/test_*.py"),
    ),
    "video": Area(
        ("media/video.py", "media/streams.py", "media/frame_times.py", "media/orientation.py"),
        ("tests/media/test_*.py",),
        ("tests/inference/test_*.py", "tests/fuzz/test_*.py"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of a test run.

    Attributes:
      failed: the first test that failed, or how the run ended ("hang", "exit code -11"); "" if all passed.
      reason: the beginning of the error message.
      seconds: the duration of the run.
    """

    failed: str
    reason: str
    seconds: float


class Copy:
    """A copy of the checkout in which one module at a time is changed.

    Args:
      folder: an empty folder for the copy, the test reports and temporary files.
      timeout: the maximum duration of a test run, in seconds.
    """

    def __init__(self, folder: pathlib.Path, timeout: float):
        self.root, self._folder, self._timeout = folder / "checkout", folder, timeout
        for name in check_style.list_files(ROOT):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.root / name)
        code = "import avsal_jax; print(avsal_jax.__file__)"
        process = self._start([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE)
        package = process.communicate()[0].strip()
        if pathlib.Path(package).parent.parent.resolve() != self.root.resolve():
            raise SystemExit(f"tests would import {package}, not the copy {self.root}")

    def write(self, module: str, source: bytes) -> None:
        """Overwrites a module with `source` and deletes its cached bytecode."""
        path = self.root / module
        path.write_bytes(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def test(self, tests: list[str], marker: str) -> Run:
        """Runs test files or single tests in the given order; stops at the first failure."""
        report = self._folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", marker]
        command += ["--basetemp", str(self._folder / "tests"), f"--junitxml={report}"]
        started = time.monotonic()
        with open(self._folder / "output.txt", "w") as output:
            process = self._start([*command, *tests], self.root, output)
            try:
                code = process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                code = "hang"
            finally:
                _end(process)
        return _read_report(self.root, report, code, time.monotonic() - started)

    def output(self) -> str:
        """Returns the last 3000 characters that the latest run printed."""
        return (self._folder / "output.txt").read_text(errors="replace")[-3000:]

    def _start(self, command, cwd, stdout) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _end(process: subprocess.Popen) -> None:
    """Kills a test run and all processes that its tests started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_report(root: pathlib.Path, report: pathlib.Path, code: int | str, seconds: float) -> Run:
    """Returns the first failure in pytest's XML report; if it contains none, the exit code decides."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase") if report.is_file() else ():
        for problem in [*case.findall("failure"), *case.findall("error")]:
            reason = " ".join((problem.get("message") or "").split())[:160]
            return Run(_test_id(root, case.get("classname"), case.get("name")), reason, seconds)
    if code in {0, 5}:  # 5: pytest collected no tests
        return Run("", "", seconds)
    return Run("hang" if code == "hang" else f"exit code {code}", "", seconds)


def _test_id(root: pathlib.Path, owner: str, name: str) -> str:
    """Converts names of the XML report to `tests/test_a.py::Class::name`; only the file for import errors."""
    file, classes = (owner or name).replace(".", "/"), []
    while "/" in file and not (root / f"{file}.py").is_file():
        file, _, inner = file.rpartition("/")
        classes.insert(0, inner)
    return "::".join([f"{file}.py", *classes, *[name] * bool(owner)])


class Trials:
    """Tests mutants in a copy of the checkout.

    Args:
      copy: the copy.
      until: the last entry of `STEPS` to run.
    """

    def __init__(self, copy: Copy, until: str):
        self._copy, self._steps = copy, STEPS[: STEPS.index(until) + 1]
        self._imports = reach.Imports(copy.root)
        self._passed: set[tuple[str, ...]] = set()  # tests and files that pass in the unchanged copy

    def judge(self, area: Area, module: str, mutant: mutants.Mutant) -> dict:
        """Tests a mutant and returns `caught_by` (None if it survived), `reason`, `step` and `seconds`."""
        tests = self._tests(area, module)
        seconds = 0.0
        for step in self._steps:
            if not tests[step]:
                continue
            marker = "slow" if step == "slow" else "not slow"
            run = self._run_changed(module, mutant, tests[step], marker)
            seconds += run.seconds
            if run.failed:
                self._check_unchanged([run.failed] if ".py" in run.failed else tests[step], marker)
                break
        caught_by, reason = run.failed or None, run.reason
        return {"caught_by": caught_by, "reason": reason, "step": step, "seconds": round(seconds, 1)}

    def _tests(self, area, module) -> dict[str, list[str]]:
        """Returns the test files of each step, sorted by distance from the module, then by size."""
        area_tests, wider_tests = self._files(area.tests), self._files(area.wider)
        namesakes = self._imports.namesakes(module, area_tests)
        nearest = self._imports.nearest(module, area_tests)
        choice = {"named": namesakes, "near": nearest - namesakes, "own": area_tests - nearest}
        choice |= {"wider": wider_tests - area_tests, "slow": area_tests | wider_tests}
        distance = self._imports.distances(module, area_tests | wider_tests)
        length = {file: (self._copy.root / file).stat().st_size for file in area_tests | wider_tests}
        return {step: sorted(files, key=lambda f: (distance[f], length[f])) for step, files in choice.items()}

    def _files(self, patterns) -> set[str]:
        root = self._copy.root
        return {str(path.relative_to(root)) for pattern in patterns for path in root.glob(pattern)}

    def _check_unchanged(self, tests: list[str], marker: str) -> None:
        """Exits with an error if the tests also fail without a mutant; each list of tests is checked once."""
        if tuple(tests) not in self._passed:
            run = self._copy.test(tests, marker)
            if run.failed == "exit code 4":  # pytest rejects some special characters in names: run the file
                run = self._copy.test([test.partition("::")[0] for test in tests], marker)
            if run.failed:
                message = f"{run.failed} also fails in the unchanged copy: {run.reason}"
                raise SystemExit(f"{message}\n{self._copy.output()}")
            self._passed.add(tuple(tests))

    def _run_changed(self, module, mutant, files, marker) -> Run:
        source = (self._copy.root / module).read_bytes()
        try:
            self._copy.write(module, mutant.applied(source))
            return self._copy.test(files, marker)
        finally:
            self._copy.write(module, source)


def draw_mutants(areas: dict[str, Area], seed: int, count: int) -> list[tuple[str, str, mutants.Mutant]]:
    """Returns up to `count` triples (area, module, mutant); `count` is divided evenly among the areas."""
    sample = []
    for position, (name, area) in enumerate(areas.items()):
        paths = sorted({path for pattern in area.modules for path in (ROOT / "avsal_jax").glob(pattern)})
        choice = {str(path.relative_to(ROOT)): mutants.mutants_of(path.read_bytes()) for path in paths}
        number = count // len(areas) + (position < count % len(areas))
        pairs = mutants.draw(choice, number, random.Random(f"{seed}/{name}"))
        sample += [(name, module, mutant) for module, mutant in pairs]
    return sample


def table(rows: list[dict]) -> str:
    """Returns a Markdown table of the mutants and their results."""
    lines = ["| area | place | kind | from | to | caught by | seconds |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        caught = f"`{row['caught_by']}`" if row["caught_by"] else "SURVIVED"
        place = f"{row['module']}:{row['line']}"
        pairs = enumerate(zip(row["original"], row["mutant"], strict=False))
        start = max(0, next((index for index, (a, b) in pairs if a != b), 0) - 50)
        change = [_code(row[name], start) for name in ("original", "mutant")]
        texts = [row["area"], place, row["kind"], *change, caught]
        lines.append(f"| {' | '.join(texts)} | {row['seconds']} |")
    survivors = sum(not row["caught_by"] for row in rows)
    return "\n".join([*lines, "", f"{len(rows)} mutants, {survivors} survived"])


def _code(text: str, start: int, longest: int = 90) -> str:
    excerpt = ("..." if start else "") + text[start:]
    excerpt = excerpt if len(excerpt) <= longest else f"{excerpt[: longest - 3]}..."
    return f"`{excerpt}`".replace("|", "\\|")


def _key(row: dict) -> tuple:
    return tuple(row[name] for name in ("area", "module", "start", "end", "replacement", "original"))


def _write(path: pathlib.Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(rows, indent=1))
    partial.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random sample")
    parser.add_argument("--count", type=int, default=63, help="total number of mutants to sample")
    parser.add_argument("--area", choices=AREAS, action="append", help="use only this area; repeatable")
    output = ROOT / "build" / "mutations.json"
    parser.add_argument("--output", type=pathlib.Path, default=output, help="the JSON file of results")
    parser.add_argument("--resume", action="store_true", help="skip the mutants that are in the output file")
    parser.add_argument("--again", action="store_true", help="with --resume: retry the survivors")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1], help="the last group of tests to run")
    parser.add_argument("--timeout", type=float, default=600, help="maximum seconds per test run")
    parser.add_argument("--list", action="store_true", help="print the mutants without testing them")
    return parser


def main():
    args = _parser().parse_args()
    areas = {name: AREAS[name] for name in AREAS if not args.area or name in args.area}
    rows = json.loads(args.output.read_text()) if args.resume and args.output.is_file() else []
    results = {_key(row): row for row in rows}
    sample = [
        {"area": area, "module": module, **dataclasses.asdict(mutant)}
        for area, module, mutant in draw_mutants(areas, args.seed, args.count)
    ]
    if args.list:
        print(table([{**row, "caught_by": None, "seconds": ""} for row in sample]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with tempfile.TemporaryDirectory(prefix="avsal_mutations_") as folder:
        trials = Trials(Copy(pathlib.Path(folder), args.timeout), args.until)
        for row in sample:
            if (before := results.get(_key(row))) and (before["caught_by"] or not args.again):
                continue
            fields = {name: row[name] for name in mutants.Mutant.__dataclass_fields__}
            result = trials.judge(AREAS[row["area"]], row["module"], mutants.Mutant(**fields))
            results[_key(row)] = row | result
            print(table([results[_key(row)]]).splitlines()[2], flush=True)
            _write(args.output, list(results.values()))
    print("", table([results[_key(row)] for row in sample]), sep="\n")


if __name__ == "__main__":
    main()
