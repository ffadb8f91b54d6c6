"""Trains the small network in a separate process, one job after the other: `python driver.py JSON`.

JSON is a list of jobs with four fields. `config` holds the values of a config. `workdir` is the folder of the
run. `devices` is the number of devices of this process, or null to join the other processes of a cluster.
`after` is null or another workdir: the job copies it, removes the copy's last checkpoint and resumes.
"""

import json
import pathlib
import shutil
import sys

import jax

from avsal_jax.testing.interruptions import committed
from avsal_jax.testing.parts import small_parts
from avsal_jax.training import launch
from avsal_jax.training.schema import build_config
from avsal_jax.training.train import Trainer


def say(line):
    print(line, flush=True)


def do(config, workdir, devices, after):
    if after is not None:
        shutil.copytree(after, workdir)
        shutil.rmtree(pathlib.Path(workdir) / "checkpoints" / str(committed(workdir)[-1]))
    if devices is None:
        limits = launch.Limits(join=300, heartbeat=100, stall=900)
        cluster = launch.chosen_cluster(None, None, None)
        return launch.train_together(build_config(config), workdir, say, cluster, limits)
    return Trainer(build_config(config), workdir, say, devices=jax.devices()[:devices]).run()


def main():
    with small_parts():
        for job in json.loads(sys.argv[1]):
            say(json.dumps(do(**job)))


if __name__ == "__main__":
    main()
