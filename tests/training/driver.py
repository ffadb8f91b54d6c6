"""Runs a training in a process of its own: `python driver.py JSON`, with `config`, `workdir`, `join`."""

import json
import sys


def main():
    job = json.loads(sys.argv[1])
    if job.get("join"):
        import jax

        address, index, count = job["join"]
        jax.distributed.initialize(address, count, index, coordinator_bind_address=address)
    from avsal_jax.training.launch import stop_request
    from avsal_jax.training.loop import Preempted, train
    from avsal_jax.training.schema import build_config
    from avsal_jax.training.setup import prepare_run

    run = prepare_run(build_config(job["config"]), job["workdir"], lambda line: print(line, flush=True))
    try:
        with stop_request() as asked:
            print(json.dumps(train(run, asked)), flush=True)
    except Preempted as stopped:
        print(stopped, flush=True)
        sys.exit(75)


if __name__ == "__main__":
    main()
