"""Checks and measures everything on an accelerator in a few minutes; what matters most comes first.

  python tools/gpu_check.py --output DIR [--minutes 8]
  python tools/gpu_check.py --output DIR --rehearse        # small, on any machine, about two minutes

Needs jax, flax, optax and NumPy, and no file outside the checkout. PyTorch is measured too where it is
installed. Each case runs in a process of its own with a time limit. After each case three files in DIR are
replaced: results.json (all that was measured), summary.md (its tables, for docs/performance.md) and log.txt.
The last line printed names what was left out. The exit code is 1 where a case failed or a result is out of
its bounds.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from gpu_tables import summary

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Case:
    """A case of `gpu_cases.py`.

    Attributes:
      name: as `gpu_cases.py` knows it.
      title: what it measures.
      limit_seconds: when it is stopped; results so far are kept.
      least_seconds: it is skipped when less time than this is left.
      flags: XLA flags of this case.
    """

    name: str
    title: str
    limit_seconds: float
    least_seconds: float
    flags: str = ""


# In the order of worth. Most of the time goes into compiling: eight minutes hold some 20 whole networks.
CASES = (
    Case("small", "two networks run at small size", 45, 10),
    Case("roof", "rate of plain matrix products and convolutions", 75, 15),
    Case("parity", "ViNet T32 against its golden file", 75, 20),
    Case("forward_bfloat16", "maps per second of ViNet T32, bfloat16", 120, 25),
    Case("train_bfloat16", "training steps of ViNet T32, bfloat16", 130, 40),
    Case("stream", "maps per second of the sliding window", 60, 25),
    Case("forward_float32", "maps per second of ViNet T32, float32", 60, 20),
    Case("train_float32", "training steps of ViNet T32, float32", 90, 40),
    Case("train_remat", "training with recomputed stages, bfloat16", 80, 40),
    Case("avinet_b", "AViNet(B): golden file, the host's CPU, speed", 70, 25),
    Case("casp_net", "CASP-Net: the host's CPU, speed", 70, 25),
    Case("avrsp", "AVRSP: the host's CPU, speed", 70, 25),
    Case("dual_domain", "dual domain-adversarial: the host's CPU, speed", 70, 25),
    Case("avinet_t", "AViNet(T): the host's CPU, speed", 70, 25),
    Case("repeat", "the same steps twice; memory after 200 steps", 80, 30),
    Case(
        name="repeat_deterministic",
        title="the same steps twice, with deterministic operations",
        limit_seconds=80,
        least_seconds=40,
        flags="--xla_gpu_deterministic_ops=true",
    ),
)
NOT_PLANNED = "float32 at batch 1 and 32, batches above 32, float32 with recomputed stages"
LOG_LINES = 200  # of each case, in log.txt


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all cases together")
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on any device")
    parser.add_argument("--only", help=f"cases by name, with commas: {', '.join(c.name for c in CASES)}")
    parser.add_argument(
        "--work",
        type=pathlib.Path,
        default=ROOT / "build" / "gpu-check",
        help="compiled programs, files of cases",
    )
    args = parser.parse_args()
    cases = _cases(parser, args)
    args.output.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    for case in cases:  # of an earlier run
        _file(args, case).unlink(missing_ok=True)
    reports, left_out = _run_all(cases, args)
    print((args.output / "summary.md").read_text())
    wrong = [name for name, report in reports.items() if _out_of_bounds(report)]
    wrong += [name for name, reason in left_out.items() if reason.startswith("failed")]
    for name in wrong:
        print(f"failed or out of bounds: {name}\n{_last_lines(args, name, 20)}")
    omissions = "; ".join(f"{name} ({reason})" for name, reason in left_out.items())
    print(f"not planned: {NOT_PLANNED}\nleft out: {omissions or 'nothing'}")
    sys.exit(1 if wrong else 0)


def _file(args, case: Case) -> pathlib.Path:
    return args.work / f"{case.name}.json"


def _run_all(cases: list[Case], args) -> tuple[dict[str, dict], dict[str, str]]:
    """Returns reports by case, and why some are not whole; writes the output after each case."""
    deadline, reports, left_out = time.monotonic() + 60 * args.minutes, {}, {}
    # Nothing is measured in a rehearsal, where one process compiles while another one starts.
    with concurrent.futures.ThreadPoolExecutor(2 if args.rehearse else 1) as pool:
        for case, reason in zip(cases, pool.map(lambda case: _run(case, args, deadline), cases), strict=True):
            report = _report(_file(args, case))
            if report:
                reports[case.name] = report
            if reason:
                results = f"; it kept {len(report['results'])} results" if report else ""
                left_out[case.name] = reason + results
            print(f"{case.name}: {case.title}: {reason or 'complete'}", flush=True)
            _write(args, reports, left_out)
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
    seconds = left if args.rehearse else min(case.limit_seconds, left)
    command = [sys.executable, str(ROOT / "tools" / "gpu_cases.py"), case.name, "--folder", str(args.work)]
    command += ["--seconds", str(seconds), "--end-with-parent", *(["--rehearse"] * args.rehearse)]
    with (
        open(args.work / f"{case.name}.log", "wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # which closes when this process ends, however; that ends the case
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(case, args),
            start_new_session=True,  # PyTorch's compiler starts processes, which are stopped with the case
        ) as process,
    ):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return "" if code == 0 else f"failed with exit code {code}"


def _environment(case: Case, args) -> dict[str, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        # XLA's choice of kernels is cached too, without regard to flags.
        "JAX_COMPILATION_CACHE_DIR": str(args.work / ("programs-flags" if case.flags else "programs")),
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
    results = [result for result in report["results"].values() if isinstance(result, dict)]
    return any(result.get(name) is False for result in results for name in ("within", "finite"))


def _write(args, reports: dict[str, dict], left_out: dict[str, str]) -> None:
    logs = [f"== {name}\n{_last_lines(args, name, LOG_LINES)}" for name in {**reports, **left_out}]
    content = {
        "results.json": json.dumps({"left out": left_out, "cases": reports}, indent=1) + "\n",
        "summary.md": summary(reports, {case.name: case.title for case in CASES}, left_out),
        "log.txt": "\n".join(logs) + "\n",
    }
    for name, text in content.items():
        partial = args.output / f".{name}"
        partial.write_text(text)
        partial.replace(args.output / name)


def _last_lines(args, name: str, count: int) -> str:
    path = args.work / f"{name}.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if path.exists() else ""


if __name__ == "__main__":
    main()
