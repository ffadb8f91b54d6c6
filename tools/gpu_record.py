"""What a case of `gpu_check.py` is given, and the file it writes as it measures."""

import dataclasses
import functools
import json
import math
import os
import pathlib
import time

import jax
import numpy as np
import peers
from measure import compare, time_in_turn

from avsal_jax.files import write_json


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
      height, width: of the frames of ViNet. multiplier: of its channels.
      batches: of the forward pass; batch: of a training step.
      seconds: that one measurement takes; repeats: measurements of each side.
      side: of the square matrices of the roof; channels, frames: of its convolution.
      steps: of the test of memory; maps: of the stream.
    """

    height: int = 224
    width: int = 384
    multiplier: float = 1.0
    batches: tuple[int, ...] = (8, 32, 1)
    batch: int = 8
    seconds: float = 0.3
    repeats: int = 7
    side: int = 8192
    channels: int = 192
    frames: int = 16
    steps: int = 200
    maps: int = 1024


REHEARSAL = Sizes(
    height=32,
    width=64,
    multiplier=1 / 16,
    batches=(1, 2),
    batch=2,
    seconds=0.0,
    repeats=3,
    side=128,
    channels=8,
    frames=4,
    steps=6,
    maps=24,
)


class Check:
    """What a case is given, and where it records what it measured.

    Attributes:
      sizes: how large everything is.
      rehearse: whether this is the small run on any machine.
      deterministic: whether XLA uses deterministic operations only.
      torch: PyTorch, or None.
    """

    def __init__(self, case: str, folder: pathlib.Path, seconds: float, rehearse: bool):
        self.sizes, self.rehearse = REHEARSAL if rehearse else Sizes(), rehearse
        self.deterministic = "deterministic_ops=true" in os.environ.get("XLA_FLAGS", "")
        self._folder, self._path = folder, folder / f"{case}.json"
        self._started, self._seconds = time.perf_counter(), seconds
        self.report = {"case": case, "complete": False, "programs": {}, "results": {}}

    @functools.cached_property
    def torch(self):
        return peers.import_torch()

    def seconds_left(self) -> float:
        """Of the time that the case has."""
        return self._seconds - (time.perf_counter() - self._started)

    def record(self, name: str, value) -> None:
        """Adds a result, and writes the file. JSON holds numbers that are not finite as text."""
        self.report["results"][name] = jax.tree.map(
            lambda leaf: str(leaf) if isinstance(leaf, float) and not math.isfinite(leaf) else leaf, value
        )
        self.write()

    def write(self) -> None:
        self.report["seconds"] = time.perf_counter() - self._started
        write_json(self._path, self.report)

    def compile(self, name: str, function, *arguments, **options):
        """Returns the compiled program of a function; records its time, its memory, and if it was cached."""
        before, started = self._programs(), time.perf_counter()
        lowered = jax.jit(function, **options).lower(*arguments)
        traced = time.perf_counter()
        program = lowered.compile()
        times = {"trace_seconds": traced - started, "compile_seconds": time.perf_counter() - traced}
        bytes_of = program.memory_analysis()
        kinds = ("argument", "output", "alias", "temp") if bytes_of is not None else ()
        sizes = {f"{kind}_bytes": getattr(bytes_of, f"{kind}_size_in_bytes") for kind in kinds}
        self.report["programs"][name] = times | sizes | {"cached": self._programs() == before}
        self.write()
        return program

    @staticmethod
    def _programs() -> int:
        folder = jax.config.jax_compilation_cache_dir
        return sum(1 for _ in pathlib.Path(folder).iterdir()) if folder and os.path.isdir(folder) else -1

    def rate(self, sides: dict, flops: float, units: float, dtype: str) -> dict:
        """Times `sides` in turn; returns `compare`'s result, with units and FLOP per second of avsal_jax.

        As in the rates that makers of processors state, a multiply-add is two FLOP.
        """
        seconds = time_in_turn(sides, self.sizes.repeats, self.sizes.seconds, peers.wait)
        result = compare(seconds, "avsal_jax")
        median, roof = result["medians"]["avsal_jax"], self._roof(dtype)
        result |= {"per_second": units / median, "flops_per_second": flops / median}
        result["share_of_roof"] = result["flops_per_second"] / roof if roof else None
        return result | self.memory()

    def plain_rate(self, call, flops: float) -> dict:
        """Times one function alone; returns seconds and FLOP per second."""
        seconds = time_in_turn({"": call}, min(5, self.sizes.repeats), self.sizes.seconds / 2, peers.wait)[""]
        return {"seconds": seconds, "flops_per_second": flops / float(np.median(seconds))}

    def _roof(self, dtype: str) -> float | None:
        """Returns the rate of matrix products in FLOP/s that the case `roof` measured."""
        path = self._folder / "roof.json"
        results = json.loads(path.read_text())["results"] if path.exists() else {}
        return results.get(f"matrix product, {dtype}", {}).get("flops_per_second")

    @staticmethod
    def memory() -> dict:
        """Returns bytes in use and their peak in this process so far, where the device counts them."""
        counts = jax.devices()[0].memory_stats() or {}
        return {name: counts[name] for name in ("bytes_in_use", "peak_bytes_in_use") if name in counts}
