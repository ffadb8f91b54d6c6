"""Which process of how many this is, by what SLURM, Open MPI or a TPU machine says in the environment.

`jax.distributed.initialize` reads the same variables when processes join. This module reads what jax does
not offer without joining: the number of a process, for its share of the work, and whether a job has only one
task, which then runs alone.
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
    """What a launcher or flags say of this process; jax detects what is None.

    Attributes:
      kind: the launcher, in words.
      coordinator: `HOST:PORT` of process 0.
      count: number of processes.
      index: of this one, from 0.
      local: number of this process on its machine, from 0; None if it has the machine for itself.
    """

    kind: str
    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    local: int | None = None

    def __str__(self) -> str:
        if self.count is None:
            return self.kind
        where = f", process 1 is at {self.coordinator}" if self.coordinator else ""
        return f"{self.kind}: process {self.index + 1} of {self.count}{where}"


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Returns what the environment says, in the order of jax's own detection; None for a process by itself.

    A SLURM job step (`srun`) has all of SLURM's variables; the batch script around it has not, and runs by
    itself. A job of one task runs by itself too.

    Raises:
      AvsalError: a variable of the launcher has a wrong value.
    """
    if all(name in environment for name in _OPEN_MPI):  # before SLURM, whose variables mpirun passes on
        kind, names = "Open MPI", _OPEN_MPI
    elif all(name in environment for name in _SLURM):
        kind, names = "SLURM", _SLURM[2:]
    else:
        return Cluster("a TPU machine") if _on_tpu() else None
    count, index, local = (_number(environment, name) for name in names)
    if not 0 <= index < count:
        raise AvsalError(f"{kind} says that this is process {index} (from 0) of {count}: restart it")
    return Cluster(kind, count=count, index=index, local=local) if count > 1 else None


def own_gpus(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> list[int] | None:
    """Returns the numbers of the GPUs that a process shall use, among those it can see; None for all.

    A process that has its machine for itself takes all, as one that is shown a single GPU takes this;
    several on a machine take one each, by their order.

    Raises:
      AvsalError: more processes on the machine than GPUs.
    """
    listed = environment.get("CUDA_VISIBLE_DEVICES", "")
    count = len([part for part in listed.split(",") if part.strip()])
    per_machine = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get(
        "OMPI_COMM_WORLD_LOCAL_SIZE"
    )
    if cluster.local is None or count == 1 or re.fullmatch(r"1(\(x\d+\))?", per_machine or ""):
        return None
    if count and cluster.local >= count:
        raise AvsalError(
            f"this is process {cluster.local} (from 0) on its machine, which shows it {count} GPUs "
            f"(CUDA_VISIBLE_DEVICES={listed}); start at most {count} processes on a machine"
        )
    return [cluster.local]


def share(items: list, shard: tuple[int, int] | None) -> list:
    """Returns what of `items` is the I-th of N shares: every N-th from the I-th on (from 1); None: all."""
    index, count = shard or (1, 1)
    return items[index - 1 :: count]


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise AvsalError(f"{name} is {text!r}, not a whole number; unset it, or start by the launcher again")
    return int(text)


def _on_tpu() -> bool:
    """Whether jax uses a TPU here: on import it adds `tpu` to its platforms if it finds libtpu and a chip."""
    if importlib.util.find_spec("libtpu") is None:
        return False
    import jax

    return "tpu" in (jax.config.jax_platforms or "").split(",")


def tpu_worker(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Returns (index from 0, count) of a TPU machine in its slice, where the environment tells; else None."""
    names = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    if len(names) < 2 or "TPU_WORKER_ID" not in environment:
        return None
    return _number(environment, "TPU_WORKER_ID"), len(names)
