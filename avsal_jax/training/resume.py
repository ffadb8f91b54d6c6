"""The first state of a run: from its own checkpoint, from another run, or from initial values."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re

import jax

from avsal_jax.errors import AvsalError
from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.initialise import InitReport
from avsal_jax.training.program import Program
from avsal_jax.training.records.run_log import RunLog
from avsal_jax.training.schedules import EarlyStopState, PlateauState
from avsal_jax.training.schema import TrainConfig
from avsal_jax.training.state import TrainState


@dataclasses.dataclass
class HostState:
    """The part of a run's state on the host, in addition to `TrainState`; stored in checkpoints as JSON.

    Attributes:
      plateau, early: counters of the plateau schedule and of early stopping.
      restarts: steps from which the run was resumed.
      validated: `step` and `means` of the last validation; {} before the first.
    """

    plateau: PlateauState = dataclasses.field(default_factory=PlateauState)
    early: EarlyStopState = dataclasses.field(default_factory=EarlyStopState)
    restarts: list[int] = dataclasses.field(default_factory=list)
    validated: dict = dataclasses.field(default_factory=dict)

    def observe(self, step: int, means: dict[str, float], config: TrainConfig) -> None:
        """Updates the state by a validation: its means by name, including `loss` and `evaluation.metric`."""
        watched = {"min": means["loss"], "max": means[config.evaluation.metric]}
        schedule, early_stop = config.optimizer.schedule, config.early_stop
        if schedule.watches is not None:
            self.plateau = schedule.observed(self.plateau, watched[schedule.watches])
        if early_stop is not None:
            self.early = self.early.update(watched[early_stop.mode], early_stop)
        finite = {name: mean if math.isfinite(mean) else None for name, mean in means.items()}
        self.validated = {"step": step, "means": finite}

    def metrics_at(self, step: int) -> dict[str, float]:
        """Returns the finite values of the validation of this step, by name; {} if it was not validated."""
        means = self.validated["means"] if self.validated.get("step") == step else {}
        return {name: value for name, value in means.items() if value is not None}

    def stops_early(self, config: TrainConfig) -> bool:
        """Whether validation has not improved for as long as `early_stop` allows."""
        return config.early_stop is not None and self.early.stop(config.early_stop)

    def to_json(self) -> dict:
        return {
            "plateau": self.plateau._asdict(),
            "early": self.early._asdict(),
            "restarts": self.restarts,
            "validated": self.validated,
        }

    @classmethod
    def from_json(cls, values: dict) -> HostState:
        return cls(
            plateau=PlateauState(**values["plateau"]),
            early=EarlyStopState(**values["early"]),
            restarts=list(values["restarts"]),
            validated=dict(values["validated"]),
        )


def restore(
    config: TrainConfig,
    program: Program,
    parallel: DataParallel,
    checkpoints: Checkpoints,
    log: RunLog,
    training_data: str,
    initial: tuple[dict, InitReport | None] | None = None,
) -> tuple[TrainState, HostState]:
    """Returns the first state of a run, from the first of these that exists:

    1. the last checkpoint of this workdir, to continue this run;
    2. the last checkpoint of the workdir `resume`, to continue another run here. Counters of validation
       (plateau, early stopping) are reset, since data and metric may differ;
    3. the model directories of `init`, copied over initial values;
    4. initial values.

    Args:
      config, program, parallel, checkpoints, log: of the run.
      training_data: description of the training data; a warning is logged if it changed since the checkpoint.
      initial: what `Program.initial_variables` returned, if it was called already.

    Raises:
      AvsalError: a checkpoint is damaged, does not fit, or is past the end of the run.
    """
    last = checkpoints.latest()
    if last is not None:
        state, host_state, data_before = _restored(
            program, parallel, checkpoints=checkpoints, step=last, log=log
        )
        log.say(f"restored step {last} of {program.total}")
        if data_before not in (None, training_data):
            log.say(
                f"warning: the data has changed, was {data_before}, is {training_data}: from here on other "
                "clips are drawn"
            )
        return state, host_state
    if not config.resume:
        return program.initial_state(log.say, initial), HostState()
    folder = pathlib.Path(config.resume) / "checkpoints"
    other = Checkpoints(folder, read_only=True)
    last = other.latest()
    if last is None:
        raise AvsalError(f"{folder} holds no complete checkpoint to resume from")
    state, host_state, _ = _restored(program, parallel, checkpoints=other, step=last, log=log)
    log.say(f"resumed from {config.resume}, step {last} of {program.total}")
    other.close()
    scale = host_state.plateau.scale if config.optimizer.schedule.watches else 1.0
    return state, HostState(PlateauState(scale), restarts=host_state.restarts)


def _restored(
    program: Program, parallel: DataParallel, checkpoints: Checkpoints, step: int, log: RunLog
) -> tuple[TrainState, HostState, str | None]:
    """Returns a checkpoint's state, host state and training data; restores pending values of the log."""
    if step > program.total:
        raise AvsalError(
            f"{checkpoints.folder} is at step {step} already, and this run ends at step {program.total}; "
            "set more steps or epochs"
        )
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=parallel.everywhere),
        program.shapes,
    )
    state = checkpoints.restore(step, like)
    meta = checkpoints.meta(step)
    try:
        host_state = HostState.from_json(meta["progress"])
        log.restore(meta["pending"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AvsalError(
            f"the record of checkpoint {step} in {checkpoints.folder} was not written by this version "
            f"({type(error).__name__}: {error}); remove it to use an earlier checkpoint"
        ) from error
    host_state.restarts.append(step)
    data = meta.get("data")
    if isinstance(data, str):
        data = re.sub(r"clips \w+ epoch", "clips per epoch", data)  # earlier versions used other words
    return state, host_state, data
