"""Divides inputs among processes, by `--shard` or by the process numbers of a launcher."""

from __future__ import annotations

import dataclasses
import sys

from avsal_jax.runtime.cluster import find_cluster, own_gpus, share, tpu_worker


def own_shard(shard: tuple[int, int] | None) -> tuple[int, int] | None:
    """Returns (I, N), the share of this process, from 1; None for all of the work.

    Processes do not communicate, so that none waits for another; each uses its own GPU.
    """
    if shard is not None:
        return shard
    cluster = find_cluster()
    if cluster is None:
        return None
    if cluster.count is None:
        worker = tpu_worker()
        if worker is None:  # a single machine, or the number is not known
            print("note: several TPU machines share the work only with --shard I/N", file=sys.stderr)
            return None
        cluster = dataclasses.replace(cluster, index=worker[0], count=worker[1])
    if (gpus := own_gpus(cluster)) is not None:
        import jax

        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, gpus)))
    number = cluster.index + 1
    print(f"found {cluster.kind}: this process takes share {number} of {cluster.count}", file=sys.stderr)
    return number, cluster.count


def own_inputs(inputs: dict, shard: tuple[int, int] | None) -> dict:
    """Returns the share of this process of inputs and their outputs; prints a note if it is empty."""
    inputs_here = dict(share(list(inputs.items()), own_shard(shard)))
    if not inputs_here:
        print("there are more processes than inputs; this process has nothing to do", file=sys.stderr)
    return inputs_here
