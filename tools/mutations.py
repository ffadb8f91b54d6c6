"""Changes the program in small ways, one at a time, and shows which test notices each.

  python tools/mutations.py --seed 0 --count 63 --output build/mutations.json
  python tools/mutations.py --seed 0 --count 63 --output build/mutations.json --resume --again
  python tools/mutations.py --seed 0 --count 7 --area metrics

Mutants are drawn evenly over the areas (`AREAS`): a seed gives the same ones for the same source. Each is
written into a copy of the checkout, never into the checkout, and tests run there, in the order of `STEPS`:
the fast tests of the area that are named after the module, those that import it (`reach`), the area's other
fast tests, the fast tests of wider areas, the slow ones of all these. The first failure catches the mutant;
so does a run that takes longer than `--timeout`. What catches one must pass in the unchanged copy.

The file holds what is known after each mutant. `--resume` skips the mutants in it; `--again` tries those that
survived once more (after a new test). `JAX_COMPILATION_CACHE_DIR` lets the runs share compiled programs.

mutmut and cosmic-ray make mutants as well, but neither draws some by a seed, stops at a number, or runs other
tests for other modules, nearest first. With tests that take many minutes in all, the order is what decides a
mutant in seconds.
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

import mutants
import reach

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEMORY_BYTES = 12 << 30  # of each process, as a mutant may fill a list without end
STEPS = ("named", "near", "own", "wider", "slow")


@dataclasses.dataclass(frozen=True)
class Area:
    """Files that belong together.

    Attributes:
      modules: patterns of those that are changed.
      tests: patterns of the tests that are their own.
      wider: patterns of tests that use them on the way to something else.
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
        ("data/sampling.py", "data/pipeline.py"),
        ("tests/data/test_*.py",),
        ("tests/training/test_*.py",),
    ),
    "checkpointing": Area(
        ("training/checkpointing.py",),
        ("tests/training/test_*.py",),
        ("tests/test_cluster*.py", "tests/fuzz/test_*.py"),
    ),
    "convert": Area(
        ("convert/*.py",), ("tests/convert/test_*.py",), ("tests/models/test_*.py", "tests/fuzz/test_*.py")
    ),
    "protocols": Area(
        ("evaluation/protocols.py",), ("tests/evaluation/test_*.py",), ("tests/test_metrics*.py",)
    ),
    "audio": Area(
        ("data/audio.py", "data/sound_*.py", "data/log_mel.py"),
        ("tests/data/test_*.py",),
        ("tests/inference/test_*.py", "tests/fuzz/test_*.py"),
    ),
    "video": Area(
        ("data/video.py", "data/streams.py", "data/frame_times.py", "data/orientation.py"),
        ("tests/data/test_*.py",),
        ("tests/inference/test_*.py", "tests/fuzz/test_*.py"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run of tests gave.

    Attributes:
      failed: the first test that failed, or what ended the run ("hang", "exit code -11"); "" if all passed.
      reason: the first line of its error.
      seconds: of the whole run.
    """

    failed: str
    reason: str
    seconds: float


class Copy:
    """A copy of the checkout in which one module is changed at a time.

    Args:
      folder: empty; the copy is in it.
      timeout: seconds, the most that a run of tests takes.
    """

    def __init__(self, folder: pathlib.Path, timeout: float):
        self.root, self._folder, self._timeout = folder / "checkout", folder, timeout
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        code = "import avsal_jax; print(avsal_jax.__file__)"
        where = self._start([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE).communicate()[0]
        if pathlib.Path(where.strip()).parent.parent.resolve() != self.root.resolve():
            raise SystemExit(f"tests would import {where.strip()}, not the copy {self.root}")

    def write(self, module: str, source: bytes) -> None:
        """Puts a source in place of a module, and forgets what was compiled of it."""
        path = self.root / module
        path.write_bytes(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def test(self, tests: list[str], marker: str) -> Run:
        """Runs test files, or single tests, in their order, up to the first failure."""
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
        """Returns the end of what the last run printed."""
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
    """Ends a run with the processes that its tests started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_report(root: pathlib.Path, report: pathlib.Path, code: int | str, seconds: float) -> Run:
    """Returns what pytest's XML says; a run without a failure in it still fails by its exit code."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase") if report.is_file() else ():
        for problem in [*case.findall("failure"), *case.findall("error")]:
            reason = " ".join((problem.get("message") or "").split())[:160]
            return Run(_test_id(root, case.get("classname"), case.get("name")), reason, seconds)
    if code in {0, 5}:  # 5: nothing was chosen
        return Run("", "", seconds)
    return Run("hang" if code == "hang" else f"exit code {code}", "", seconds)


def _test_id(root: pathlib.Path, owner: str, name: str) -> str:
    """Returns `tests/test_a.py::Class::name` of the XML's names; the file alone if it cannot be imported."""
    file, classes = (owner or name).replace(".", "/"), []
    while "/" in file and not (root / f"{file}.py").is_file():
        file, _, inner = file.rpartition("/")
        classes.insert(0, inner)
    return "::".join([f"{file}.py", *classes, *[name] * bool(owner)])


class Trials:
    """Tries mutants in a copy.

    Args:
      copy: where.
      until: the last of `STEPS` that is tried.
    """

    def __init__(self, copy: Copy, until: str):
        self._copy, self._steps = copy, STEPS[: STEPS.index(until) + 1]
        self._imports = reach.Imports(copy.root)
        self._passed: set[tuple[str, ...]] = set()  # tests, and files, that pass without a change

    def judge(self, area: Area, module: str, mutant: mutants.Mutant) -> dict:
        """Returns what became of a mutant: `caught_by` (None if it survived), `reason`, `step`, `seconds`."""
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
        """Returns the test files of each step, the nearest and shortest first."""
        own, wider = self._files(area.tests), self._files(area.wider)
        named, near = self._imports.named(module, own), self._imports.nearest(module, own)
        choice = {"named": named, "near": near - named, "own": own - near}
        choice |= {"wider": wider - own, "slow": own | wider}
        distance = self._imports.distances(module, own | wider)
        length = {file: (self._copy.root / file).stat().st_size for file in own | wider}
        return {step: sorted(files, key=lambda f: (distance[f], length[f])) for step, files in choice.items()}

    def _files(self, patterns) -> set[str]:
        root = self._copy.root
        return {str(path.relative_to(root)) for pattern in patterns for path in root.glob(pattern)}

    def _check_unchanged(self, tests: list[str], marker: str) -> None:
        """Ends the program if what failed fails without a change too; tries it once."""
        if tuple(tests) not in self._passed:
            run = self._copy.test(tests, marker)
            if (
                run.failed == "exit code 4"
            ):  # pytest does not find a name with odd characters: all of its file
                run = self._copy.test([test.partition("::")[0] for test in tests], marker)
            if run.failed:
                message = f"{run.failed} fails without a change: {run.reason}"
                raise SystemExit(f"{message}\n{self._copy.output()}")
            self._passed.add(tuple(tests))

    def _run_changed(self, module, mutant, files, marker) -> Run:
        source = (self._copy.root / module).read_bytes()
        try:
            self._copy.write(module, mutant.applied(source))
            return self._copy.test(files, marker)
        finally:
            self._copy.write(module, source)


def drawn(areas: dict[str, Area], seed: int, count: int) -> list[tuple[str, str, mutants.Mutant]]:
    """Returns (area, module, mutant), as many of every area as of the others or one more."""
    found = []
    for place, (name, area) in enumerate(areas.items()):
        paths = sorted({path for pattern in area.modules for path in (ROOT / "avsal_jax").glob(pattern)})
        choice = {str(path.relative_to(ROOT)): mutants.mutants_of(path.read_bytes()) for path in paths}
        number = count // len(areas) + (place < count % len(areas))
        found += [(name, *one) for one in mutants.draw(choice, number, random.Random(f"{seed}/{name}"))]
    return found


def table(rows: list[dict]) -> str:
    """Returns the mutants as Markdown."""
    lines = ["| area | place | kind | from | to | caught by | seconds |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        caught = f"`{row['caught_by']}`" if row["caught_by"] else "SURVIVED"
        place = f"{row['module']}:{row['line']}"
        pairs = enumerate(zip(row["original"], row["mutant"], strict=False))
        start = max(0, next((place for place, (a, b) in pairs if a != b), 0) - 50)
        change = [_code(row[name], start) for name in ("original", "mutant")]
        texts = [row["area"], place, row["kind"], *change, caught]
        lines.append(f"| {' | '.join(texts)} | {row['seconds']} |")
    survivors = sum(not row["caught_by"] for row in rows)
    return "\n".join([*lines, "", f"{len(rows)} mutants, {survivors} survived"])


def _code(text: str, start: int, longest: int = 90) -> str:
    shown = ("..." if start else "") + text[start:]
    shown = shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
    return f"`{shown}`".replace("|", "\\|")


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
    parser.add_argument("--seed", type=int, default=0, help="decides which mutants")
    parser.add_argument("--count", type=int, default=63, help="mutants of all areas together")
    parser.add_argument("--area", choices=AREAS, action="append", help="only this one; may be repeated")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "mutations.json")
    parser.add_argument("--resume", action="store_true", help="skip the mutants that the file holds")
    parser.add_argument("--again", action="store_true", help="with --resume: try the survivors once more")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1], help="the last tests that are tried")
    parser.add_argument("--timeout", type=float, default=600, help="seconds, the most that a run takes")
    parser.add_argument("--list", action="store_true", help="print the mutants and try none")
    return parser


def main():
    args = _parser().parse_args()
    areas = {name: AREAS[name] for name in AREAS if not args.area or name in args.area}
    rows = json.loads(args.output.read_text()) if args.resume and args.output.is_file() else []
    known = {_key(row): row for row in rows}
    chosen = [
        {"area": area, "module": module, **dataclasses.asdict(mutant)}
        for area, module, mutant in drawn(areas, args.seed, args.count)
    ]
    if args.list:
        print(table([{**row, "caught_by": None, "seconds": ""} for row in chosen]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with tempfile.TemporaryDirectory(prefix="avsal_mutations_") as folder:
        trials = Trials(Copy(pathlib.Path(folder), args.timeout), args.until)
        for row in chosen:
            if (before := known.get(_key(row))) and (before["caught_by"] or not args.again):
                continue
            fields = {name: row[name] for name in mutants.Mutant.__dataclass_fields__}
            result = trials.judge(AREAS[row["area"]], row["module"], mutants.Mutant(**fields))
            known[_key(row)] = row | result
            print(table([known[_key(row)]]).splitlines()[2], flush=True)
            _write(args.output, list(known.values()))
    print("", table([known[_key(row)] for row in chosen]), sep="\n")


if __name__ == "__main__":
    main()
