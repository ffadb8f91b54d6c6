"""The clock of the benchmarks: calls in turn, medians of paired ratios with intervals, machine, memory.

All benchmarks measure with this module. It imports jax late and needs neither TensorFlow nor PyTorch.
"""

import dataclasses
import math
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence

CONFIDENCE = 0.95  # of an interval, if there are enough pairs
MOST_WIDTH = 0.2  # of an interval, over the median: the ratio of a wider one is not called
_STEADY_SHARE = 0.95  # a side is warm when a call takes at least this share of the previous call
_MOST_WARM_CALLS = 8


@dataclasses.dataclass(frozen=True)
class Limits:
    """How often sides are measured.

    Attributes:
      repeats: measurements of each side; more follow while the interval of the ratio is too wide.
      most_repeats: maximum number of measurements of each side.
      seconds: no further measurement starts after this time.
      call_seconds: a measurement makes as many calls as take about this long; 0: one.
    """

    repeats: int = 7
    most_repeats: int = 7
    seconds: float = math.inf
    call_seconds: float = 0.0


class Turns:
    """Sides that are measured in turn.

    Attributes:
      measured: seconds per call of each measurement, by side.
      warm_up: seconds of the calls before the first measurement, by side.

    Args:
      sides: functions by name, without arguments.
      seconds: a measurement makes as many calls as take about this long, and waits after the last. 0: one.
      wait: blocks until a call's result is available, for sides that return before.
      until_steady: whether a side is called before until a call is not 5 % faster than the previous one, 8
        times at most. Otherwise it is called twice. The first call may compile; the last one is timed to
        choose the number of calls of a measurement.
    """

    def __init__(
        self,
        sides: dict[str, Callable],
        seconds: float = 0.0,
        wait: Callable = lambda value: value,
        until_steady: bool = False,
    ):
        self._sides, self._wait = sides, wait
        self.measured: dict[str, list[float]] = {name: [] for name in sides}
        self.warm_up: dict[str, list[float]] = {}
        limit = _MOST_WARM_CALLS if until_steady else 2
        for name, run in sides.items():
            times = self.warm_up[name] = [_timed(run, 1, wait) for _ in range(2)]
            while len(times) < limit and times[-1] < _STEADY_SHARE * times[-2]:
                times.append(_timed(run, 1, wait))
        self._calls = {
            name: max(1, round(seconds / max(times[-1], 1e-9))) for name, times in self.warm_up.items()
        }

    def measure(self, repeats: int) -> None:
        """Measures every side `repeats` more times."""
        for _ in range(repeats):
            for name, run in self._sides.items():
                self.measured[name].append(_timed(run, self._calls[name], self._wait))


def time_in_turn(
    sides: dict[str, Callable], repeats: int, seconds: float = 0.0, wait: Callable = lambda value: value
) -> dict[str, list[float]]:
    """Returns seconds per call of each side, `repeats` of them, measured in turn; see `Turns`."""
    turns = Turns(sides, seconds, wait)
    turns.measure(repeats)
    return turns.measured


def time_until_clear(
    sides: dict[str, Callable],
    name: str,
    limits: Limits,
    wait: Callable = lambda value: value,
    apart: Collection[str] = (),
) -> dict:
    """Measures sides in turn until the ratio of `name` can be called, or a limit is reached.

    Returns:
      What `compare` returns, and `warm_up_seconds` by side.
    """
    started, turns = time.perf_counter(), Turns(sides, limits.call_seconds, wait, until_steady=True)
    turns.measure(limits.repeats)
    result, count = compare(turns.measured, name, apart), limits.repeats
    while (
        not result.get("ratio", {"called": True})["called"]
        and count < limits.most_repeats
        and time.perf_counter() - started < limits.seconds
    ):
        turns.measure(1)
        result, count = compare(turns.measured, name, apart), count + 1
    return {**result, "warm_up_seconds": turns.warm_up}


def _timed(run, calls, wait):
    started = time.perf_counter()
    for _ in range(calls):
        value = run()
    wait(value)
    return (time.perf_counter() - started) / calls


