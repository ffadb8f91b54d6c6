"""Runs a training in a process of its own: `python driver.py JSON`, with `config`, `workdir`, `join`."""

import json
import sys

from avsal_jax.training.launch import join_processes, stop_request


def main():
    job = json.loads(sys.argv[1])
    if job.get("join"):
        join_processes(*job["join"])
    from avsal_jax.testing.models import small_encoder
    from avsal_jax.training.loop import Preempted, train
    from avsal_jax.training.schema import build_config
    from avsal_jax.training.setup import prepare_run

    with small_encoder(), stop_request() as asked:
        run = prepare_run(build_config(job["config"]), job["workdir"], lambda line: print(line, flush=True))
        try:
            print(json.dumps(train(run, asked)), flush=True)
        except Preempted as stopped:
            print(stopped, flush=True)
            sys.exit(75)


if __name__ == "__main__":
    main()
