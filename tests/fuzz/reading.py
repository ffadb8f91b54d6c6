"""What `avsal train` does with the files on the disk before its first step, without its network."""

from __future__ import annotations

import json
import pathlib

import jax
import numpy as np

from avsal_jax.data.prepared.pipeline import clip_batches, numpy_batches
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.spec.front_ends import Waveform
from avsal_jax.spec.input import InputSpec
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.records.metrics_log import MetricsLog
from avsal_jax.training.records.reporting import read_pictures, write_curves
from avsal_jax.training.workdir import Workdir
from tests.fuzz import corpus

_SPEC = InputSpec(frames=3, height=32, width=64, audio=Waveform(2_000))


def read_workdir(folder: pathlib.Path) -> None:
    """Claims a workdir, restores its last checkpoint, resumes its log, reads pictures and draws curves."""
    claim = Workdir(folder, corpus.CONFIG, True)
    checkpoints = None
    try:
        checkpoints = Checkpoints(folder / "checkpoints", metric="cc")
        step = checkpoints.latest()
        if step is None:
            raise AssertionError("the checkpoint exists, but is not listed")
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), corpus.STATE)
        state = checkpoints.restore(step, like)
        jax.tree.map(np.testing.assert_array_equal, state, corpus.STATE)
        summary = [checkpoints.meta(step), checkpoints.metrics(step), checkpoints.best()]
        records = MetricsLog(folder / "metrics.jsonl").resume(step)
        write_curves(folder / "curves.png", records)
        pictures = [(number, picture.shape) for number, picture in read_pictures(folder / "pictures", 6)]
    finally:
        if checkpoints is not None:
            checkpoints.close()
        claim.release()
    print(json.dumps([summary, records, pictures]))


def stream(prepared: pathlib.Path, output: pathlib.Path) -> None:
    """Streams two batches of clips from a prepared set and saves them."""
    videos = PreparedSources(prepared).videos([("diem", None)], "test")
    batches = list(numpy_batches(clip_batches(videos, _SPEC, 2, steps=2)))
    assert len(batches) == 2
    for batch in batches:
        for name, array in batch.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise AssertionError(f"{name} is not finite")
    output.mkdir()
    names = sorted(batches[0])
    np.savez(output / "batches.npz", **{name: np.stack([batch[name] for batch in batches]) for name in names})
