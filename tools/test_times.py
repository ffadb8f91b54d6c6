"""Says where the time of the last test run went, and whether it is within a budget.

`make test` writes build/test_times.json and `make test-slow` build/test_times_slow.json (tests/times.py).
`python tools/test_times.py` prints the slowest files, tests and fixtures, and how much of each is tracing,
lowering, compiling and child processes.

`--calibrate` measures this machine by a fixed piece of work and keeps the result, before the tests, when
nothing else runs. `--budget MINUTES` then fails if the run took more than one and a half times its budget,
scaled by how much slower this machine is than the one that the budget was set on.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import time

BUILD = pathlib.Path(__file__).parents[1] / "build"
CALIBRATION = BUILD / "calibration.json"
REFERENCE_SECONDS = 5.0  # of `_work`, in two processes at once, on the two cores that the budgets were set on
_TOLERANCE = 1.5
_CAUSES = ("trace", "lower", "compile", "children")


def main(arguments: list[str] | None = None) -> int:
    flags = _parser().parse_args(arguments)
    if flags.calibrate:
        seconds = calibrated_seconds()
        BUILD.mkdir(exist_ok=True)
        CALIBRATION.write_text(json.dumps({"seconds": seconds}))
        print(f"this machine takes {seconds / REFERENCE_SECONDS:.2f} times as long as the budgets' machine")
        return 0
    run = json.loads(flags.times.read_text())
    if flags.budget is None:
        print(report(run, flags.top))
        return 0
    slowness = json.loads(CALIBRATION.read_text())["seconds"] / REFERENCE_SECONDS
    line, within = verdict(run["seconds"], flags.budget, slowness)
    print(line)
    return 0 if within else 1


def verdict(seconds: float, budget_minutes: float, slowness: float) -> tuple[str, bool]:
    """Returns a line about a run of the tests, and whether it was within its budget and half of it.

    Args:
      seconds: what the run took.
      budget_minutes: what it may take on the machine that budgets are set on.
      slowness: how many times as long this machine takes for the same work.
    """
    limit = 60 * budget_minutes * _TOLERANCE * slowness
    within = seconds <= limit
    state = "within" if within else "OVER"
    return (
        f"tests took {seconds / 60:.1f} min, {state} the limit of {limit / 60:.1f} min: "
        f"{_TOLERANCE} x the budget of {budget_minutes:g} min x {slowness:.2f} for this machine",
        within,
    )


def report(run: dict, top: int) -> str:
    """Returns tables of a run: by cause, by file, by test and by fixture, slowest first."""
    tests = {name: _row(test) for name, test in run["tests"].items()}
    files, builds = collections.defaultdict(collections.Counter), collections.defaultdict(list)
    for name, row in tests.items():
        files["all files"].update(row)
        files[name.split("::")[0]].update(row)
        for fixture, seconds in run["tests"][name]["fixtures"]:
            builds[fixture].append(seconds)
    fixtures = {
        name: {"built": len(times), "all": sum(times), "median": statistics.median(times)}
        for name, times in builds.items()
    }
    head = (
        f"{len(tests)} tests in {run['seconds'] / 60:.1f} min, by {' '.join(run['arguments']) or 'pytest'} "
        f"on {run['cores']} cores; seconds below are sums over workers, children are seconds of processor"
    )
    names = ("tests", "all", "setup", *_CAUSES, "rest")
    tables = [
        _table("file", names, _slowest(files, top + 1)),
        _table("test", names[1:], _slowest(tests, top)),
        _table("fixture", ("built", "all", "median"), _slowest(fixtures, top)),
    ]
    return "\n\n".join([head, *tables])


def calibrated_seconds() -> float:
    """Returns the time of a fixed piece of work in two processes at once, the median of three.

    The tests trace in Python and compile: so does this.
    """
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        rounds = [max(pool.map(_work, range(2))) for _ in range(4)]
    return statistics.median(rounds[1:])  # the first imports jax


def _work(_) -> float:
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp

    start = time.perf_counter()
    for width in range(8, 24):

        def network(x, width=width):
            for _ in range(6):
                x = jax.nn.relu(jnp.tanh(x @ jnp.ones((width, width))) + x)
            return x.sum()

        jax.jit(jax.grad(network)).lower(jnp.ones((4, width))).compile()
    sum(number * number % 7 for number in range(3_000_000))
    jax.clear_caches()
    return time.perf_counter() - start


def _row(test: dict) -> dict[str, float]:
    phases, causes = test["phases"], test["causes"]
    total = sum(phases.values())
    shares = {cause: causes.get(cause, 0.0) for cause in _CAUSES}
    rest = max(0.0, total - sum(shares.values()))
    return {"tests": 1, "all": total, "setup": phases.get("setup", 0.0), **shares, "rest": rest}


def _slowest(rows: dict, top: int) -> dict:
    return dict(sorted(rows.items(), key=lambda item: -item[1]["all"])[:top])


def _table(title: str, columns: tuple[str, ...], rows: dict) -> str:
    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [str(row[c]) if c in ("tests", "built") else f"{row[c]:.1f}" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=pathlib.Path, default=BUILD / "test_times.json", metavar="FILE")
    parser.add_argument("--top", type=int, default=20, help="rows of each table")
    parser.add_argument("--calibrate", action="store_true", help="measure this machine, before the tests")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="fail if the run took far longer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
