"""1, 2 and 4 devices, two processes of SLURM, a resume on other devices, and pmap give the same losses."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from avsal_jax.testing.interruptions import free_address
from avsal_jax.training.objectives import Supervised
from avsal_jax.training.optimizers import make_optimizer
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.step import make_step
from avsal_jax.training.train import Trainer
from tests.test_cluster import slurm

pytestmark = pytest.mark.xdist_group("devices")  # `runs` is made once

DRIVER = pathlib.Path(__file__).parent / "driver.py"
# Relative, of losses: rounding of 1e-7 grew to 1.4e-6 in ten steps (measured with SSE4.2).
# Other clips, or statistics of a part of the batch, change them by per cents.
GROWN = 1e-4
STEPS = {"steps": 10, "evaluation__every": 5, "save_every": 5}


def start(jobs, devices, **environment):
    env = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, str(DRIVER), json.dumps(jobs)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def job(config, workdir, devices=None, after=None):
    return {"config": config, "workdir": str(workdir), "devices": devices, "after": after and str(after)}


def finish(processes):
    """Waits for all; none outlives a failure."""
    try:
        texts = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text
    return texts


def losses(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    train = [r["loss"] for r in rows if "loss" in r]
    validation = [r["val/cc"] for r in rows if "val/cc" in r]
    assert len(train) == 10 and len(validation) == 2
    return train[:5], train[5:], validation


def speeds(workdir):
    records = read_metrics(workdir / "metrics.jsonl")
    return [r["steps_per_second"] for r in records if "loss" in r][5:]


@pytest.fixture(scope="module")
def runs(values, tmp_path_factory):
    """Workdirs: `2`, `1` and `4` from the beginning; `2-1` and `2-4`, which resumed from step 5 of `2`."""
    folder, config = tmp_path_factory.mktemp("runs"), values(**STEPS)
    jobs = [job(config, folder / str(devices), devices) for devices in (2, 1, 4)]
    jobs += [job(config, folder / f"2-{devices}", devices, folder / "2") for devices in (1, 4)]
    (text,) = finish([start(jobs, 4)])
    assert text.count("restored step 5 of") == 2
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_the_number_of_devices_changes_nothing(runs, devices):
    """From the beginning, and when a run on two devices resumes on another number after five steps."""
    expected = losses(runs / "2")
    np.testing.assert_allclose(losses(runs / str(devices))[0], expected[0], rtol=GROWN)
    resumed = losses(runs / f"2-{devices}")
    assert resumed[0] == expected[0]  # which are on record
    np.testing.assert_allclose(resumed[1], expected[1], rtol=GROWN)
    assert speeds(runs / f"2-{devices}") != speeds(runs / "2")  # these steps were computed again


@pytest.mark.slow
def test_two_processes_of_slurm_are_as_one_with_two_devices(values, runs, tmp_path):
    port = {"JAX_COORDINATOR_PORT": free_address().rpartition(":")[2]}
    jobs = [job(values(**STEPS), tmp_path / "w")]
    texts = finish([start(jobs, 1, **slurm(index), **port) for index in range(2)])
    for process_losses, expected in zip(losses(tmp_path / "w"), losses(runs / "2"), strict=True):
        np.testing.assert_allclose(process_losses, expected, rtol=GROWN)
    assert "found SLURM: process 0 of 2\n" in texts[0]
    assert "2 x cpu, 2 processes" in texts[0] and "devices:" not in texts[1]  # only the first one prints them
    assert json.loads(texts[0].splitlines()[-1])["best"] and texts[1].splitlines()[-1] == "null"


@pytest.mark.slow
def test_pmap_of_the_same_step_gives_the_same(config, tmp_path):
    """With frozen batch statistics, since each device of pmap sees its own rows."""
    frozen = config(model__norm="frozen", steps=5, evaluation__every=5)
    trainer = Trainer(frozen, tmp_path / "w", lambda line: None)
    from avsal_jax.models.systems import build
    from avsal_jax.training.program import runtime_of

    network = build(trainer.program.preset, runtime_of(frozen.model))
    objective = Supervised(network, frozen.loss.terms())
    optimizer = make_optimizer(frozen.optimizer, trainer.program.shapes.params, trainer.program.total)

    def update(gradients, *args, **options):  # of the mean over the devices
        return optimizer.update(jax.lax.pmean(gradients, "devices"), *args, **options)

    averaging = optax.GradientTransformationExtraArgs(optimizer.init, update)
    step = make_step(objective, averaging, trainer.program.total, seed=0, ema=0.0)
    mapped = jax.pmap(step, axis_name="devices", in_axes=(None, 0, None))
    state = trainer.program.initial_state()
    alone = jax.tree.map(np.asarray, state)
    scale = np.float32(1)
    for batch in trainer.feed.batches("labelled", 0, 5):
        halves = {k: np.asarray(v).reshape(2, 2, *v.shape[1:]) for k, v in batch.items()}
        states, per_device = mapped(alone, {"labelled": halves}, scale)
        alone = jax.tree.map(lambda leaf: np.asarray(leaf[0]), states)
        state, values = trainer.program.step(state, {"labelled": batch}, scale)
        np.testing.assert_allclose(per_device["loss"].mean(), values["loss"], rtol=1e-5)
    for leaf, expected in zip(jax.tree.leaves(state.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-3, atol=1e-6)
