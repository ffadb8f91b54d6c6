"""Runs a training of the small network in a process of its own: `python driver.py JSON`."""

import json
import sys

from avsal_jax.testing.models import small_encoder
from avsal_jax.training import launch
from avsal_jax.training.schema import build_config


def main():
    job = json.loads(sys.argv[1])  # `config`, `workdir`

    def say(line):
        print(line, flush=True)

    with small_encoder():
        limits = launch.Limits(join=300, heartbeat=100, stall=900)
        cluster = launch.chosen_cluster(None, None, None)
        try:
            done = launch.train_together(build_config(job["config"]), job["workdir"], say, cluster, limits)
        except launch.Preempted as stopped:
            print(stopped, flush=True)
            sys.exit(launch.PREEMPTED)
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
