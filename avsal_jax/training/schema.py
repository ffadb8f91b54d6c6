"""What a training run is: frozen dataclasses, made from plain nested values with errors that help."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from avsal_jax.data.sampling import Sampling
from avsal_jax.errors import AvsalError
from avsal_jax.losses import LOSSES, Term
from avsal_jax.models.systems import Preset, resolve
from avsal_jax.spec.fields import build
from avsal_jax.specs import parse_setting
from avsal_jax.training.domain_adversarial import AdaptConfig
from avsal_jax.training.initialise import Init
from avsal_jax.training.optimizer import OptimizerConfig
from avsal_jax.training.schedules import EarlyStopConfig, check_name, check_number
from avsal_jax.training.step import VALIDATION_METRICS

_DTYPES = ("float32", "bfloat16")
_NORMS = ("global", "frozen")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
      system: a name in `models.systems.SYSTEMS`.
      set: parts, fields and input by name, as `frames=16,decoder.hierarchy=2` (see `systems.resolve`).
      dtype: of the computation: `float32` or `bfloat16`.
      remat: recompute each encoder stage in the backward pass, to save memory.
      norm: batch norm by `global` (the batch over all devices) or `frozen` (running) statistics.
      norm_momentum: share of the old running statistics kept per step; 0.999 as the public code when
        fine-tuning, 0.99 from scratch.
    """

    system: str = "vinet"
    set: str = ""
    dtype: str = "float32"
    remat: bool = False
    norm: str = "global"
    norm_momentum: float = 0.999

    def __post_init__(self):
        check_name("model.dtype", self.dtype, _DTYPES)
        check_name("model.norm", self.norm, _NORMS)
        check_number("model.norm_momentum", self.norm_momentum, "[0, 1)")

    def preset(self) -> Preset:
        """Returns the network's description; AvsalError for what does not exist."""
        return resolve(self.system, overrides_of(self.set))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The prepared data.

    Attributes:
      root: the folder that `avsal prepare --output` made.
      sources: (set, fold) pairs, or list files; see `data.sources.PreparedSources`.
      batch: clips of a step, over all devices and processes.
      sampling: how training clips are drawn.
      validation: `published` or `holdout`.
      holdout: share of the training videos that `holdout` takes.
      stride: frames between the starts of validation clips; 0 for four times the clip length, as ViNet
        on DHF1K.
      workers: threads of the pipeline; 0 for one per processor.
    """

    root: str = "prepared"
    sources: tuple = ()
    batch: int = 8
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    validation: str = "published"
    holdout: float = 0.1
    stride: int = 0
    workers: int = 0

    def __post_init__(self):
        check_number("data.batch", self.batch, "[1, inf)", whole=True)
        check_number("data.stride", self.stride, "[0, inf)", whole=True)
        check_number("data.workers", self.workers, "[0, inf)", whole=True)
        check_number("data.holdout", self.holdout, "(0, 1)")
        _check_sources(self.sources)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses by name, as the papers print them (cc=-0.1 rewards correlation); 0 for none."""

    kl: float = 1.0
    cc: float = 0.0
    sim: float = 0.0
    nss: float = 0.0
    bce: float = 0.0
    kl_form: str = "vinet"
    bce_form: str = "sum"

    def terms(self) -> tuple[Term, ...]:
        """Returns the losses that count; AvsalError where there is none."""
        forms = {"kl": self.kl_form, "bce": self.bce_form}
        terms = tuple(Term(n, getattr(self, n), forms.get(n, "")) for n in LOSSES if getattr(self, n))
        if not terms:
            raise AvsalError(f"all losses have weight 0; give one of {', '.join(LOSSES)} a weight")
        return terms


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Validation in the loop; whole videos are `avsal evaluate`'s.

    Attributes:
      every: steps between validations; one more at the end.
      metric: the best checkpoint has the largest `cc`, `sim` or `nss`, or the smallest `loss` or `kl`.
      export: which checkpoint becomes the model: the `best` one, or the `last`, where validation does not
        see what the run is for, as in adaptation to another domain.
      pictures: clips shown as frame, truth and map.
    """

    every: int = 1000
    metric: str = "cc"
    export: str = "best"
    pictures: int = 4

    def __post_init__(self):
        check_number("evaluation.every", self.every, "[1, inf)", whole=True)
        check_number("evaluation.pictures", self.pictures, "[0, 64]", whole=True)
        check_name("evaluation.metric", self.metric, VALIDATION_METRICS)
        check_name("evaluation.export", self.export, ("best", "last"))

    @property
    def mode(self) -> str:
        return "min" if self.metric in ("loss", "kl") else "max"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      adapt: a target domain without labels to adapt to; None for none.
      steps: optimizer is called so often; 0 for `epochs`.
      epochs: passes over the training videos, where `steps` is 0.
      seed: of everything that is drawn.
      init: model directories to start from, in turn; see `training.initialise`.
      resume: another run's workdir, to go on from its last checkpoint with this config.
      ema: decay of the averaged parameters that are validated and exported; 0 for none.
      save_every, keep: steps between checkpoints (each validation is followed by one too), and how many are
        kept beside the best.
      log_every: steps between records.
      early_stop: stops when validation does not improve: its loss (mode `min`) or `evaluation.metric` (mode
        `max`); None for never.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    adapt: AdaptConfig | None = None
    early_stop: EarlyStopConfig | None = None
    init: tuple[Init, ...] = ()
    resume: str = ""
    steps: int = 0
    epochs: int = 0
    seed: int = 0
    ema: float = 0.0
    save_every: int = 1000
    keep: int = 3
    log_every: int = 50

    def __post_init__(self):
        for name in ("steps", "epochs"):
            check_number(name, getattr(self, name), "[0, inf)", whole=True)
        check_number("seed", self.seed, "[0, 4294967296)", whole=True)  # jax's keys take 32 bits
        for name in ("save_every", "keep", "log_every"):
            check_number(name, getattr(self, name), "[1, inf)", whole=True)
        check_number("ema", self.ema, "[0, 1)")
        if bool(self.steps) == bool(self.epochs):
            raise AvsalError(f"give either steps or epochs; got {self.steps} and {self.epochs}")
        if self.adapt is not None:
            _check_sources(self.adapt.sources)
        if self.resume and self.init:
            raise AvsalError("resume takes all weights from another run; leave init out")
        self._check_watched()

    def _check_watched(self):
        """A plateau or early stop with mode max watches the metric, which must be one that shall rise."""
        schedule, early = self.optimizer.schedule, self.early_stop
        modes = {"optimizer.schedule": schedule.mode if schedule.name == "plateau" else "min"}
        modes["early_stop"] = early.mode if early is not None else "min"
        for name, mode in modes.items():
            if mode == "max" and self.evaluation.mode == "min":
                raise AvsalError(
                    f"{name}.mode 'max' waits for evaluation.metric {self.evaluation.metric!r} to rise, "
                    "which shall fall; use mode 'min', or one of cc, sim, nss"
                )


def _check_sources(sources: tuple) -> None:
    for source in sources:
        if not isinstance(source, str) and not (
            isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], str)
        ):
            raise AvsalError(
                f"a data source is (set, fold), as ('coutrot1', 1), or a list file; got {source!r}"
            )


def overrides_of(text: str) -> dict:
    """Returns {"frames": 16, "decoder.hierarchy": 2} of `frames=16,decoder.hierarchy=2`."""
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals:
            raise AvsalError(f"{pair!r} in model.set is not name=value, as in fusion=ravf,fusion.heads=8")
        found[key] = parse_setting(value)
    return found


def joined_settings(first: str, then: str) -> str:
    """Returns two texts like `model.set` as one, without what `then` sets anew, or replaces the slot of."""
    new = overrides_of(then)
    pairs = [pair.strip() for pair in first.split(",") if pair.strip()]
    kept = [pair for pair in pairs if not {key := pair.partition("=")[0], key.partition(".")[0]} & set(new)]
    return ",".join(kept + [pair.strip() for pair in then.split(",") if pair.strip()])


def build_config(values: Mapping) -> TrainConfig:
    """Returns the checked config out of plain nested values, as `dataclasses.asdict` gives them.

    Raises:
      AvsalError: an unknown key (with the nearest known one), a value of a wrong type or out of range, or
        what does not go together.
    """
    config = build(TrainConfig, values, owner="the config")
    config.model.preset()
    config.loss.terms()
    if not config.data.sources:
        raise AvsalError("data.sources is empty: name a set to train on, as (('diem', 1),)")
    if config.adapt is not None and not config.adapt.sources:
        raise AvsalError("adapt.sources is empty: name the target domain, as (('diem', 1),)")
    return config
