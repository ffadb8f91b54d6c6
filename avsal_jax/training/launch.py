"""Several processes as one run: how they join; how a run is asked to stop; how it ends when one is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

import jax

from avsal_jax.errors import AvsalError
from avsal_jax.runtime.cluster import Cluster, find_cluster, own_gpus
from avsal_jax.runtime.watch import Watch
from avsal_jax.training.schema import TrainConfig
from avsal_jax.training.train import Preempted, Trainer

PREEMPTED = 75  # the exit code that asks schedulers to run the command again (EX_TEMPFAIL)
LOST = 69  # another process of the run is not there (EX_UNAVAILABLE)
_IDENTIFY_SECONDS = 10  # seconds in which a lost process is identified
_JAX_MARGIN_SECONDS = 30  # seconds added to our join timeout, so that it is reported before jax aborts


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds.

    Attributes:
      join: until all processes have come.
      heartbeat: without a sign of life, until a process counts as dead and all end.
      stall: without progress, until the stacks of all threads are printed.
    """

    join: int
    heartbeat: int
    stall: int


def train_together(
    config: TrainConfig,
    workdir,
    say: Callable[[str], None],
    cluster: Cluster | None,
    limits: Limits,
    profile: int = 0,
) -> dict | None:
    """Runs a training as one process, or as one of several.

    Args:
      config, workdir, say, profile: as of `train.Trainer`.
      cluster: from `chosen_cluster`.
      limits: in seconds.

    Returns:
      What `Trainer.run` does; None in all processes but the first.

    Raises:
      Preempted, AvsalError: as `Trainer.run`. With several processes one that fails ends here, with a code.
    """
    if cluster is not None:
        join_processes(cluster, say, limits)
    folder = pathlib.Path(workdir) / "processes"
    with joined_watch(say, folder, limits) as watch, stop_request() as asked_to_stop:
        trainer = Trainer(
            config,
            workdir,
            watch.say,
            should_stop=asked_to_stop,
            on_activity=watch.moved,
            profile=profile,
        )
        summary = trainer.run()
    return summary if jax.process_index() == 0 else None


def chosen_cluster(coordinator: str | None, count: int | None, index: int | None) -> Cluster | None:
    """Returns what flags say, and for those not given, what the launcher says; None for one process.

    Raises:
      AvsalError: they leave something open, or do not go together.
    """
    launcher, flags = find_cluster(), {"coordinator": coordinator, "count": count, "index": index}
    fields = {name: value for name, value in flags.items() if value is not None}
    if coordinator is None and launcher is not None and launcher.kind == "Open MPI":
        _check_open_mpi()
    if not fields:
        return launcher
    cluster = dataclasses.replace(launcher or Cluster("flags"), **fields)
    if None in (cluster.count, cluster.index) or (launcher is None and coordinator is None):
        raise AvsalError(
            "no launcher says the rest: give all of --coordinator HOST:PORT, --num-processes N and "
            "--process-id I (from 0 to N - 1)"
        )
    if not 0 <= cluster.index < cluster.count:
        raise AvsalError(
            f"--process-id is 0 to {cluster.count - 1} for --num-processes {cluster.count}; "
            f"got {cluster.index}"
        )
    if coordinator is not None:
        _check_address(coordinator)
    return cluster if cluster.count > 1 else None


def _check_open_mpi() -> None:
    """Raises AvsalError if jax would not recognise Open MPI: it reads a variable of versions before 5.

    In an allocation of SLURM, jax would then read the same number for each process: that of `mpirun`.
    """
    if "OMPI_MCA_orte_hnp_uri" not in os.environ:
        raise AvsalError("this Open MPI does not say where process 0 is; give --coordinator HOST:PORT")


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AvsalError(f"the coordinator is HOST:PORT, as 10.0.0.1:4321; got {address!r}")


def join_processes(cluster: Cluster, say: Callable[[str], None], limits: Limits) -> None:
    """Makes this process one of a run; before anything else that uses jax.

    With a coordinator, process 0 listens at this address and at no other; else where jax decides.

    Args:
      cluster: from `chosen_cluster`; jax detects what it leaves open.
      say: takes a line for the console.
      limits: when `join` is over, one line says so and the process ends with `LOST`.

    Raises:
      AvsalError: no such address, or jax is in use already.
    """
    say(f"found {cluster}")
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or _bind_address(cluster, say)
    waiting = threading.Timer(limits.join, _nobody, (cluster, limits.join))
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            num_processes=cluster.count,
            process_id=cluster.index,
            local_device_ids=_visible_gpus(cluster),
            cluster_detection_method="deactivate" if cluster.coordinator else None,
            coordinator_bind_address=bind,
            initialization_timeout=limits.join + _JAX_MARGIN_SECONDS,
            heartbeat_timeout_seconds=limits.heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise AvsalError(f"cannot join the other processes ({cluster}): {reason}") from error
    finally:
        waiting.cancel()
    say(f"process {jax.process_index() + 1} of {jax.process_count()} has joined")


