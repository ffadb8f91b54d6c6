"""Takes one training step of every row of every shipped config, at the size of `smoke`.

    python tools/smoke.py [--only vinet_dhf1k:table2]

Rows that differ only in data, rates and weights are compiled once. Prints the seconds of each row, most of
which are compilation. XLA's optimisations are mostly off, because each program runs once.
"""

import argparse
import dataclasses
import math
import pathlib
import sys
import tempfile
import time

import chex
import jax
import numpy as np

from avsal_jax.data.prepared.prepare import prepare_generated
from avsal_jax.models.systems import build
from avsal_jax.runtime.compile_cache import use_compile_cache
from avsal_jax.training import recipes
from avsal_jax.training.program import runtime_of
from avsal_jax.training.schema import TrainConfig, build_config
from avsal_jax.training.train import Trainer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME", help="rows whose CONFIG:ROW has this in it")
    only = parser.parse_args().only
    use_compile_cache()
    jax.config.update("jax_disable_most_optimizations", True)
    started, stepped, failed = time.perf_counter(), {}, 0
    with tempfile.TemporaryDirectory() as folder:
        root, target = pathlib.Path(folder) / "prepared", pathlib.Path(folder) / "prepared_b"
        prepare_generated("synthetic", {"preset": "tiny"}, output=root, size=(64, 96))
        prepare_generated("synthetic", {"preset": "tiny", "domain": "b"}, output=target, size=(64, 96))
        for name in (f"{r.name}:{row}" for r in map(recipes.recipe, recipes.shipped()) for row in r.rows):
            if only not in name:
                continue
            config = recipes.config(f"{name},smoke")
            config.data.root = str(root)
            if "root" in config.objective:
                config.objective.root = str(target)
            config = build_config(config.to_dict())
            first = stepped.setdefault(program(config), name)
            workdir = pathlib.Path(folder) / name.replace(":", "_")
            outcome = f"as {first}" if first != name else step(config, workdir)
            failed += outcome.startswith("FAILED")
            print(f"{name:<34} {outcome}", flush=True)
    print(f"{len(stepped)} programs, {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


def program(config: TrainConfig) -> tuple:
    """Returns the values that the compiled step depends on."""
    network = build(config.model.preset(), runtime_of(config.model))
    optimizer = dataclasses.replace(config.optimizer, learning_rate=1.0)
    data = {"sources": (), "root": ""}
    fields = {field.name for field in dataclasses.fields(config.objective)}
    objective = dataclasses.replace(config.objective, **{f: v for f, v in data.items() if f in fields})
    return network, config.loss.terms(), optimizer, config.data.batch, bool(config.ema), objective


def step(config: TrainConfig, workdir: pathlib.Path) -> str:
    """Takes the first step of a run; returns its loss and the seconds."""
    started = time.perf_counter()
    chex.clear_trace_counter()  # chex counts by the step's name, whichever run it belongs to
    trainer = Trainer(config, workdir, lambda line: None)
    state, _ = trainer.start()
    batches = {name: trainer.feed.batches(name, 0, 1) for name in trainer.config.objective.streams()}
    clips = {name: next(stream) for name, stream in batches.items()}
    _, values = trainer.program.step(state, clips, np.float32(1))
    loss = float(values["loss"])
    for stream in batches.values():
        stream.close()
    trainer.checkpoints.close()
    trainer.log.close()
    good = math.isfinite(loss) and int(values["failed"]) < 0
    return f"{'loss' if good else 'FAILED: loss'} {loss:.3f}, {time.perf_counter() - started:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
