"""Checkpoints of a run: written in the background, complete or not there, the last few and the best kept."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import pathlib
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from avsal_jax.errors import AvsalError, damage_reason
from avsal_jax.models.renamings import earlier_layout, todays_layout
from avsal_jax.storage import differences
from avsal_jax.training.state import TrainState, with_extra, without_extra

_STATE, _RECORD, _DROPPED = "state", "record", ".dropped"
_MOST_RECORD_BYTES = 10_000_000
_POLL = 0.02  # seconds
# What stops a save, as the system words it; libraries below quote these words in errors of their own.
_CAUSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class Checkpoints:
    """The checkpoints in a folder, one subfolder for each, named by its step.

    A save is written under a temporary name and renamed when it is complete; one that is dropped is
    renamed before it is deleted. So whatever bears a step's name is complete, even after SIGKILL (power
    failure is another matter: nothing is flushed to the disk's platters). With several processes
    (`jax.distributed`), all construct it and all call `save`, `restore` and `close`, in the same order.

    Args:
      folder: made when it is missing; leftovers of interrupted saves are removed.
      keep: how many of the last are kept, at least 1.
      metric: the name of the metric whose best checkpoint is kept too; None for no best.
      mode: `max` or `min`: whether a larger or a smaller value is better. Among equals the earliest is
        best; a value that is not finite never is.
      read_only: looks at another run's folder and changes nothing in it.

    Raises:
      AvsalError: the folder cannot be made, or is missing with `read_only`.
    """

    def __init__(
        self, folder, keep: int = 3, metric: str | None = None, mode: str = "max", read_only: bool = False
    ):
        if keep < 1 or mode not in ("max", "min"):
            raise AvsalError(f"checkpoints are kept by keep >= 1 and mode max or min; got {keep}, {mode!r}")
        self.folder = pathlib.Path(folder)
        self._keep, self._metric, self._mode, self._read_only = keep, metric, mode, read_only
        self._manager: ocp.CheckpointManager | None = None
        self._pending: int | None = None
        if read_only and not self.folder.is_dir():
            raise AvsalError(f"there is no folder {self.folder} with checkpoints")
        if not read_only:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AvsalError(f"cannot write checkpoints to {self.folder}: {error.strerror}") from error
        logging.getLogger("absl").addFilter(_ORBAX_LOG)
        self._metrics = {step: self._record(step)["metrics"] for step in self._steps()}
        self._open()
        self._clear_dropped()

    def save(self, step: int, state, meta: dict, metrics: dict[str, float] | None = None) -> bool:
        """Starts to save; returns once the state may change, before it is written.

        At most one save is in flight: this waits for the one before.

        Args:
          step: names the checkpoint.
          state: a pytree of arrays, on devices or in NumPy, random keys as uint32. It may be donated
            after the call.
          meta: JSON values, returned by `meta` (tuples as lists).
          metrics: values by name, for `best`.

        Returns:
          Whether there was anything to save; False where this step is there already.

        Raises:
          AvsalError: this save could not start, or the one before failed. Earlier checkpoints stay.
        """
        if self._read_only:
            raise ValueError(f"{self.folder} was opened to be read")
        self.wait()
        if step in self._steps():
            return False
        # A copy, since it is written later, and what is no JSON shall fail here.
        record = json.loads(json.dumps({"meta": meta, "metrics": metrics or {}}))
        self._metrics[step] = record["metrics"]
        self._pending, _ORBAX_LOG.failure = step, None
        items = {_STATE: ocp.args.StandardSave(state), _RECORD: ocp.args.JsonSave(record)}
        try:
            self._open().save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failed(error) from error
        return True

    def wait(self) -> None:
        """Waits for the save in flight.

        Raises:
          AvsalError: it failed. Earlier checkpoints stay, and one may go on saving.
        """
        if self._pending is None:
            return
        try:
            manager = self._open()
            while jax.process_count() > 1 and manager.is_saving_in_progress():
                if (
                    _ORBAX_LOG.failure is not None
                ):  # in this process; Orbax would meet the others first, for minutes
                    raise _ORBAX_LOG.failure
                time.sleep(_POLL)
            manager.wait_until_finished()
            manager.check_for_errors()
            if jax.process_index() == 0 and self._pending not in self._steps():
                raise OSError(errno.EIO, "it was not completed")
        except Exception as error:
            raise self._failed(error) from error
        self._pending = None
        self._clear_dropped()

    def close(self) -> None:
        """Waits for the save in flight and ends the threads; `AvsalError` as for `wait`."""
        try:
            self.wait()
        finally:
            if self._manager is not None:
                self._manager.close()
                self._manager = None

    def latest(self) -> int | None:
        """Returns the step of the last complete checkpoint, after the save in flight; None without one."""
        self.wait()
        return max(self._steps(), default=None)

    def best(self) -> int | None:
        """Returns the step with the best value of `metric`, after the save in flight; None without one."""
        self.wait()
        return self._best(self._steps())

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the metrics that a checkpoint was saved with."""
        self._check(step)
        return dict(self._metrics[step])

    def meta(self, step: int) -> dict:
        """Returns what was given to `save` as `meta`; `AvsalError` as for `restore`."""
        self._check(step)
        return self._record(step)["meta"]

    def restore(self, step: int, like):
        """Returns the state of a checkpoint, bit by bit as it was saved.

        Args:
          step: of a complete checkpoint.
          like: the state's pytree with `jax.ShapeDtypeStruct` leaves: one with a sharding becomes an
            array on devices with this sharding, one without (or a NumPy value) a NumPy value.

        Raises:
          AvsalError: there is no such checkpoint, it is damaged, or it does not fit `like` (with the
            leaves that are missing, not known, or of another shape or type).
        """
        self._check(step)
        with _damage_of(self._name_of(step)):
            tree = self._open().item_metadata(step)[_STATE].tree
            stored = _described(tree)
        if isinstance(like, TrainState) and "extra" not in tree:
            return with_extra(self._of_layout(step, stored, without_extra(like)), like)
        return self._of_layout(step, stored, like)

    def _of_layout(self, step: int, stored: dict[str, tuple], like):
        """Returns the state of a checkpoint whose leaves are `stored`, in today's layout of the slots."""
        if any("/decoder/" in path for path in stored):  # of the first version
            return _relaid(self._restored(step, stored, _relaid(like, earlier_layout)), todays_layout)
        return self._restored(step, stored, like)

    def _restored(self, step: int, stored: dict[str, tuple], like):
        """Returns the state of a checkpoint whose leaves are `stored`, in the layout that it has there."""
        checkpoint, problems = self._name_of(step), differences(stored, _described(like), limit=8)
        if problems:
            raise AvsalError(
                f"{checkpoint} does not fit this run: {'; '.join(problems)}; restore it with the "
                "configuration that wrote it, or begin in another folder"
            )
        target = jax.tree.map(_target, like)
        with _damage_of(checkpoint):
            items = ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(target)})
            state = self._open().restore(step, args=items)[_STATE]
        return jax.tree.map(_exact, like, state)

    def _name_of(self, step: int) -> str:
        return f"checkpoint {step} in {self.folder}"

    def _open(self) -> ocp.CheckpointManager:
        """Returns the manager; after a failed save a new one, which knows what is on disk.

        Raises:
          AvsalError: what Orbax wrote beside a checkpoint is damaged.
        """
        if self._manager is None:
            with _damage_of(f"a checkpoint in {self.folder}", but=OSError):  # all their metadata is read
                self._manager = self._new_manager()
        return self._manager

    def _new_manager(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self.folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                create=False,
                preservation_policy=policies.AnyPreservationPolicy(
                    [policies.LatestN(n=self._keep), _BestStep(self._best)]
                ),
                cleanup_tmp_directories=not self._read_only,
                todelete_subdir=_DROPPED,
            ),
            item_handlers={
                _STATE: ocp.StandardCheckpointHandler(),
                _RECORD: ocp.JsonCheckpointHandler(),
            },
        )

    def _failed(self, error: Exception) -> AvsalError:
        step, self._pending = self._pending, None
        self._metrics.pop(step, None)
        manager, self._manager = self._manager, None
        with contextlib.suppress(Exception):  # it fails for the same reason
            if manager is not None and jax.process_count() == 1:  # else it waits for the others
                manager.close()
        if jax.process_index() == 0:  # what was written of it would keep a full disk full
            for partial in self.folder.glob(f"{step}.*tmp*"):
                shutil.rmtree(partial, ignore_errors=True)
        last = max(self._steps(), default=None)
        kept = "there is no earlier one" if last is None else f"the last complete one is step {last}"
        return AvsalError(f"cannot save step {step} in {self.folder}: {_reason(error)}; {kept}")

    def _steps(self) -> list[int]:
        """Steps of complete checkpoints, as they are on disk now."""
        return sorted(ocp.utils.checkpoint_steps(self.folder.absolute()))

    def _best(self, steps) -> int | None:
        values = {step: self._metrics.get(step, {}).get(self._metric) for step in steps}
        known = {s: v for s, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        sign = -1 if self._mode == "max" else 1
        return min(known, key=lambda step: (sign * known[step], step), default=None)

    def _check(self, step: int) -> None:
        self.wait()
        steps = self._steps()
        if step not in steps:
            there = f"there are {', '.join(map(str, steps))}" if steps else "there is none"
            raise AvsalError(f"there is no checkpoint {step} in {self.folder}; {there}")

    def _record(self, step: int) -> dict:
        folder = self.folder.absolute() / str(step) / _RECORD
        with _damage_of(self._name_of(step)):
            if sum(file.stat().st_size for file in folder.iterdir()) > _MOST_RECORD_BYTES:
                raise ValueError("its record is too large")
            record = ocp.JsonCheckpointHandler().restore(folder)
            parts = [record.get(part) for part in ("meta", "metrics")] if isinstance(record, dict) else [None]
            if not all(isinstance(part, dict) for part in parts):
                raise ValueError("its record is none of this program")
        return record

    def _clear_dropped(self) -> None:
        if not self._read_only and jax.process_index() == 0:
            shutil.rmtree(self.folder / _DROPPED, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class _BestStep(policies.PreservationPolicy):
    """Preserves the checkpoint that `best` chooses.

    Orbax's `BestN` cannot keep what `Checkpoints` promises: it reads only metrics that Orbax saved itself,
    which checkpoints of earlier versions do not have; among equals it keeps the last one; and if no value
    is finite, it still keeps one of these checkpoints.
    """

    best: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [info.step for info in checkpoints]
        best = self.best(steps)
        return [step == best for step in steps]


class _OrbaxLog(logging.Filter):
    """Keeps Orbax from printing: failed saves are raised here in one line, and it warns of meant waits.

    Attributes:
      failure: what a save of this process failed with; Orbax says it here first.
    """

    failure: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if "orbax" not in record.pathname:
            return True
        if record.levelno >= logging.ERROR and record.exc_info:
            self.failure = record.exc_info[1]
        return record.levelno < logging.WARNING


_ORBAX_LOG = _OrbaxLog()


@contextlib.contextmanager
def _damage_of(checkpoint: str, but: type[Exception] | tuple = ()) -> Iterator[None]:
    """Turns an error of reading a checkpoint, except `but`, into one line that says what to do."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        with warnings.catch_warnings():  # Orbax leaves coroutines of the other leaves, which warn when freed
            warnings.simplefilter("ignore", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        raise AvsalError(f"{checkpoint} is damaged: {_reason(error)}; remove it to use another") from error


def _described(tree) -> dict[str, tuple]:
    """Returns {path: (*shape, dtype)} of a pytree's leaves; paths of both sides of a restore are alike."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    described = {}
    for path, leaf in leaves:
        name = "/".join(str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k)))) for k in path)
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype) if _on_device(leaf) else leaf.dtype
        described[name] = (*leaf.shape, str(dtype))
    return described


def _relaid(state, layout: Callable[[dict], dict]):
    """Returns a state whose trees by slot (parameters, statistics, what an optimizer keeps of each) have
    another layout; see `models.renamings`."""
    slots = {"visual_encoder", "heads", "decoder"}

    def by_slot(node) -> bool:
        return isinstance(node, dict) and bool(slots & set(node))

    return jax.tree.map(lambda node: layout(node) if by_slot(node) else node, state, is_leaf=by_slot)


def _on_device(leaf) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and leaf.sharding is not None


def _target(leaf):
    """What Orbax shall make: it gives NumPy arrays for NumPy arrays (this one takes no memory)."""
    if _on_device(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _exact(leaf, value):
    """A NumPy scalar comes back as one."""
    return np.asarray(value)[()] if isinstance(leaf, np.generic) else value


def _reason(error: BaseException) -> str:
    """Returns the system's words for what went wrong, wherever in a chain of errors they stand."""
    chain, link = [], error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for code in _CAUSES:
        words = os.strerror(code)
        if any(getattr(link, "errno", None) == code or words in str(link) for link in chain):
            return words
    return " ".join(damage_reason(error).split())[:200]
