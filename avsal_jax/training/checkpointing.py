"""Checkpoints of a run: written atomically in the background; keeps the last few and the best one."""

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
_MAX_RECORD_BYTES = 10_000_000
_POLL_SECONDS = 0.02
# Errors of the system that stop a save. Libraries quote the system's messages for them in their own errors.
_CAUSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class Checkpoints:
    """The checkpoints in a folder, one subfolder for each, named by its step.

    A checkpoint is written under a temporary name and renamed when it is complete. It is renamed again before
    it is deleted. A directory named after a step therefore always holds a complete checkpoint, even after
    SIGKILL. This does not cover a power failure, because the files are not flushed to the disk. With several
    processes (`jax.distributed`), all of them construct this object and call `save`, `restore` and `close` in
    the same order.

    Args:
      folder: created if it is missing; leftovers of interrupted saves are removed.
      keep: number of recent checkpoints to keep, at least 1.
      metric: name of the metric whose best checkpoint is kept in addition; None to keep only recent ones.
      mode: `max` or `min`: whether a larger or a smaller value is better. The earliest of equal values counts
        as the best. Values that are not finite are ignored.
      read_only: for the folder of another run: nothing in it is changed.

    Raises:
      AvsalError: the folder cannot be created, or is missing with `read_only`.
    """

    def __init__(
        self, folder, keep: int = 3, metric: str | None = None, mode: str = "max", read_only: bool = False
    ):
        if keep < 1 or mode not in ("max", "min"):
            raise AvsalError(f"keep must be at least 1, and mode max or min; got {keep} and {mode!r}")
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
        """Starts a save in the background; after it returns, the caller may change or donate the state.

        First waits for the previous save, so that at most one is in progress.

        Args:
          step: names the checkpoint.
          state: a pytree of arrays, on devices or in NumPy, random keys as uint32.
          meta: JSON values, returned by `meta` (tuples as lists).
          metrics: values by name, for `best`.

        Returns:
          False if a checkpoint of this step exists already, else True.

        Raises:
          AvsalError: this save could not start, or the previous one failed. Earlier checkpoints are kept.
        """
        if self._read_only:
            raise ValueError(f"{self.folder} was opened with read_only=True")
        self.wait()
        if step in self._steps():
            return False
        # The copy is needed because it is written later. Values that are not JSON raise an error here.
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
        """Waits for the save in progress.

        Raises:
          AvsalError: it failed. Earlier checkpoints are kept, and further calls of `save` are possible.
        """
        if self._pending is None:
            return
        try:
            manager = self._open()
            while jax.process_count() > 1 and manager.is_saving_in_progress():
                if _ORBAX_LOG.failure is not None:  # Orbax itself would wait for the other processes first
                    raise _ORBAX_LOG.failure
                time.sleep(_POLL_SECONDS)
            manager.wait_until_finished()
            manager.check_for_errors()
            if jax.process_index() == 0 and self._pending not in self._steps():
                raise OSError(errno.EIO, "it was not completed")
        except Exception as error:
            raise self._failed(error) from error
        self._pending = None
        self._clear_dropped()

    def close(self) -> None:
        """Waits for the save in progress and ends the threads; raises `AvsalError` as `wait` does."""
        try:
            self.wait()
        finally:
            if self._manager is not None:
                self._manager.close()
                self._manager = None

    def latest(self) -> int | None:
        """Waits for the save in progress; returns the step of the last complete checkpoint, or None."""
        self.wait()
        return max(self._steps(), default=None)

    def best(self) -> int | None:
        """Waits for the save in progress; returns the step with the best value of `metric`, or None."""
        self.wait()
        return self._best(self._steps())

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the metrics that were saved with a checkpoint."""
        self._check(step)
        return dict(self._metrics[step])

    def meta(self, step: int) -> dict:
        """Returns the argument `meta` of `save`; raises `AvsalError` as `restore` does."""
        self._check(step)
        return self._record(step)["meta"]

    def restore(self, step: int, like):
        """Returns the state of a checkpoint, bit-identical to the saved one.

        Args:
          step: of a complete checkpoint.
          like: the state's pytree with `jax.ShapeDtypeStruct` leaves. A leaf with a sharding becomes an array
            on devices with this sharding. A leaf without one, or a NumPy value, becomes a NumPy value.

        Raises:
          AvsalError: the checkpoint does not exist, is damaged, or does not fit `like`; the message lists the
            leaves that are missing, not known, or of another shape or type.
        """
        self._check(step)
        with _damage_of(self._name_of(step)):
            tree = self._open().item_metadata(step)[_STATE].tree
            stored = _described(tree)
        if isinstance(like, TrainState) and "extra" not in tree:
            return with_extra(self._of_layout(step, stored, without_extra(like)), like)
        return self._of_layout(step, stored, like)

    def _of_layout(self, step: int, stored: dict[str, tuple], like):
        """Returns the state of a checkpoint with the leaves `stored`, in the current layout of the slots."""
        if any("/decoder/" in path for path in stored):  # of the first version
            return _relaid(self._restored(step, stored, _relaid(like, earlier_layout)), todays_layout)
        return self._restored(step, stored, like)

    def _restored(self, step: int, stored: dict[str, tuple], like):
        """Returns the state of a checkpoint with the leaves `stored`, in the layout of the file."""
        checkpoint, problems = self._name_of(step), differences(stored, _described(like), limit=8)
        if problems:
            raise AvsalError(
                f"{checkpoint} does not fit this run: {'; '.join(problems)}; restore it with the "
                "configuration that wrote it, or use another folder"
            )
        target = jax.tree.map(_target, like)
        with _damage_of(checkpoint):
            items = ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(target)})
            state = self._open().restore(step, args=items)[_STATE]
        return jax.tree.map(_exact, like, state)

    def _name_of(self, step: int) -> str:
        return f"checkpoint {step} in {self.folder}"

    def _open(self) -> ocp.CheckpointManager:
        """Returns the manager; after a failed save, a new one that reads the folder again.

        Raises:
          AvsalError: metadata that Orbax stores with a checkpoint are damaged.
        """
        if self._manager is None:
            with _damage_of(f"a checkpoint in {self.folder}", but=OSError):  # reads all metadata
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
            if manager is not None and jax.process_count() == 1:  # else it waits for the other processes
                manager.close()
        if jax.process_index() == 0:  # the partial checkpoint would keep a full disk full
            for partial in self.folder.glob(f"{step}.*tmp*"):
                shutil.rmtree(partial, ignore_errors=True)
        last = max(self._steps(), default=None)
        latest = "no complete checkpoint" if last is None else f"the last complete checkpoint is step {last}"
        return AvsalError(f"cannot save step {step} in {self.folder}: {_reason(error)}; {latest}")

    def _steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints on disk."""
        return sorted(ocp.utils.checkpoint_steps(self.folder.absolute()))

    def _best(self, steps) -> int | None:
        values = {step: self._metrics.get(step, {}).get(self._metric) for step in steps}
        finite = {s: v for s, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        sign = -1 if self._mode == "max" else 1
        return min(finite, key=lambda step: (sign * finite[step], step), default=None)

    def _check(self, step: int) -> None:
        self.wait()
        steps = self._steps()
        if step not in steps:
            available = f"it has {', '.join(map(str, steps))}" if steps else "it has no checkpoint"
            raise AvsalError(f"there is no checkpoint {step} in {self.folder}; {available}")

    def _record(self, step: int) -> dict:
        folder = self.folder.absolute() / str(step) / _RECORD
        with _damage_of(self._name_of(step)):
            if sum(file.stat().st_size for file in folder.iterdir()) > _MAX_RECORD_BYTES:
                raise ValueError("its record is too large")
            record = ocp.JsonCheckpointHandler().restore(folder)
            parts = [record.get(part) for part in ("meta", "metrics")] if isinstance(record, dict) else [None]
            if not all(isinstance(part, dict) for part in parts):
                raise ValueError("its record was not written by avsal")
        return record

    def _clear_dropped(self) -> None:
        if not self._read_only and jax.process_index() == 0:
            shutil.rmtree(self.folder / _DROPPED, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class _BestStep(policies.PreservationPolicy):
    """Preserves the checkpoint that `best` chooses.

    Orbax's `BestN` differs from the rule of `Checkpoints`. It reads only metrics that Orbax saved itself, and
    checkpoints of earlier versions have none. Among equal values it keeps the last one. If no value is
    finite, it still keeps one of these checkpoints.
    """

    best: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [info.step for info in checkpoints]
        best = self.best(steps)
        return [step == best for step in steps]


class _OrbaxLog(logging.Filter):
    """Suppresses log messages of Orbax: failed saves raise an error anyway, and its waits are intended.

    Attributes:
      failure: the error of a failed save of this process, which Orbax logs before it raises it.
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
    """Converts an error of reading a checkpoint, except `but`, into an `AvsalError` with advice."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        with warnings.catch_warnings():  # unfinished coroutines of Orbax warn when they are freed
            warnings.simplefilter("ignore", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        raise AvsalError(f"{checkpoint} is damaged: {_reason(error)}; remove it to use another") from error


def _described(tree) -> dict[str, tuple]:
    """Returns {path: (*shape, dtype)} of a pytree's leaves; same paths for stored and restored states."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    described = {}
    for path, leaf in leaves:
        name = "/".join(str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k)))) for k in path)
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype) if _on_device(leaf) else leaf.dtype
        described[name] = (*leaf.shape, str(dtype))
    return described


def _relaid(state, layout: Callable[[dict], dict]):
    """Applies a layout of `models.renamings` to each tree by slot, as of parameters and optimizer state."""
    slots = {"visual_encoder", "heads", "decoder"}

    def by_slot(node) -> bool:
        return isinstance(node, dict) and bool(slots & set(node))

    return jax.tree.map(lambda node: layout(node) if by_slot(node) else node, state, is_leaf=by_slot)


def _on_device(leaf) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and leaf.sharding is not None


def _target(leaf):
    """Returns the target for Orbax. It restores NumPy arrays for NumPy arrays; this one takes no memory."""
    if _on_device(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _exact(leaf, value):
    """Returns the value as a NumPy scalar if the leaf is one."""
    return np.asarray(value)[()] if isinstance(leaf, np.generic) else value


def _reason(error: BaseException) -> str:
    """Returns the system's message for the cause of an error, from anywhere in its chain of errors."""
    chain, link = [], error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for code in _CAUSES:
        message = os.strerror(code)
        if any(getattr(link, "errno", None) == code or message in str(link) for link in chain):
            return message
    return " ".join(damage_reason(error).split())[:200]
