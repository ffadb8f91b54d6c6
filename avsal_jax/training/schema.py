"""The config of a training run: frozen dataclasses, built from plain nested values, which are checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from avsal_jax.data.prepared.feature_cache import NO_FLIP
from avsal_jax.data.prepared.sampling import Sampling
from avsal_jax.data.prepared.source_words import check_sources
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.losses import LossConfig
from avsal_jax.models.changes import INPUT_FIELDS, merged
from avsal_jax.models.initial import Start
from avsal_jax.models.renamings import refuse_old_setting
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.models.systems import Preset, resolve
from avsal_jax.spec.fields import (
    Decay,
    Natural,
    Positive,
    Range,
    Registered,
    build,
    check_fields,
    checked,
    field_types,
    plain,
)
from avsal_jax.training.choices import with_names
from avsal_jax.training.initialise import Init
from avsal_jax.training.objectives.objective import ObjectiveConfig
from avsal_jax.training.objectives.supervised import SupervisedConfig
from avsal_jax.training.optimizers import Adam, Optimizer
from avsal_jax.training.schedules import EarlyStopConfig
from avsal_jax.training.validation_values import LOSS, check_metric, falls, usable_metrics, usual_metrics


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network.

    In a config, `changes` are next to the other fields: `config.model.fusion = {"name": "ravf"}`,
    `--config.model.frames=16`.

    Attributes:
      system: the name of a registered system.
      changes: nested changes of its slots, heads and input (see `models.changes`).
      start: initial values: `he`, or `torch`, the default of torch's layers, as in the public code (see
        `models.initial`).
      dtype: of the computation: `float32` or `bfloat16`.
      remat: recompute each encoder stage in the backward pass, to save memory.
      norm: statistics of batch norms: `global` (of the batch over all devices) or `frozen` (running).
      norm_momentum: share of the old running statistics kept per step; 0.999 as the public code when
        fine-tuning, 0.99 from scratch.
      unbiased_variance: whether running variances are as in torch (see `models.layers.Runtime`).
    """

    system: str = "vinet"
    changes: dict = dataclasses.field(default_factory=dict)
    start: Start = "he"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    norm: Literal["global", "frozen"] = "global"
    norm_momentum: Decay = 0.999
    unbiased_variance: bool = False

    @classmethod
    def from_values(cls, values: Mapping, path: str) -> ModelConfig:
        """Returns the config of plain values, in which changes are next to the other fields."""
        run = {name: value for name, value in values.items() if name in RUN_FIELDS}
        rest = {name: value for name, value in values.items() if name not in RUN_FIELDS}
        _check_settings(rest, path)
        hints = {name: hint for name, hint in field_types(cls).items() if name in RUN_FIELDS}
        return cls(**checked(run, hints=hints, owner=path, path=f"{path}."), changes=merged({}, rest))

    def preset(self) -> Preset:
        """Returns the network's description; AvsalError for unknown names."""
        return resolve(self.system, self.changes)

    def to_values(self) -> dict:
        """Returns the complete model as plain nested values for `from_values`."""
        return {**self.preset().complete().to_dict(), **{name: getattr(self, name) for name in RUN_FIELDS}}


# Fields of a model's config on how the network is run and initialised.
RUN_FIELDS = ("system", "start", "dtype", "remat", "norm", "norm_momentum", "unbiased_variance")


def changed_model(model: Mapping, changes: Mapping) -> dict:
    """Returns the plain values of a `ModelConfig` with changes applied; see `changes.merged`."""
    run = {name: value for name, value in {**model, **changes}.items() if name in RUN_FIELDS}
    rest = [{n: v for n, v in values.items() if n not in RUN_FIELDS} for values in (model, changes)]
    _check_settings(changes, "model")
    return run | merged(*rest)


