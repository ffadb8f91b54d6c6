"""The training loop: restore, then in turn evaluate, save, take a batch, step."""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.optimizers import learning_rate
from avsal_jax.training.schedules import EarlyStopState, PlateauState
from avsal_jax.training.setup import Run
from avsal_jax.training.validation import validate, validated_size

_IN_FLIGHT = 2  # un-awaited steps; more than about thirty with collectives abort a run on CPU


class Preempted(Exception):
    """The run was asked to stop and is saved; `step` says where."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


@dataclasses.dataclass
class Progress:
    """What the loop knows beside the state on the device; goes into checkpoints as JSON."""

    plateau: PlateauState
    early: EarlyStopState
    restarts: list[int]
    validated: dict

    def to_json(self) -> dict:
        return {
            "plateau": self.plateau._asdict(),
            "early": self.early._asdict(),
            "restarts": self.restarts,
            "validated": self.validated,
        }

    @classmethod
    def from_json(cls, values: dict) -> Progress:
        return cls(
            plateau=PlateauState(**values["plateau"]),
            early=EarlyStopState(**values["early"]),
            restarts=list(values["restarts"]),
            validated=dict(values["validated"]),
        )


def train(
    run: Run,
    asked_to_stop: Callable[[int], bool] = lambda step: False,
    moved: Callable[[str], None] = lambda at: None,
) -> dict:
    """Trains until the last step, or until validation no longer improves.

    Args:
      run: from `setup.prepare_run`.
      asked_to_stop: whether the run shall save and stop, given the steps done; with several processes all
        must get the same answer.
      moved: told whenever something is done, with what goes on from there, in words.

    Returns:
      `steps`, `best` ((metric, value, step) or None), `model` (the exported directory), `validation`.

    Raises:
      Preempted: asked to stop; everything is saved.
      AvsalError: a loss that is not finite, a full disk, data that cannot be read. What was saved stays.
    """
    config, log, total = run.config, run.log, run.total
    flying: collections.deque = collections.deque()
    batches: dict = {}
    try:
        state, progress, start = _restore(run)
        step = start
        log.open(run.checkpoints.latest())
        for name in run.streams:
            batches[name] = run.feed.batches(name, start, total)
        while True:
            due = (step % config.evaluation.every == 0 and step > 0) or step == total
            validated = due and progress.validated.get("step") != step
            if validated:
                _settle(run, flying, 0)
                _validate(run, state=state, progress=progress, step=step, moved=moved)
            stop = config.early_stop is not None and progress.early.stop(config.early_stop)
            preempted = asked_to_stop(step)
            due = (step % config.save_every == 0 and step > start) or step == total
            if due or validated or stop or preempted:  # what is validated is saved, since it may be the best
                _settle(run, flying, 0)
                moved(f"saving step {step} of {total}")
                _save(run, state=state, progress=progress, step=step)
            if preempted:
                run.checkpoints.wait()
                raise Preempted(step)
            if step == total or stop:
                break
            if (step + 1) % config.save_every == 0:
                run.checkpoints.wait()  # a save is complete before the next is due: so little can be lost
            moved(f"step {step + 1} of {total}{', compiled first' if step == start else ''}")
            with log.timer.waiting():
                taken = {name: next(stream) for name, stream in batches.items()}
            state, values = run.step(state, taken, np.float32(progress.plateau.scale))
            step += 1
            flying.append((step, values))
            _settle(run, flying, _IN_FLIGHT - 1)
            if step % config.log_every == 0 or step == total:
                _settle(run, flying, 0)
                log.record(
                    step,
                    learning_rate(
                        config.optimizer,
                        step=step - 1,
                        total_steps=total,
                        plateau_scale=progress.plateau.scale,
                    ),
                )
        moved("writing the model and the report")
        return _finish(run, progress, step)
    except _NotFinite:
        _save(
            run,
            state=state.replace(failed=jnp.full_like(state.failed, -1)),
            progress=progress,
            step=int(state.step),
        )
        run.checkpoints.wait()
        raise
    finally:
        for stream in batches.values():
            stream.close()
        log.close()
        run.workdir.release()


def _restore(run: Run):
    """Returns (state, progress, steps done). Where they come from, in this order:

    1. the last checkpoint of this workdir: the run goes on;
    2. the last checkpoint of the workdir that `resume` names: another run goes on here, with what validation
       decides (plateau, early stopping) counted anew, since data and metric may be others;
    3. the model directories of `init`, over fresh values;
    4. fresh values.
    """
    own = run.checkpoints.latest()
    if own is not None:
        return _restored(run, checkpoints=run.checkpoints, step=own, words="restored")
    if run.config.resume:
        folder = pathlib.Path(run.config.resume) / "checkpoints"
        other = Checkpoints(folder, read_only=True)
        last = other.latest()
        if last is None:
            raise AvsalError(f"{folder} holds no complete checkpoint to resume from")
        state, progress, step = _restored(
            run, checkpoints=other, step=last, words=f"resumed from {run.config.resume},"
        )
        other.close()
        scale = progress.plateau.scale if run.config.optimizer.schedule.watches else 1.0
        return (
            state,
            Progress(PlateauState(scale), early=EarlyStopState(), restarts=progress.restarts, validated={}),
            step,
        )
    return run.initial_state(), Progress(PlateauState(), early=EarlyStopState(), restarts=[], validated={}), 0


def _restored(run: Run, checkpoints: Checkpoints, step: int, words: str):
    if step > run.total:
        raise AvsalError(
            f"{checkpoints.folder} is at step {step} already, and this run ends at step {run.total}; give it "
            "more steps or epochs"
        )
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=run.parallel.everywhere),
        run.shapes,
    )
    state = checkpoints.restore(step, like)
    meta = checkpoints.meta(step)
    try:
        progress = Progress.from_json(meta["progress"])
        run.log.restore(meta["pending"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AvsalError(
            f"the record of checkpoint {step} in {checkpoints.folder} is none of this version "
            f"({type(error).__name__}: {error}); remove it to use another"
        ) from error
    progress.restarts.append(step)
    run.log.say(f"{words} step {step} of {run.total}")
    before, data = meta.get("data"), _data(run)
    if isinstance(before, str):
        before = re.sub(r"clips \w+ epoch", "clips per epoch", before)  # earlier versions worded it otherwise
    if before not in (None, data) and checkpoints is run.checkpoints:
        run.log.say(
            f"warning: the data has changed, was {before}, is {data}: from here on other clips are drawn"
        )
    return state, progress, step


def _data(run: Run) -> str:
    """What a run learns from, in words."""
    return "; ".join(run.learned_from.values())


def _settle(run: Run, flying: collections.deque, leave: int) -> None:
    """Waits until at most `leave` steps are in flight, and takes in the values of the others."""
    while len(flying) > leave:
        step, values = flying.popleft()
        values = {name: np.asarray(value) for name, value in values.items()}
        failed = int(values.pop("failed"))
        if failed >= 0:
            raise _NotFinite(failed)
        run.log.add({name: float(value) for name, value in values.items()})
        run.log.timer.tick(step)


class _NotFinite(AvsalError):
    """The loss or the gradient of a step was not finite."""

    def __init__(self, step: int):
        super().__init__(
            f"the loss or gradient of step {step + 1} is not finite; the state before it is saved. "
            "Resume from this workdir in another one with a lower learning rate, clip_norm, or float32"
        )


def _validate(run: Run, state, progress: Progress, step: int, moved: Callable[[str], None]) -> None:
    with run.log.timer.paused():
        at = f"validating at step {step} of {run.total}"
        validation, rule = run.own_validation(state), "by the objective"
        if validation is None:
            native = run.config.evaluation.native
            validation = validate(
                run.validation_step,
                state=state,
                batches=run.feed.validation_batches(native),
                metrics=run.config.evaluation.scores,
                label=run.spec.label_index,
                pictures=run.config.evaluation.pictures,
                before_batch=lambda: moved(at),
            )
            rule = f"{run.feed.rule}; {validated_size(run.spec, native)}"
    run.log.validated(step, validation, rule)
    run.log.limits(step, run.limits(state))
    value = validation.means[run.config.evaluation.metric]
    schedule = run.config.optimizer.schedule
    if schedule.watches is not None:
        watched = validation.means["loss"] if schedule.watches == "min" else value
        progress.plateau = schedule.observed(progress.plateau, watched)
    if run.config.early_stop is not None:
        watched = validation.means["loss"] if run.config.early_stop.mode == "min" else value
        progress.early = progress.early.update(watched, run.config.early_stop)
    means = {name: mean if math.isfinite(mean) else None for name, mean in validation.means.items()}
    progress.validated = {"step": step, "means": means}


def _save(run: Run, state, progress: Progress, step: int) -> None:
    with run.log.timer.paused():
        fresh = progress.validated.get("step") == step
        means = progress.validated["means"] if fresh else {}
        metrics = {name: value for name, value in means.items() if value is not None}
        meta = {"progress": progress.to_json(), "pending": run.log.pending(), "data": _data(run)}
        run.checkpoints.save(step, state, meta=meta, metrics=metrics)


def _finish(run: Run, progress: Progress, step: int) -> dict:
    """Exports the model that `evaluation.export` names, the last where nothing was validated; reports."""
    run.checkpoints.wait()
    first, metric = run.checkpoints.best(), run.config.evaluation.metric
    best = None if first is None else (metric, run.checkpoints.metrics(first).get(metric), first)
    chosen = step if first is None or run.config.evaluation.export == "last" else first
    state = run.checkpoints.restore(chosen, run.shapes)
    model = run.workdir.path / "model"
    if run.writes:
        run.export(state, model, {"step": chosen, "validation": run.checkpoints.metrics(chosen)})
    run.log.finish(
        run.settings, run.overview(), best=best, restarts=progress.restarts, notes=tuple(run.notes.items())
    )
    run.checkpoints.close()
    return {"steps": step, "best": best, "model": str(model), "validation": progress.validated}
