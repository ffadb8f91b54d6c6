"""Which settings make the times of PyTorch on CPU scatter: calls in several environments, in turn.

  python tools/scatter.py [--system vinet] [--task forward] [--rounds 5] [--calls 9]

Each round starts one process for each side and environment, so that a drift of the machine affects all of
them. A process makes calls until a call is not 5 % faster than the previous one, then the counted calls. The
table has the median; the spread within a process (between the quartiles, over the median); the largest over
the smallest median of the processes; page faults per call; and the number of calls before the counted ones.
`ratios.py` has the environment of the benchmark.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys

from measure import Turns, cores
from ratios import environment
from speed_case import JAX, case_system
from speed_systems import SYSTEMS, TASKS, clips_of

_MALLOC = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
_SIDES = (JAX, "torch, contiguous", "torch, channels-last")


def environments() -> dict[str, dict[str, str]]:
    """Returns environments by name; each changes one thing of the benchmark's."""
    benchmark = environment(keeps_memory=True)
    without_malloc = {name: value for name, value in benchmark.items() if name not in _MALLOC}
    twice = str(2 * cores())
    return {
        "as the benchmark": benchmark,
        "default malloc": without_malloc,
        "huge pages too": {**benchmark, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        "twice the threads": {**benchmark, "OMP_NUM_THREADS": twice, "SCATTER_THREADS": twice},
        "threads wait without spinning": {**benchmark, "OMP_WAIT_POLICY": "PASSIVE"},
        "denormal numbers": {**benchmark, "SCATTER_DENORMAL": "1"},
    }


def measure_side(system, task: str, side: str, calls: int) -> dict:
    """Returns seconds, page faults per call and warm-up times of one side in this process."""
    clips, video = clips_of(system, task), pathlib.Path()
    if side == JAX:
        import jax
        from jax_side import JaxSide

        call, wait = JaxSide(system).call(task, clips, video), jax.block_until_ready
    else:
        import torch
        import torch_side

        torch_side.use_cores(int(os.environ.get("SCATTER_THREADS", cores())))
        if os.environ.get("SCATTER_DENORMAL"):
            torch.set_flush_denormal(False)
        call = torch_side.TorchSide(system).call(task, side.removeprefix("torch, "), clips, video)

        def wait(value):
            return value

    turns = Turns({side: call}, wait=wait, until_steady=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    turns.measure(calls)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    seconds = turns.measured[side]
    return {"seconds": seconds, "faults": faults / calls, "warm_up": turns.warm_up[side]}


def table(rows: dict[tuple[str, str], list[dict]]) -> list[str]:
    """Returns the lines of a Markdown table; rows are the processes by (side, environment)."""
    lines = ["| side | environment | median s | spread | of processes | page faults | calls before |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for (side, name), processes in rows.items():
        medians = [statistics.median(process["seconds"]) for process in processes]
        spreads = [_quartile_spread(process["seconds"]) for process in processes]
        faults = statistics.median(process["faults"] for process in processes)
        warm = max(len(process["warm_up"]) for process in processes)
        lines.append(
            f"| {side} | {name} | {statistics.median(medians):.4g} | {statistics.median(spreads):.1%} | "
            f"{max(medians) / min(medians):.2f} | {faults:,.0f} | {warm} |"
        )
    return lines


def _quartile_spread(seconds: list[float]) -> float:
    low, middle, high = statistics.quantiles(seconds, n=4)
    return (high - low) / middle


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=tuple(SYSTEMS), default="vinet")
    parser.add_argument("--task", choices=TASKS[:2], default="forward")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=9)
    parser.add_argument("--sides", nargs="+", choices=_SIDES, default=_SIDES)
    parser.add_argument("--side", choices=_SIDES, help="measure one side in this process, as JSON")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure_side(case_system(args.system), args.task, args.side, args.calls)))
        return
    rows: dict[tuple[str, str], list[dict]] = {}
    options = ["--system", args.system, "--task", args.task, "--calls", str(args.calls)]
    for _ in range(args.rounds):
        for side in args.sides:
            for name, values in environments().items():
                command = [sys.executable, __file__, *options, "--side", side]
                process = subprocess.run(command, capture_output=True, text=True, check=True, env=values)
                rows.setdefault((side, name), []).append(json.loads(process.stdout.splitlines()[-1]))
    rows = {key: rows[key] for key in sorted(rows, key=lambda key: key[0])}
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
