"""The clock of the benchmarks: calls in turn, medians of paired ratios with intervals, machine, JSON.

`benchmark.py` and `gpu_check.py` measure with this module alone. It imports jax late and needs neither
TensorFlow nor PyTorch.
"""

import math
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

CONFIDENCE = 0.95  # of an interval, where there are pairs enough


def time_in_turn(
    sides: dict[str, Callable], repeats: int, seconds: float = 0.0, wait: Callable = lambda value: value
) -> dict[str, list[float]]:
    """Returns seconds a call for each side, `repeats` of them; the sides take turns.

    Every side is called twice before: the first call may compile, the second one is timed to choose how
    many calls a measurement makes.

    Args:
      sides: functions by name, without arguments.
      repeats: measurements of each side.
      seconds: a measurement makes as many calls as take about this long, and waits after the last. 0: one.
      wait: blocks until a call's result is there, for sides that return before.
    """
    calls = {}
    for name, run in sides.items():
        wait(run())
        calls[name] = max(1, round(seconds / max(_timed(run, 1, wait), 1e-9)))
    measured = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            measured[name].append(_timed(run, calls[name], wait))
    return measured


def _timed(run, calls, wait):
    started = time.perf_counter()
    for _ in range(calls):
        value = run()
    wait(value)
    return (time.perf_counter() - started) / calls


def compare(measured: dict[str, list[float]], name: str) -> dict:
    """Returns medians, and the ratio of `name` to the fastest other side (above 1: `name` is faster)."""
    medians = {side: statistics.median(values) for side, values in measured.items()}
    result = {"seconds": measured, "medians": medians}
    peers = {side: value for side, value in medians.items() if side != name}
    if peers:
        fastest = min(peers, key=peers.get)
        result["ratio"] = {"against": fastest, **paired_ratio(measured[fastest], measured[name])}
    return result


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict:
    """Returns the median of the ratios, pair by pair, with its interval.

    The interval reaches from one order statistic to another, and assumes nothing of the distribution: the
    median of all runs lies between the k-th smallest and the k-th largest of n ratios with a probability of
    1 - 2 P(Binomial(n, 1/2) < k). k is the largest with at least 95 %; below six pairs it is 1, and
    `confidence` says what that gives.
    """
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    count, rank = len(ratios), 1
    while rank < (count + 1) // 2 and _coverage(count, rank + 1) >= CONFIDENCE:
        rank += 1
    return {
        "median": statistics.median(ratios),
        "low": ratios[rank - 1],
        "high": ratios[-rank],
        "confidence": _coverage(count, rank),
        "pairs": count,
    }


def _coverage(count: int, rank: int) -> float:
    return 1 - 2 * sum(math.comb(count, k) for k in range(rank)) / 2**count


def ratio_text(ratio: dict) -> str:
    """Returns `1.25x NAME (1.16 to 1.45, 94 % confidence, 5 pairs)`."""
    return (
        f"{ratio['median']:.2f}x {ratio['against']} ({ratio['low']:.2f} to {ratio['high']:.2f}, "
        f"{ratio['confidence']:.0%} confidence, {ratio['pairs']} pairs)"
    )


def machine() -> dict:
    """Returns what a measurement depends on: devices, processor, memory, versions, driver and clocks."""
    import jax
    import jaxlib

    devices = jax.devices()
    values = {
        "device": devices[0].device_kind,
        "backend": jax.default_backend(),
        "devices": len(devices),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "memory GiB": _memory_gib(),
        "python": platform.python_version(),
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