def _visible_gpus(cluster: Cluster) -> list[int] | None:
    """Returns what jax takes as `local_device_ids`: an empty list for all GPUs.

    For None, its detection gives each process one GPU, also a process that has its machine for itself.
    """
    gpus = own_gpus(cluster)
    return [] if gpus is None and "JAX_LOCAL_DEVICE_IDS" not in os.environ else gpus


def _bind_address(cluster: Cluster, say: Callable[[str], None]) -> str | None:
    """Returns where process 0 shall listen; None for all interfaces, where its name leads to itself alone."""
    if not cluster.coordinator:
        return None
    host = cluster.coordinator.rpartition(":")[0].strip("[]")
    with contextlib.suppress(OSError, ValueError):
        addresses = {one[4][0] for one in socket.getaddrinfo(host, None)}
        given = host == "localhost" or any(host == address for address in addresses)
        if not given and all(ipaddress.ip_address(address).is_loopback for address in addresses):
            say(f"{host} is {', '.join(sorted(addresses))} on this machine, so process 1 listens everywhere; "
                "JAX_COORDINATOR_BIND_ADDRESS names an address")  # fmt: skip
            return None
    return cluster.coordinator


def _nobody(cluster: Cluster, seconds: int) -> None:
    """Reports which processes did not join, and exits; jax would abort with a long C++ error."""
    missing = f"not all of the other {cluster.count - 1} came" if cluster.count else "not all others came"
    if cluster.index and cluster.coordinator and not _answers(cluster.coordinator):
        missing = f"nothing answers at {cluster.coordinator}, where process 1 should be"
    end(LOST, f"{cluster}: waited {seconds} s and {missing}; see whether each was started and is reachable")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def joined_watch(say: Callable[[str], None], folder, limits: Limits) -> Iterator[Watch]:
    """Gives the watch of a run; one of several processes that fails ends at once, and tells the others why.

    An error in one process is often caused by the loss of another one, so the watch first gets some seconds
    to identify the lost process.

    Args:
      say: takes lines for the console.
      folder: for the signs of life of several processes.
    """
    watch, several = Watch(say, limits.stall, lambda words: end(LOST, words)), jax.process_count() > 1
    try:
        if several:
            watch.join(
                folder,
                index=jax.process_index(),
                count=jax.process_count(),
                run=_run_word(),
                limit=limits.heartbeat,
            )
        yield watch
    except Preempted:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if not several:
            raise
        if _may_be_of_others(error) and (words := watch.lost(_IDENTIFY_SECONDS)) is not None:
            end(LOST, words, watch)
        if not isinstance(error, AvsalError | KeyboardInterrupt):
            traceback.print_exc()
        code = 2 if isinstance(error, AvsalError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        end(code, str(error) or type(error).__name__, watch)
    finally:
        watch.close()


def _may_be_of_others(error: BaseException) -> bool:
    """Whether an error may be the sight of another process that is gone, as a save that cannot meet it."""
    if isinstance(error, KeyboardInterrupt):
        return False
    link: BaseException | None = error
    while isinstance(link, AvsalError):  # which says it in words of its own
        link = link.__cause__ or link.__context__
    return link is not None and not isinstance(link, OSError)


def _run_word() -> str:
    """Returns a random word that all processes get from the first one; returns when all are there."""
    import numpy as np
    from jax.experimental import multihost_utils

    drawn = np.frombuffer(os.urandom(8), np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(drawn), np.uint8)).hex()


def end(code: int, line: str, watch: Watch | None = None) -> None:
    """Prints a line and ends the process at once: an orderly end would wait for the others for minutes.

    `watch` tells them first, which takes seconds in which jax may miss one of them and end this process.
    """
    print(f"avsal: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if watch is not None:
        watch.close(line)
    os._exit(code)


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[int], bool]]:
    """Yields a function that returns whether SIGTERM came, for `Trainer`.

    With one process it has its own handler. With several, jax's preemption service tells all of them the
    same step, whichever got the signal.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    came = False

    def note(number, frame):
        nonlocal came
        came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: came
    finally:
        signal.signal(signal.SIGTERM, before)