def _check_settings(values: Mapping, path: str) -> None:
    """Raises AvsalError for a key below `model` that is not a field or a setting of a network."""
    settings = (*RUN_FIELDS, *SLOTS, HEADS, *INPUT_FIELDS)
    for key in values:
        name = str(key).partition(".")[0]
        if name == "set":
            raise AvsalError(
                f"{path}.set was removed: give each setting separately, as --config.model.fusion=ravf "
                "--config.model.fusion.heads=8"
            )
        if name not in settings:
            refuse_old_setting(key)
            hint = did_you_mean(name, settings).replace("'", f"'{path}.", 1)
            raise AvsalError(f"{path} has no setting {name!r}{hint}; it has {', '.join(settings)}")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The prepared data.

    Attributes:
      root: the output folder of `avsal prepare`.
      sources: (set, fold) pairs, or list files; see `selection.PreparedSources`.
      batch: clips per step, over all devices and processes.
      sampling: of training clips.
      validation: `published` or `holdout`.
      holdout: share of the training videos that `holdout` uses for validation.
      stride: frames between the starts of validation clips; 0 for four times the clip length, as ViNet
        on DHF1K.
      workers: threads of the pipeline; 0 for one per processor.
      cached_features: whether to compute the features of a frozen visual encoder once per frame, store them
        next to the prepared set, and train on them; see `training.cached_features`. Requires sampling without
        `flip`.
    """

    root: str = "prepared"
    sources: tuple = ()
    batch: Positive = 8
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    validation: Literal["published", "holdout"] = "published"
    holdout: Annotated[float, Range(0, 1, above=True, below=True)] = 0.1
    stride: Natural = 0
    workers: Natural = 0
    cached_features: bool = False

    def __post_init__(self):
        check_fields(self, "data.")
        check_sources(self.sources)
        if self.cached_features and self.sampling.flip:
            raise AvsalError(NO_FLIP)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Validation during training, on clips; `avsal evaluate` scores whole videos.

    Attributes:
      every: steps between validations; the last step is always validated.
      metric: selects the best checkpoint: `loss`, or a registered metric that validation can compute.
      metrics: computed by each validation in addition to the loss and `metric`.
      export: the checkpoint to export: `best`, or `last` if validation does not measure the goal of the run,
        as in adaptation to another domain.
      native: whether loss and metrics are computed at the size of the truth, after a blur of 11x11, as in
        public ViNet; this runs on the host. By default they are computed at the network's size.
      pictures: number of clips shown as frame, truth and map.
    """

    every: Positive = 1000
    metric: str = dataclasses.field(default_factory=lambda: usual_metrics()[0])
    metrics: tuple[str, ...] = dataclasses.field(default_factory=usual_metrics)
    export: Literal["best", "last"] = "best"
    native: bool = False
    pictures: Annotated[int, Range(0, 64)] = 4

    def __post_init__(self):
        check_fields(self, "evaluation.")
        check_metric(self.metric, "evaluation.metric", also=(LOSS,))
        for name in self.metrics:
            check_metric(name, "evaluation.metrics")

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of the metrics that validation computes, without duplicates."""
        return tuple(dict.fromkeys((*self.metrics, *(() if self.metric == LOSS else (self.metric,)))))

    @property
    def mode(self) -> str:
        """`min` if the smallest value of the metric is the best, else `max`."""
        return "min" if falls(self.metric) else "max"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      objective: the loss and the batches of a step.
      plugins: files and modules that register names used in the config; see `avsal_jax.plugins`.
      steps: number of training steps; 0 to use `epochs`.
      epochs: passes over the training videos, if `steps` is 0.
      seed: of all random numbers.
      init: model directories to initialise from, under arbitrary names, applied in the order of names; see
        `training.initialise`.
      resume: workdir of another run, to resume from its last checkpoint with this config.
      ema: decay of the averaged parameters, which are validated and exported; 0 disables averaging.
      save_every, keep: steps between checkpoints (each validation also saves one), and the number of
        checkpoints to keep in addition to the best.
      log_every: steps between log records.
      early_stop: stops when validation does not improve: its loss (mode `min`) or `evaluation.metric` (mode
        `max`); None to disable.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: Annotated[Optimizer, Registered("optimizer")] = dataclasses.field(default_factory=Adam)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    objective: Annotated[ObjectiveConfig, Registered("objective")] = dataclasses.field(
        default_factory=SupervisedConfig
    )
    early_stop: EarlyStopConfig | None = None
    init: dict[str, Init] = dataclasses.field(default_factory=dict)
    resume: str = ""
    steps: Natural = 0
    epochs: Natural = 0
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0  # jax's keys take 32 bits
    ema: Decay = 0.0
    save_every: Positive = 1000
    keep: Positive = 3
    log_every: Positive = 50
    plugins: tuple[str, ...] = ()

    def __post_init__(self):
        check_fields(self, "")
        if bool(self.steps) == bool(self.epochs):
            raise AvsalError(f"give either steps or epochs; got {self.steps} and {self.epochs}")
        if self.resume and self.init:
            raise AvsalError("resume takes all weights from another run; remove init (--config.init=none)")
        if self.data.cached_features and self.resume:
            raise AvsalError("data.cached_features is incompatible with resume; set only one of them")
        self._check_watched()

    def _check_watched(self):
        """Refuses a plateau or early stop with mode max if smaller values of the metric are better."""
        schedule, early = self.optimizer.schedule, self.early_stop
        modes = {"optimizer.schedule": schedule.watches}
        modes["early_stop"] = early.mode if early is not None else "min"
        for name, mode in modes.items():
            if mode == "max" and self.evaluation.mode == "min":
                rising = (metric for metric in usable_metrics() if not falls(metric))
                raise AvsalError(
                    f"{name}.mode 'max' waits for evaluation.metric {self.evaluation.metric!r} to rise, "
                    f"which should fall; use mode 'min', or one of {', '.join(rising)}"
                )


def plain_values(config: TrainConfig) -> dict:
    """Returns a config as plain JSON values for `build_config`, with all fields of the model."""
    return json.loads(json.dumps(plain(config)))


def build_config(values: Mapping) -> TrainConfig:
    """Returns the checked config of plain nested values; a choice without a name is the default.

    Raises:
      AvsalError: an unknown key (with the nearest one), a value of a wrong type or out of range, or
        incompatible values.
    """
    if isinstance(values, Mapping) and isinstance(values.get("init"), tuple | list) and values["init"]:
        raise AvsalError(
            "init is a mapping with arbitrary names, as init = {'vinet': {'path': 'runs/vinet/model'}}"
        )
    config = build(TrainConfig, with_names(TrainConfig, values), owner="the config")
    config.model.preset()
    config.loss.terms()
    if not config.data.sources and config.objective.on_videos:
        raise AvsalError("data.sources is empty: name a set to train on, as (('diem', 1),)")
    config.objective.check(config)
    return config
