"""Optimizers: Adam, AdamW and SGD with torch's arithmetic, parameter groups, clipping, accumulation.

Updates equal those of torch.optim (2.13) on the same gradients; the first updates of adam to a relative error
of about 1e-5, because optax computes 1 - b2**t in float32. adam and sgd add weight decay to the gradient;
adamw subtracts it from the parameter. Clipping applies to the gradients of trained parameters, averaged over
an accumulation, before weight decay, as torch.nn.utils.clip_grad_norm_ before step() (without its 1e-6).
"""

from __future__ import annotations

import abc
import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from avsal_jax.errors import AvsalError
from avsal_jax.models.renamings import renamed_pattern
from avsal_jax.registry import register
from avsal_jax.spec.fields import Decay, NotNegative, Positive, Range, Registered, check_fields
from avsal_jax.training.schedules import Constant, Schedule, check_steps, schedule_factor

_FROZEN, _TRAINED, _REST = "frozen", "trained", "rest"


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters with their own learning rate scale or weight decay.

    Attributes:
      pattern: a regular expression for whole paths, such as `visual_encoder/.*` or `.*/(bias|scale)`.
      scale: factor on the learning rate; 0 freezes (no update, no optimizer state).
      weight_decay: of this group; None for the optimizer's.
    """

    pattern: str
    scale: NotNegative = 1.0
    weight_decay: NotNegative | None = None

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise AvsalError(
                f"the pattern {self.pattern!r} of a parameter group is not a regular expression: {error}"
            ) from None
        check_fields(self, f"group {self.pattern!r}: ")


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """How gradients become updates.

    Attributes:
      learning_rate: before the factor of the schedule.
      weight_decay: as in torch; each optimizer defines how it is applied.
      clip_norm: the largest global norm of the trained gradients; None to disable.
      accumulate: number of batches whose mean gradient makes one update.
      groups: a parameter belongs to the first group that matches its path.
      schedule: of the learning rate.
    """

    learning_rate: Annotated[float, Range(0, above=True)] = 1e-4
    weight_decay: NotNegative = 0.0
    clip_norm: Annotated[float, Range(0, above=True)] | None = None
    accumulate: Positive = 1
    groups: tuple[Group, ...] = ()
    schedule: Annotated[Schedule, Registered("schedule")] = dataclasses.field(default_factory=Constant)

    def __post_init__(self):
        check_fields(self, "optimizer.")

    @abc.abstractmethod
    def build(self, weight_decay: float) -> tuple[optax.GradientTransformation, ...]:
        """Returns the transformations of a group of parameters, in order: gradients -> directions.

        Clipping and accumulation are applied before, and the negative learning rate after them: see
        `make_optimizer`.

        Args:
          weight_decay: of the group.
        """


@dataclasses.dataclass(frozen=True)
class _WithMoments(Optimizer):
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NotNegative = 1e-8

    def moments(self) -> optax.GradientTransformation:
        """Returns the transformation of gradients by Adam."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@register("optimizer", "adam")
@dataclasses.dataclass(frozen=True)
class Adam(_WithMoments):
    """torch.optim.Adam: weight decay is added to the gradient.

    Attributes:
      b1, b2, eps: torch's betas and eps.
    """

    def build(self, weight_decay):
        return (*_decay(weight_decay), self.moments())


@register("optimizer", "adamw")
@dataclasses.dataclass(frozen=True)
class AdamW(_WithMoments):
    """torch.optim.AdamW: weight decay is subtracted from the parameter.

    Attributes:
      b1, b2, eps: torch's betas and eps.
    """

    def build(self, weight_decay):
        return (self.moments(), *_decay(weight_decay))


@register("optimizer", "sgd")
@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """torch.optim.SGD: weight decay is added to the gradient.

    Attributes:
      momentum, dampening, nesterov: as in torch, where dampening starts at the second update.
    """

    momentum: Decay = 0.0
    dampening: Decay = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise AvsalError("optimizer.nesterov needs momentum, and dampening 0")

    def build(self, weight_decay):
        momentum = _torch_momentum(self.momentum, self.dampening, self.nesterov)
        return (*_decay(weight_decay), momentum)


def _decay(weight_decay: float) -> list[optax.GradientTransformation]:
    return [optax.add_decayed_weights(weight_decay)] if weight_decay else []


def with_frozen(config: Optimizer, patterns: Sequence[str]) -> Optimizer:
    """Returns `config` with a frozen group for each pattern, before all others.

    Args:
      config: the optimizer.
      patterns: of whole paths, as in `Network.frozen_parameters`.
    """
    frozen = tuple(Group(pattern, scale=0) for pattern in patterns)
    return dataclasses.replace(config, groups=(*frozen, *config.groups))


