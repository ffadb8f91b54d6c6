"""Runs a training in one or several processes: they join, stop on SIGTERM, and end if one of them dies."""

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
MISSING_PROCESS = 69  # the exit code if another process of the run did not join or has died (EX_UNAVAILABLE)
_IDENTIFY_SECONDS = 10  # to find out which process died
_JAX_MARGIN_SECONDS = 30  # added to our join timeout for jax, so that our message comes before jax aborts


@dataclasses.dataclass(frozen=True)
class Limits:
    """Timeouts of a run, in seconds.

    Attributes:
      join: until all processes have joined.
      heartbeat: without a heartbeat, after which jax counts a process as dead and ends all of them.
      stall: without progress, after which the stacks of all threads are printed.
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
    config_name: str = "",
) -> dict | None:
    """Runs a training as a single process, or as one process of a cluster.

    Args:
      config, workdir, say, profile, config_name: as in `train.Trainer`.
      cluster: from `chosen_cluster`; None for a single process.
      limits: the timeouts.

    Returns:
      The summary from `Trainer.run` in process 0; None in all other processes.

    Raises:
      Preempted, AvsalError: as in `Trainer.run`. In a run of several processes, an AvsalError is not raised:
        it ends the process with exit code 2.
    """
    if cluster is not None:
        join_processes(cluster, say, limits)
    folder = pathlib.Path(workdir) / "processes"
    with joined_watch(say, folder, limits) as watch, stop_request() as should_stop:
        trainer = Trainer(
            config,
            workdir,
            watch.say,
            should_stop=should_stop,
            on_activity=watch.record_progress,
            profile=profile,
            config_name=config_name,
        )
        summary = trainer.run()
    return summary if jax.process_index() == 0 else None


def chosen_cluster(coordinator: str | None, count: int | None, index: int | None) -> Cluster | None:
    """Returns the cluster that the flags describe, or None for a single process.

    The launcher, such as SLURM, sets the values of flags that are None.

    Raises:
      AvsalError: the flags are incomplete or contradict each other.
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
            "without a launcher such as SLURM, set all of --coordinator HOST:PORT, --num-processes N and "
            "--process-id I (from 0 to N - 1)"
        )
    if not 0 <= cluster.index < cluster.count:
        raise AvsalError(
            f"--process-id must be from 0 to {cluster.count - 1} with --num-processes {cluster.count}; "
            f"got {cluster.index}"
        )
    if coordinator is not None:
        _check_address(coordinator)
    return cluster if cluster.count > 1 else None


def _check_open_mpi() -> None:
    """Raises AvsalError if jax would not recognise Open MPI: it needs a variable that only versions < 5 set.

    In an allocation of SLURM, jax would then use SLURM's variables, which have the same process number for
    all processes: that of `mpirun`.
    """
    if "OMPI_MCA_orte_hnp_uri" not in os.environ:
        raise AvsalError("Open MPI does not report the address of process 0; set --coordinator HOST:PORT")


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AvsalError(f"--coordinator must be HOST:PORT, for example 10.0.0.1:4321; got {address!r}")


def join_processes(cluster: Cluster, say: Callable[[str], None], limits: Limits) -> None:
    """Connects this process to the others of a run. Call it before anything else that uses jax.

    With `cluster.coordinator`, process 0 listens only at this address. Otherwise jax chooses the address.

    Args:
      cluster: from `chosen_cluster`; jax detects the values that are None.
      say: prints a line on the console.
      limits: after `join` seconds, the process prints an error and exits with `MISSING_PROCESS`.

    Raises:
      AvsalError: the address is not available, or jax is in use already.
    """
    say(f"found {cluster}")
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or _bind_address(cluster, say)
    timeout = threading.Timer(limits.join, _end_without_others, (cluster, limits.join))
    timeout.daemon = True
    timeout.start()
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
        timeout.cancel()
    say(f"process {jax.process_index()} of {jax.process_count()} has joined")


def _visible_gpus(cluster: Cluster) -> list[int] | None:
    """Returns the value of jax's argument `local_device_ids`: an empty list selects all GPUs.

    None would let jax's detection choose. It gives each process a single GPU, even if no other process of
    the run is on its machine.
    """
    gpus = own_gpus(cluster)
    return [] if gpus is None and "JAX_LOCAL_DEVICE_IDS" not in os.environ else gpus


