"""Which process of how many this is, by what SLURM, Open MPI or a TPU machine says in the environment."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import re
from collections.abc import Mapping

from avsal_jax.errors import AvsalError

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
_GOOGLE = "0x1ae0"  # as a maker of PCI devices
_TPUS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")  # v2 to v7, as jax lists them
_PORTS = 2**12  # jax takes the port of a job from the last ones, by the job's number


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What a launcher says of this process.

    Attributes:
      kind: the launcher, in words.
      coordinator: `HOST:PORT` of process 0; None where jax finds it itself.
      count: number of processes; None where jax finds it itself.
      index: of this one, from 0; None where jax finds it itself.
      local: number of this process on its machine, from 0; None where it has the machine for itself.
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
    """Returns what the environment says, as jax's own detection reads it; None for a process by itself.

    A SLURM job step (`srun`) has all of SLURM's variables; the batch script around it has not, and runs by
    itself. One task is by itself too.

    Raises:
      AvsalError: a variable of the launcher is not what it should be.
    """
    if all(name in environment for name in _OPEN_MPI):  # before SLURM, whose variables mpirun passes on
        count, index, local = (_number(environment, name) for name in _OPEN_MPI)
        cluster = Cluster("Open MPI", coordinator=None, count=count, index=index, local=local)
    elif all(name in environment for name in _SLURM):
        count, index, local = (_number(environment, name) for name in _SLURM[2:])
        cluster = Cluster(
            "SLURM", coordinator=_slurm_coordinator(environment), count=count, index=index, local=local
        )
    elif _on_tpu(environment):
        return Cluster("a TPU machine")
    else:
        return None
    if not 0 <= cluster.index < cluster.count:
        raise AvsalError(
            f"{cluster.kind} says that this is process {cluster.index} (from 0) of {cluster.count}: "
            "restart it"
        )
    return cluster if cluster.count > 1 else None


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


def _slurm_coordinator(environment: Mapping[str, str]) -> str:
    """Returns the first host of the step and the job's port, as jax does: `node[007-9],x` is `node007`."""
    nodes, job = environment["SLURM_STEP_NODELIST"], _number(environment, "SLURM_JOB_ID")
    matched = re.match(r"([^,\[\]\s]+)(?:\[([^,\-\]]+))?", nodes)
    if matched is None:
        raise AvsalError(
            f"SLURM_STEP_NODELIST is {nodes!r}, which names no host; give --coordinator HOST:PORT"
        )
    port = environment.get("JAX_COORDINATOR_PORT") or str(job % _PORTS + 65536 - _PORTS)
    return f"{matched[1]}{matched[2] or ''}:{port}"


def _on_tpu(environment: Mapping[str, str]) -> bool:
    """Whether jax would run on a TPU here: its library is installed, and a chip is in a slot."""
    wanted = environment.get("JAX_PLATFORMS", "").split(",")
    if importlib.util.find_spec("libtpu") is None or not {"tpu", ""} & set(wanted):
        return False
    if "TPU_WORKER_HOSTNAMES" in environment:
        return True
    devices = pathlib.Path("/sys/bus/pci/devices").glob("*")
    return any(_pci(one, "vendor") == _GOOGLE and _pci(one, "device") in _TPUS for one in devices)


def _pci(device: pathlib.Path, what: str) -> str:
    try:
        return (device / what).read_text().strip()
    except OSError:
        return ""


def tpu_worker(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Returns (index from 0, count) of a TPU machine in its slice, where the environment tells; else None."""
    names = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    if len(names) < 2 or "TPU_WORKER_ID" not in environment:
        return None
    return _number(environment, "TPU_WORKER_ID"), len(names)
