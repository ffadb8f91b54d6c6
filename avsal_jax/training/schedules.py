"""The learning rate over the steps of a run, its reduction on a plateau, and early stopping.

A step is one batch, also with gradient accumulation. Schedules scale the configured learning rate.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.registry import register
from avsal_jax.spec.fields import Natural, Positive, Range, Share, check_fields, value_of

Mode = Literal["min", "max"]
Inside = Annotated[float, Range(0, 1, above=True, below=True)]


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """The learning rate during a run.

    Attributes:
      warmup_steps: at step s < warmup_steps the rate is multiplied by (s + 1) / warmup_steps.
    """

    warmup_steps: Natural = 0

    def __post_init__(self):
        check_fields(self, "schedule.")

    @abc.abstractmethod
    def build(self, total_steps: int) -> Callable[[jax.Array], jax.Array | None]:
        """Returns a traceable function: step (int32, from 0) -> factor on the rate, a float32 scalar.

        The factor of the warm-up is applied separately. None means a factor of 1.
        """

    @property
    def watches(self) -> Mode | None:
        """The value that `observed` gets: `min` for the validation loss, `max` for the metric, or None."""
        return None

    def observed(self, state: PlateauState, value: float) -> PlateauState:
        """Returns the state after an evaluation with `value`; called if `watches` is not None."""
        del value
        return state


@register("schedule", "constant")
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The full rate, after the warm-up."""

    def build(self, total_steps):
        return lambda step: None


@register("schedule", "cosine")
@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine, from the end of the warm-up to the end of the run.

    Attributes:
      final_fraction: factor on the rate at the end (torch's eta_min / lr).
    """

    final_fraction: Share = 0.0

    def build(self, total_steps):
        span = total_steps - self.warmup_steps

        def factor(step):
            left = jnp.clip(total_steps - step, 0, span) / span
            # (1 + cos(pi (1 - left))) / 2, without the cancellation at the end of the run
            wave = jnp.sin(left * (math.pi / 2)) ** 2
            return self.final_fraction + (1 - self.final_fraction) * wave

        return factor


@register("schedule", "step")
@dataclasses.dataclass(frozen=True)
class Step(Schedule):
    """The rate is multiplied by `gamma` at each milestone.

    Attributes:
      milestones: fractions of the run's steps, increasing, in (0, 1). 0.75 in a run of 1,000 steps is torch's
        milestone 750.
      gamma: the factor.
    """

    milestones: tuple[Inside, ...] = ()
    gamma: Share = 0.1

    def __post_init__(self):
        super().__post_init__()
        if list(self.milestones) != sorted(set(self.milestones)):
            raise AvsalError(f"schedule.milestones must rise; got {self.milestones}")
        if not self.milestones:
            raise AvsalError("schedule 'step' needs milestones, such as (0.5, 0.75) of the run")

    def build(self, total_steps):
        def factor(step):
            boundaries = jnp.array([round(part * total_steps) for part in self.milestones])
            return jnp.float32(self.gamma) ** (step >= boundaries).sum()

        return factor


@register("schedule", "plateau")
@dataclasses.dataclass(frozen=True)
class Plateau(Schedule):
    """The rate is reduced when validation does not improve; see `PlateauState`.

    Attributes:
      mode: whether the watched value must become small (`min`, the loss) or large (`max`, the metric).
      factor, patience, threshold (relative), cooldown: in evaluations, as in torch.
      min_scale: the smallest factor (torch's min_lr / lr).
    """

    mode: Mode = "min"
    factor: Inside = 0.1
    patience: Natural = 10
    threshold: Share = 1e-4
    cooldown: Natural = 0
    min_scale: Share = 0.0

    def build(self, total_steps):
        return lambda step: None

    @property
    def watches(self):
        return self.mode

    def observed(self, state, value):
        return state.update(value, self)


@dataclasses.dataclass(frozen=True)
class EarlyStopConfig:
    """Early stopping of a run.

    Attributes:
      patience: this many evaluations in a row without a better value end the run.
      mode: `min` watches the validation loss, which should fall; `max` watches `evaluation.metric`, which
        should rise.
      threshold: relative change of the best value that counts as an improvement.
    """

    patience: Positive = 10
    mode: Mode = "min"
    threshold: Share = 0.0

    def __post_init__(self):
        check_fields(self, "early_stop.")


def schedule_factor(schedule: Schedule, step: int | jax.Array, total_steps: int) -> jax.Array:
    """Returns the factor on the learning rate at `step` (0 is the first), a float32 scalar; traceable.

    Of `Plateau` this is the warm-up only; `PlateauState` holds the rest.
    """
    step = jnp.asarray(step, jnp.int32)
    warmup = schedule.warmup_steps
    warm = jnp.minimum((step + 1) / warmup, 1.0) if warmup else jnp.float32(1)
    factor = schedule.build(total_steps)(step)
    return warm if factor is None else warm * factor


def check_steps(schedule: Schedule, total_steps: int) -> None:
    """Raises AvsalError unless a run of `total_steps` is possible and ends after the warm-up."""
    value_of(Positive, total_steps, "total_steps")
    if schedule.warmup_steps >= total_steps:
        raise AvsalError(
            f"schedule.warmup_steps {schedule.warmup_steps} must be less than the run's {total_steps} steps"
        )


class PlateauState(NamedTuple):
    """torch.optim.lr_scheduler.ReduceLROnPlateau between evaluations, as plain numbers.

    optax.contrib.reduce_on_plateau differs: it reduces after `patience` bad evaluations where torch waits for
    one more, has no `max`, stores the best value in float32, and runs in every step instead of every
    evaluation. Unlike in torch, reductions of the rate by less than 1e-8 are made too.

    Attributes:
      scale: the factor on all updates; the optimizer's `update` takes it as `plateau_scale`.
      best: the best value so far, if `improved` is above 0.
      improved: number of evaluations that improved the best value.
      bad: number of consecutive evaluations without improvement.
      cooldown: number of coming evaluations that do not count as bad.
    """

    scale: float = 1.0
    best: float = 0.0
    improved: int = 0
    bad: int = 0
    cooldown: int = 0

    def update(self, value: float, config: Plateau) -> PlateauState:
        """Returns the state after an evaluation with `value`; NaN and infinity count as bad."""
        state = self._replace(**_compare(self, value, config))
        if state.cooldown > 0:
            state = state._replace(cooldown=state.cooldown - 1, bad=0)
        if state.bad > config.patience:
            scale = max(state.scale * config.factor, config.min_scale)
            state = state._replace(scale=scale, cooldown=config.cooldown, bad=0)
        return state


class EarlyStopState(NamedTuple):
    """State of early stopping between evaluations, as plain numbers; fields as in `PlateauState`."""

    best: float = 0.0
    improved: int = 0
    bad: int = 0

    def update(self, value: float, config: EarlyStopConfig) -> EarlyStopState:
        """Returns the state after an evaluation with `value`; NaN and infinity count as bad."""
        return self._replace(**_compare(self, value, config))

    def stop(self, config: EarlyStopConfig) -> bool:
        """Whether the run ends here."""
        return self.bad >= config.patience


def _compare(state, value, config) -> dict:
    """Returns `best`, `improved` and `bad` after `value`, with torch's relative threshold."""
    value = float(value)
    if config.mode == "min":
        better = value < state.best * (1 - config.threshold)
    else:
        better = value > state.best * (1 + config.threshold)
    if math.isfinite(value) and (better or state.improved == 0):
        return {"best": value, "improved": state.improved + 1, "bad": 0}
    return {"bad": state.bad + 1}
