"""Which videos a process takes where several share the work: by `--shard`, or by the launcher's numbers."""

from __future__ import annotations

import dataclasses
import sys

from avsal_jax.runtime.cluster import find_cluster, own_gpus, share, tpu_worker


def own_shard(given: tuple[int, int] | None) -> tuple[int, int] | None:
    """Returns (I, N), this process's share of the work, from 1; None for all of it.

    Shares need no talk between processes, so none waits for another; each takes a GPU of its own.
    """
    if given is not None:
        return given
    cluster = find_cluster()
    if cluster is None:
        return None
    if cluster.count is None:
        worker = tpu_worker()
        if worker is None:  # by itself, or nothing tells
            print("note: several TPU machines share the work by --shard I/N alone", file=sys.stderr)
            return None
        cluster = dataclasses.replace(cluster, index=worker[0], count=worker[1])
    if (gpus := own_gpus(cluster)) is not None:
        import jax

        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, gpus)))
    number = cluster.index + 1
    print(f"found {cluster.kind}: share {number} of {cluster.count} is of this process", file=sys.stderr)
    return number, cluster.count


def own_inputs(inputs: dict, given: tuple[int, int] | None) -> dict:
    """Returns this process's share of inputs and their outputs, and says so where it is none."""
    own = dict(share(list(inputs.items()), own_shard(given)))
    if not own:
        print("there are more processes than inputs; nothing is left for this one", file=sys.stderr)
    return own