def make_optimizer(config: Optimizer, params, total_steps: int) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer for `params`.

    Its `update(gradients, state, params, plateau_scale=1.0)` takes the scale of a `PlateauState` as an
    argument, so that a reduction does not recompile. Frozen parameters have zero updates and no state.

    Args:
      config: the optimizer.
      params: nested dicts of arrays, or their shapes.
      total_steps: number of batches of the run.

    Raises:
      AvsalError: a group without parameters, all parameters frozen, a warm-up that is not shorter than the
        run, or an accumulation that is longer than it.
    """
    check_steps(config.schedule, total_steps)
    if config.accumulate > total_steps:
        raise AvsalError(
            f"optimizer.accumulate {config.accumulate} is more than the run's {total_steps} steps: there "
            "would be no update"
        )
    labels = group_labels(config, params)
    used = set(labels.values()) - {_FROZEN}
    if not used:
        raise AvsalError("every parameter is frozen; set the scale of a group above 0, or remove a group")
    groups = {_label(index, group): group for index, group in enumerate(config.groups)} | {_REST: Group(".*")}
    by_group = {label: _rule(config, groups[label], total_steps) for label in sorted(used)}
    trained = optax.partition(by_group, lambda tree: _map_paths(labels.__getitem__, tree))
    if config.clip_norm is not None:
        trained = optax.chain(optax.clip_by_global_norm(config.clip_norm), trained)
    if config.accumulate > 1:
        trained = optax.MultiSteps(trained, config.accumulate).gradient_transformation()
    # Frozen parameters are separated first: the norm and the accumulator do not include them.
    partitioned = optax.partition(
        {_FROZEN: optax.set_to_zero(), _TRAINED: trained},
        lambda tree: _map_paths(lambda path: _FROZEN if labels[path] == _FROZEN else _TRAINED, tree),
    )
    return optax.chain(partitioned, _scale_by_plateau())


def learning_rate(config: Optimizer, step: int, total_steps: int, plateau_scale: float = 1.0) -> float:
    """Returns the learning rate at batch `step`, from 0, of parameters without a group.

    With accumulation, an update uses the rate of its first batch.
    """
    first = step // config.accumulate * config.accumulate
    factor = schedule_factor(config.schedule, first, total_steps)
    return config.learning_rate * float(factor) * plateau_scale


def group_labels(config: Optimizer, params) -> dict[str, str]:
    """Returns the group of each parameter by path: `frozen`, `group<index>` or `rest`.

    Raises:
      AvsalError: a group does not get any parameter.
    """
    paths = jax.tree.leaves(_map_paths(str, params))
    labels = dict.fromkeys(paths, _REST)
    free = set(paths)
    for index, group in enumerate(config.groups):
        matched = {path for path in paths if re.fullmatch(group.pattern, path)}
        if not matched:
            today = renamed_pattern(group.pattern)
            if today != group.pattern:
                raise AvsalError(f"the parameter group {group.pattern!r} is now {today!r}")
            close = difflib.get_close_matches(group.pattern, paths, 3, 0.0)
            raise AvsalError(
                f"the parameter group {group.pattern!r} matches none of {len(paths)} parameters; a pattern "
                f"must match a whole path, such as {', '.join(close)}"
            )
        if not matched & free:
            raise AvsalError(
                f"the parameter group {group.pattern!r} gets no parameter: groups before it match all of its "
                "parameters; put it first"
            )
        labels |= dict.fromkeys(matched & free, _label(index, group))
        free -= matched
    return labels


def _label(index, group):
    return _FROZEN if group.scale == 0 else f"group{index}"


def _map_paths(function, tree):
    """Returns `tree` with `function('a/b/c')` at each leaf; optax omits leaves of other groups."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: function("/".join(str(key.key) for key in path)), tree
    )


def _rule(config, group, total_steps) -> optax.GradientTransformation:
    rule = config.build(config.weight_decay if group.weight_decay is None else group.weight_decay)

    def rate(count):
        factor = schedule_factor(config.schedule, count * config.accumulate, total_steps)
        return config.learning_rate * group.scale * factor

    return optax.chain(*rule, optax.scale_by_learning_rate(rate))


class MomentumState(NamedTuple):
    """State of sgd: the velocity, and whether an update was made."""

    velocity: optax.Params
    started: jax.Array


def _torch_momentum(momentum, dampening, nesterov) -> optax.GradientTransformation:
    """Returns torch.optim.SGD's velocity; its dampening skips the first gradient, optax.trace has none."""
    if momentum == 0:
        return optax.identity()

    def init(params):
        return MomentumState(optax.tree.zeros_like(params), jnp.array(False))

    def update(updates, state, params=None):
        del params
        weight = jnp.where(state.started, 1 - dampening, 1.0)
        velocity = jax.tree.map(lambda v, g: momentum * v + weight * g, state.velocity, updates)
        looked_ahead = jax.tree.map(lambda v, g: g + momentum * v, velocity, updates)
        return looked_ahead if nesterov else velocity, MomentumState(velocity, jnp.array(True))

    return optax.GradientTransformation(init, update)


def _scale_by_plateau() -> optax.GradientTransformationExtraArgs:
    def update(updates, state, params=None, *, plateau_scale=1.0, **extra):
        del params, extra
        return jax.tree.map(lambda u: u * plateau_scale, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
