"""Reads the number of this process and of all processes from the variables of SLURM, Open MPI or a TPU.

`jax.distributed.initialize` reads the same variables, but jax reports them only to processes that join. This
module reads them in advance: a process that works on a share of the videos needs its number but never joins,
and a job with a single task must not join.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping

from avsal_jax.errors import AvsalError

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The number of this process and of all of them, from a launcher or flags; jax detects what is None.

    Attributes:
      kind: the name of the launcher, for messages.
      coordinator: `HOST:PORT` of process 0.
      count: number of processes.
      index: of this process, from 0.
      local: number of this process on its machine, from 0; None if no other process of the run is there.
    """

    kind: str
    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    local: int | None = None

    def __str__(self) -> str:
        if self.count is None:
            return self.kind
        address = f", coordinator {self.coordinator}" if self.coordinator else ""
        return f"{self.kind}: process {self.index} of {self.count}{address}"


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Returns the cluster that the environment describes; None for a single process.

    Launchers are tried in the same order as in jax's own detection. Only a job step of SLURM (`srun`) has all
    of SLURM's variables; the batch script around it lacks some and counts as a single process. A job with one
    task is a single process too.

    Raises:
      AvsalError: a variable of the launcher has an invalid value.
    """
    if all(name in environment for name in _OPEN_MPI):  # before SLURM, whose variables mpirun passes on
        kind, names = "Open MPI", _OPEN_MPI
    elif all(name in environment for name in _SLURM):
        kind, names = "SLURM", _SLURM[2:]
    else:
        return Cluster("a TPU machine") if _on_tpu() else None
    count, index, local = (_number(environment, name) for name in names)
    if not 0 <= index < count:
        raise AvsalError(f"{kind} reports process {index} of {count}, counted from 0: restart the job")
    return Cluster(kind, count=count, index=index, local=local) if count > 1 else None


def own_gpus(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> list[int] | None:
    """Returns the numbers of the GPUs that a process uses, among those visible to it; None for all.

    If a machine runs several processes, each takes one GPU, in the order of their numbers. A process uses all
    visible GPUs if no other process of the run is on its machine, or if it sees a single GPU.

    Raises:
      AvsalError: more processes on the machine than GPUs.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    count = len([part for part in visible.split(",") if part.strip()])
    per_machine = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get(
        "OMPI_COMM_WORLD_LOCAL_SIZE"
    )
    if cluster.local is None or count == 1 or re.fullmatch(r"1(\(x\d+\))?", per_machine or ""):
        return None
    if count and cluster.local >= count:
        raise AvsalError(
            f"process {cluster.local} of this machine, counted from 0, has no GPU: {count} are visible "
            f"(CUDA_VISIBLE_DEVICES={visible}); start at most {count} processes per machine"
        )
    return [cluster.local]


def share(items: list, shard: tuple[int, int] | None) -> list:
    """Returns share I of N, from 1: every N-th item, beginning with the I-th. None returns all items."""
    index, count = shard or (1, 1)
    return items[index - 1 :: count]


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise AvsalError(f"{name} is {text!r}, not a whole number; unset it, or start the job again")
    return int(text)


def _on_tpu() -> bool:
    """Whether jax uses a TPU: on import it adds `tpu` to its platforms if it finds libtpu and a chip."""
    if importlib.util.find_spec("libtpu") is None:
        return False
    import jax

    return "tpu" in (jax.config.jax_platforms or "").split(",")


def tpu_worker(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Returns (index from 0, count) of a TPU machine in its slice; None if the environment lacks them."""
    names = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    if len(names) < 2 or "TPU_WORKER_ID" not in environment:
        return None
    return _number(environment, "TPU_WORKER_ID"), len(names)
