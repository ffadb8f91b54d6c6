"""Checks and measures everything on an accelerator in a few minutes; what matters most comes first.

  python tools/gpu_check.py --output DIR [--minutes 8]
  python tools/gpu_check.py --output DIR --rehearse        # small, on any machine, under two minutes

Needs jax, flax, optax and NumPy, and no file outside the checkout. PyTorch is measured too where it is
installed. Each case runs in a process of its own for at most its share of the time, and writes DIR/CASE.json
as it goes. DIR/summary.md has the tables for docs/performance.md. The last line printed names what was left
out. The exit code is 1 where a case failed or a result is out of its bounds.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

from gpu_tables import summary

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Case:
    """A case of `gpu_cases.py`.

    Attributes:
      name: of the case.
      title: what it shows.
      limit_seconds: after so long it is stopped; it keeps what it has.
      least_seconds: it is not begun with less than this left.
      flags: of XLA, for this case alone.
    """

    name: str
    title: str
    limit_seconds: float
    least_seconds: float
    flags: str = ""


# In the order of worth. Most of the time goes into compiling: eight minutes hold some 20 whole networks.
CASES = (
    Case("small", "everything runs, at small size", 90, 10),
    Case("roof", "rate of plain matrix products and convolutions", 45, 10),
    Case("parity", "ViNet T32 against its golden file", 90, 20),
    Case("forward_bfloat16", "maps a second of ViNet T32, bfloat16", 110, 25),
    Case("train_bfloat16", "training speed of ViNet T32, bfloat16", 130, 40),
    Case("stream", "maps a second of the sliding window", 60, 25),
    Case("forward_float32", "maps a second of ViNet T32, float32", 60, 20),
    Case("train_float32", "training speed of ViNet T32, float32", 90, 40),
    Case("train_remat", "training with recomputed stages, bfloat16", 80, 40),
    Case("avinet_b", "AViNet(B): golden file, the host's CPU, speed", 80, 25),
    Case("casp_net", "CASP-Net: the host's CPU, speed", 80, 25),
    Case("avrsp", "AVRSP: the host's CPU, speed", 80, 25),
    Case("dual_domain", "dual domain-adversarial: the host's CPU, speed", 80, 25),
    Case("avinet_t", "AViNet(T): the host's CPU, speed", 80, 25),
    Case("repeat", "the same steps twice; memory after 200 steps", 80, 30),
    Case(
        "repeat_deterministic",
        "the same steps twice, with deterministic operations",
        80,
        30,
        "--xla_gpu_deterministic_ops=true",
    ),
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all cases together")
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on any device")
    parser.add_argument("--only", help=f"cases by name, with commas: {', '.join(c.name for c in CASES)}")
    parser.add_argument(
        "--cache", type=pathlib.Path, default=ROOT / "build" / "gpu-check", help="of programs"
    )
    args = parser.parse_args()
    cases = _cases(parser, args)
    args.output.mkdir(parents=True, exist_ok=True)
    for case in CASES:  # of an earlier run
        (args.output / f"{case.name}.json").unlink(missing_ok=True)
    reports, left_out = _run_all(cases, args)
    print((args.output / "summary.md").read_text())
    wrong = [name for name, report in reports.items() if "error" in report or _out_of_bounds(report)]
    if wrong:
        print(f"failed or out of bounds: {', '.join(wrong)}; see DIR/CASE.log")
    omissions = "; ".join(f"{name} ({reason})" for name, reason in left_out.items())
    print(f"left out: {omissions or 'nothing'}")
    sys.exit(1 if wrong else 0)


def _run_all(cases: list[Case], args) -> tuple[dict[str, dict], dict[str, str]]:
    """Returns reports by case, and why some are not whole; writes the summary after each case."""
    deadline, reports, left_out = time.monotonic() + 60 * args.minutes, {}, {}
    # Nothing is measured in a rehearsal, where one process compiles while another one starts.
    with concurrent.futures.ThreadPoolExecutor(2 if args.rehearse else 1) as pool:
        for case, reason in zip(cases, pool.map(lambda case: _run(case, args, deadline), cases), strict=True):
            report = _report(args.output / f"{case.name}.json")
            if report:
                reports[case.name] = report
            if reason:
                results = f"; it kept {len(report['results'])} results" if report else ""
                left_out[case.name] = reason + results
            print(f"{case.name}: {case.title}: {reason or 'complete'}", flush=True)
            _write_summary(args.output, reports, left_out)
    return reports, left_out


def _cases(parser, args) -> list[Case]:
    names = [case.name for case in CASES]
    subset = args.only.split(",") if args.only else names
    for name in subset:
        if name not in names:
            parser.error(f"unknown case {name!r}; there are {', '.join(names)}")
    return [case for case in CASES if case.name in subset]


def _run(case: Case, args, deadline: float) -> str:
    """Runs a case for its time at most; returns the reason why it is not whole, or ''."""
    left = deadline - time.monotonic()
    if left < case.least_seconds:
        return f"{max(0, left):.0f} s left of the {case.least_seconds:.0f} s that it takes"
    command = [sys.executable, str(ROOT / "tools" / "gpu_cases.py"), case.name, "--folder", str(args.output)]
    seconds = left if args.rehearse else min(case.limit_seconds, left)
    with (
        open(args.output / f"{case.name}.log", "wb") as log,
        subprocess.Popen(
            command + ["--rehearse"] * args.rehearse,
            stdin=subprocess.PIPE,  # which closes when this process ends, however; that ends the case
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(case, args),
        ) as process,
    ):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            process.kill()
    return "" if code == 0 else f"failed with exit code {code}"


def _environment(case: Case, args) -> dict[str, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "JAX_COMPILATION_CACHE_DIR": str(args.cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # PyTorch needs memory in the same process
        "XLA_FLAGS": " ".join(filter(None, (os.environ.get("XLA_FLAGS"), case.flags))),
    }
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        environment["JAX_PLATFORMS"] = f"{platforms},cpu"  # systems are compared with the host's own CPU
    if args.rehearse:
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiles faster
    return environment


def _report(path: pathlib.Path) -> dict:
    """Returns what a case wrote; {} where it wrote nothing."""
    return json.loads(path.read_text()) if path.exists() else {}


def _out_of_bounds(report: dict) -> bool:
    return any(
        value.get("within") is False or value.get("finite") is False
        for name, value in report["results"].items()
        # TF32 and bfloat16 are measured against the golden file, not held to float32's bound.
        if isinstance(value, dict) and "default precision" not in name
    )


def _write_summary(folder: pathlib.Path, reports: dict[str, dict], left_out: dict[str, str]) -> None:
    text = summary(reports, {case.name: case.title for case in CASES}, left_out)
    partial = folder / ".summary.md"
    partial.write_text(text)
    partial.replace(folder / "summary.md")


if __name__ == "__main__":
    main()