def _bind_address(cluster: Cluster, say: Callable[[str], None]) -> str | None:
    """Returns the address at which process 0 listens; None for all interfaces.

    All interfaces are needed if the host name resolves to a loopback address on this machine: other machines
    could not connect to it.
    """
    if not cluster.coordinator:
        return None
    host = cluster.coordinator.rpartition(":")[0].strip("[]")
    with contextlib.suppress(OSError, ValueError):
        addresses = {row[4][0] for row in socket.getaddrinfo(host, None)}
        is_explicit = host == "localhost" or any(host == address for address in addresses)
        if not is_explicit and all(ipaddress.ip_address(address).is_loopback for address in addresses):
            say(
                f"{host} is {', '.join(sorted(addresses))} on this machine, so process 0 listens on all "
                "interfaces; set JAX_COORDINATOR_BIND_ADDRESS to choose an address"
            )
            return None
    return cluster.coordinator


def _end_without_others(cluster: Cluster, seconds: int) -> None:
    """Reports which processes did not join, and exits; jax would abort with a long C++ error."""
    reason = f"not all {cluster.count} processes have joined" if cluster.count else "not all processes joined"
    if cluster.index and cluster.coordinator and not _answers(cluster.coordinator):
        reason = f"process 0 does not answer at {cluster.coordinator}"
    end(
        MISSING_PROCESS,
        f"{cluster}: {reason} after {seconds} s; check that all were started and can reach process 0",
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def joined_watch(say: Callable[[str], None], folder, limits: Limits) -> Iterator[Watch]:
    """Yields the watch of a run. If one of several processes fails, it informs the others and exits.

    An error in one process often follows from the death of another. The watch therefore first gets some
    seconds to find out which process died.

    Args:
      say: prints a line on the console.
      folder: for the heartbeats of several processes.
    """
    watch = Watch(say, limits.stall, lambda message: end(MISSING_PROCESS, message))
    shares_run = jax.process_count() > 1
    try:
        if shares_run:
            watch.join(
                folder,
                index=jax.process_index(),
                count=jax.process_count(),
                run=_run_identifier(),
                limit=limits.heartbeat,
            )
        yield watch
    except Preempted:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if not shares_run:
            raise
        if _may_follow_from_loss(error) and (message := watch.wait_for_loss(_IDENTIFY_SECONDS)) is not None:
            end(MISSING_PROCESS, message, watch)
        if not isinstance(error, AvsalError | KeyboardInterrupt):
            traceback.print_exc()
        code = 2 if isinstance(error, AvsalError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        end(code, str(error) or type(error).__name__, watch)
    finally:
        watch.close()


def _may_follow_from_loss(error: BaseException) -> bool:
    """Whether the death of another process may have caused an error, such as a save that waits for it."""
    if isinstance(error, KeyboardInterrupt):
        return False
    cause: BaseException | None = error
    while isinstance(cause, AvsalError):  # which only wraps the original error
        cause = cause.__cause__ or cause.__context__
    return cause is not None and not isinstance(cause, OSError)


def _run_identifier() -> str:
    """Returns a random identifier that process 0 sends to all processes; waits until all have joined."""
    import numpy as np
    from jax.experimental import multihost_utils

    random_bytes = np.frombuffer(os.urandom(8), np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(random_bytes), np.uint8)).hex()


def end(code: int, line: str, watch: Watch | None = None) -> None:
    """Prints a line and exits immediately: a normal exit would wait for the other processes for minutes.

    `watch` informs the other processes first. That takes seconds, in which jax may already end this process.
    """
    print(f"avsal: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if watch is not None:
        watch.close(line)
    os._exit(code)


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[int], bool]]:
    """Yields a function for `Trainer` that takes a step and returns whether to stop there because of SIGTERM.

    A single process handles the signal itself. With several processes, jax's preemption service makes all of
    them stop at the same step, no matter which of them received the signal.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    is_requested = False

    def request_stop(number, frame):
        nonlocal is_requested
        is_requested = True

    previous_handler = signal.signal(signal.SIGTERM, request_stop)
    try:
        yield lambda step: is_requested
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