def compare(measured: dict[str, list[float]], name: str, apart: Collection[str] = ()) -> dict:
    """Returns medians, and the ratio of `name` to the fastest other side (above 1: `name` is faster).

    Args:
      measured: seconds by side.
      name: of the side that is compared with the others.
      apart: sides that are not candidates for the fastest one; `ratios_apart` has their ratios.
    """
    medians = {side: statistics.median(values) for side, values in measured.items()}
    result = {"seconds": measured, "medians": medians}

    def ratio(side):
        return {"against": side, **paired_ratio(measured[side], measured[name])}

    peers = {side: value for side, value in medians.items() if side != name and side not in apart}
    if peers:
        result["ratio"] = ratio(min(peers, key=peers.get))
    if present := [side for side in apart if side in measured]:
        result["ratios_apart"] = {side: ratio(side) for side in present}
    return result


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict:
    """Returns the median of the ratios, pair by pair, with its interval.

    The interval reaches from one order statistic to another, and assumes nothing of the distribution: the
    median of all runs lies between the k-th smallest and the k-th largest of n ratios with a probability of
    1 - 2 P(Binomial(n, 1/2) < k). k is the largest with at least 95 %; below six pairs it is 1, and
    `confidence` says what that gives.

    The ratio is `called` if the confidence is at least 95 % and the interval is no wider than 20 % of the
    median.
    """
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    count, rank = len(ratios), 1
    while rank < (count + 1) // 2 and _coverage(count, rank + 1) >= CONFIDENCE:
        rank += 1
    median, low, high = statistics.median(ratios), ratios[rank - 1], ratios[-rank]
    confidence = _coverage(count, rank)
    return {
        "median": median,
        "low": low,
        "high": high,
        "confidence": confidence,
        "pairs": count,
        "called": confidence >= CONFIDENCE and high - low <= MOST_WIDTH * median,
    }


def _coverage(count: int, rank: int) -> float:
    return 1 - 2 * sum(math.comb(count, k) for k in range(rank)) / 2**count


def ratio_text(ratio: dict) -> str:
    """Returns `1.25x NAME (1.20 to 1.31, 97 % confidence, 7 pairs)`, or `unclear` and the interval."""
    interval = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    pairs = f"{ratio['confidence']:.0%} confidence, {ratio['pairs']} pairs"
    if not ratio["called"]:
        return f"unclear: {interval}x {ratio['against']} ({pairs})"
    return f"{ratio['median']:.2f}x {ratio['against']} ({interval}, {pairs})"


def machine() -> dict:
    """Returns what a measurement depends on: devices, processor, memory, versions, driver and clocks."""
    import jax
    import jaxlib

    devices = jax.devices()
    values = {
        "device": devices[0].device_kind,
        "backend": jax.default_backend(),
        "devices": len(devices),
        **host(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
    }
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        values["torch"] = torch.__version__
        if torch.cuda.is_available():
            values["cuDNN of torch"] = torch.backends.cudnn.version()
            values["TF32 in cuDNN of torch"] = torch.backends.cudnn.allow_tf32
    if jax.default_backend() != "cpu":
        values["platform"] = devices[0].client.platform_version
        values |= card()
    return values


def host() -> dict:
    """Returns cores that this process may use, processor, memory and Python; without jax."""
    return {
        "cores": cores(),
        "processor": _processor(),
        "memory GiB": _memory_gib(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name(machine: dict) -> str:
    """Returns `amd-epyc-2-cores`: a file name from the values of `host`."""
    processor = re.sub(r"\((R|TM)\)|\bCPU\b|@.*", " ", machine["processor"] or "unknown")
    words = re.findall(r"[a-z0-9]+", processor.lower())
    return "-".join([*words, str(machine["cores"]), "cores"])


def peak_mib() -> float:
    """Returns the largest resident memory of this program so far, in MiB.

    On Linux from /proc: `ru_maxrss` there includes the process that started the program.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, AttributeError):
        return None


def card() -> dict:
    """Returns driver, clocks, power limit and temperature as nvidia-smi prints them; {} without an answer."""
    if shutil.which("nvidia-smi") is None:
        return {}
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        query = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return {}
    lines = query.stdout.splitlines()
    return dict(zip(fields, map(str.strip, lines[0].split(",")), strict=False)) if lines else {}


def matrix_flops(function: Callable, *arguments) -> int:
    """Returns the floating-point operations of the convolutions and matrix products of `function`.

    A multiplication and an addition are two; zeros that padding adds count. They are counted in the traced
    program, so the number is the same for every device. Where a program differs by device, the form of
    accelerators counts. A training step takes about three times its forward pass.

    Args:
      function: not jitted.
      *arguments: arrays, or `jax.ShapeDtypeStruct`.
    """
    import jax

    return _flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops_of(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            kernel, features = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec[0]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[features]
        elif name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
        elif name == "cond":  # of `lax.platform_dependent`: the last branch is the default one
            total += _flops_of(params["branches"][-1].jaxpr)
        elif name == "scan":
            total += params["length"] * _flops_of(params["jaxpr"].jaxpr)
        else:
            inner = [value for value in params.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
            total += sum(_flops_of(getattr(value, "jaxpr", value)) for value in inner)
    return total
