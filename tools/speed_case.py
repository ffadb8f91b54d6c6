"""Measures one task of one system, here and in PyTorch, in this process.

  python tools/speed_case.py SYSTEM TASK [--repeats N] ...
  python tools/speed_case.py SYSTEM TASK --memory SIDE

prints a JSON object as its last line: times of all sides, measured in turn; or with `--memory` the peak
memory of one side. `benchmark.py ratios` runs it once for each system and task, in the environment of
`ratios.py`.

Before the measurement both sides must give the same output: logits, the loss of the first training step, or
maps.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import shutil
import statistics
import time
from collections.abc import Callable

import numpy as np
from measure import Limits, cores, machine, peak_mib, time_in_turn, time_until_clear
from speed_systems import SYSTEMS, TASKS, System, clips_of

CLIP = pathlib.Path(__file__).parent.parent / "tests" / "media" / "big_buck_bunny_5s.mp4"
JAX = "avsal_jax"
COMPILED = "torch, compiled"
# Largest difference of logits and maps, over the largest value; and of first losses, over the loss.
BOUNDS = {"float32": (1e-4, 1e-3), "bfloat16": (0.1, 0.1)}
_MEMORY_CALLS = 2


@dataclasses.dataclass(frozen=True)
class Options:
    """How a case is measured.

    Attributes:
      limits: of the measurement.
      dtype: of the computation.
      video: of `predict`.
      with_torch: whether PyTorch is measured, if it is installed.
      compiled: whether torch.compile is measured too.
    """

    limits: Limits
    dtype: str = "float32"
    video: pathlib.Path = CLIP
    with_torch: bool = True
    compiled: bool = False


def has_compiler() -> bool:
    """Whether torch.compile has a C++ compiler."""
    return any(map(shutil.which, ("g++", "clang++")))


def measure_times(system: System, task: str, options: Options) -> dict:
    """Returns the times of all sides, the ratios, and the largest difference of their outputs.

    Raises:
      RuntimeError: the two implementations disagree.
    """
    import peers
    from jax_side import JaxSide

    clips, jax_side = clips_of(system, task), JaxSide(system, options.dtype)
    torch = peers.import_torch() if options.with_torch else None
    if torch is None:
        sides, result = {JAX: jax_side.call(task, clips, options.video)}, {}
    else:
        sides, result = _checked_sides(system, task, options, jax_side=jax_side, clips=clips)
    if hasattr(sides[JAX], "compile_seconds"):
        result["compile_seconds"] = sides[JAX].compile_seconds
    apart = [name for name in sides if name == COMPILED]
    return result | time_until_clear(sides, JAX, options.limits, peers.wait, apart)


def _checked_sides(system, task, options, jax_side, clips):
    """Returns calls by side, and what their first calls showed: their time, and how far outputs differ."""
    import jax
    import torch_side

    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        torch_side.use_cores(cores())
    peer = torch_side.TorchSide(system, options.dtype, "cpu" if on_cpu else "cuda")
    jax_side.share_weights(peer)
    call = functools.partial(peer.call, task, clips=clips, video=options.video)
    sides = {JAX: jax_side.call(task, clips, options.video)}
    sides |= {f"torch, {layout}": call(layout) for layout in torch_side.LAYOUTS}
    first = FirstCalls(task, options.dtype)
    for name, side in sides.items():
        first.make(name, side)
    if not options.compiled:
        return sides, first.result()
    layout = _faster(sides, torch_side.LAYOUTS)
    try:
        side = call(layout, compiled=True)
        first.make(COMPILED, side)
        sides[COMPILED] = side
    except Exception as error:  # the compiler needs more than PyTorch
        return sides, first.result() | {"torch.compile failed": f"{type(error).__name__}: {error}"[:300]}
    return sides, first.result() | {"layout of torch.compile": layout}


class FirstCalls:
    """The first calls of all sides, whose outputs have to be the same.

    Args:
      task: of the calls.
      dtype: of the computation; `BOUNDS` has the largest difference.
    """

    def __init__(self, task: str, dtype: str):
        self._bound = BOUNDS[dtype][task == "step"]
        self._reference: np.ndarray | None = None
        self._seconds: dict[str, float] = {}
        self._disagreements: dict[str, float] = {}

    def make(self, name: str, side: Callable) -> None:
        """Calls a side, and compares its output with that of the first one.

        Raises:
          RuntimeError: they differ.
        """
        from peers import disagreement

        started, value = time.perf_counter(), side()
        value = value.float().cpu() if hasattr(value, "cpu") else value
        output = np.asarray(value, np.float32)
        self._seconds[name] = time.perf_counter() - started
        if self._reference is None:
            self._reference = output
            return
        worst = self._disagreements[name] = disagreement(self._reference, output)
        if not worst <= self._bound:
            raise RuntimeError(f"{name} disagrees with {JAX} by {worst:.2g} of the largest value")

    def result(self) -> dict:
        """Returns the largest disagreement, and seconds of the first calls, which compile."""
        return {"disagreement": max(self._disagreements.values()), "first_call_seconds": self._seconds}


def _faster(sides, layouts) -> str:
    """Returns the layout in which PyTorch is faster."""
    medians = time_in_turn({layout: sides[f"torch, {layout}"] for layout in layouts}, 2)
    return min(layouts, key=lambda layout: statistics.median(medians[layout]))


def measure_memory(system: System, task: str, side: str, options: Options) -> dict:
    """Returns the peak memory of this process, with compilation, and the peak before the first array, in MiB.

    Args:
      system, task: the call, which is made twice.
      side: `avsal_jax`, or a form of PyTorch; the process then imports the packages of this side only.
      options: the limits are not used.
    """
    clips = clips_of(system, task)
    if side == JAX:
        import jax
        from jax_side import JaxSide

        wait = jax.block_until_ready
        wait(jax.numpy.zeros(1))
        base = peak_mib()
        call = JaxSide(system, options.dtype).call(task, clips, options.video)
    else:
        import torch_side

        torch_side.use_cores(cores())
        base, layout = peak_mib(), side.removeprefix("torch, ")
        call = torch_side.TorchSide(system, options.dtype).call(task, layout, clips, options.video)

        def wait(value):
            return value

    for _ in range(_MEMORY_CALLS):
        wait(call())
    return {"base_mib": base, "peak_mib": peak_mib()}


def case_system(name: str, **changes) -> System:
    """Returns a system of the table; `changes` that are None are ignored, as `height` and `maps`."""
    changes = {key: value for key, value in changes.items() if value is not None}
    system = SYSTEMS[name]
    size = changes.pop("height", system.spec.height), changes.pop("width", system.spec.width)
    if batch := changes.pop("batch", None):
        changes |= {"batch": batch, "step_batch": batch}
    return system.resized(*size, **changes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=tuple(SYSTEMS))
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each side, at least")
    parser.add_argument("--most-repeats", type=int, default=0, help="as long as a ratio is unclear")
    parser.add_argument("--seconds", type=float, default=300.0, help="no measurement starts after this time")
    parser.add_argument("--call-seconds", type=float, default=0.0, help="of a measurement, for short calls")
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--maps", type=int)
    parser.add_argument("--multiplier", type=float, help="of the channels")
    parser.add_argument("--video", type=pathlib.Path, default=CLIP)
    parser.add_argument("--compiled", action="store_true", help="measure torch.compile too")
    parser.add_argument("--memory", metavar="SIDE", help="measure the peak memory of one side")
    args = parser.parse_args()
    limits = Limits(args.repeats, max(args.repeats, args.most_repeats), args.seconds, args.call_seconds)
    options = Options(limits, video=args.video, compiled=args.compiled)
    changes = {name: getattr(args, name) for name in ("height", "width", "batch", "maps", "multiplier")}
    system = case_system(args.system, **changes)
    if args.memory:
        result = measure_memory(system, args.task, args.memory, options)
    else:
        result = measure_times(system, args.task, options)
        result["machine"] = machine()  # at the end: it names the PyTorch that was loaded
    print(json.dumps(result))


if __name__ == "__main__":
    main()
