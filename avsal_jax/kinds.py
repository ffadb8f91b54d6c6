"""The kinds of registered entries, and their descriptions for `avsal list`."""

from __future__ import annotations

import dataclasses
import importlib


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of entry that can be registered.

    Attributes:
      about: one line for `avsal list`.
      homes: modules of the package that register entries; of a folder, all modules are imported.
      form: the base class, as `module:Class`.
      are_classes: whether entries are subclasses of the base class; otherwise they are instances of it.
      calls: signatures that an entry must or may define, if its base class does not document them.
      helpers: other names from the package of `form` that `avsal list` documents.
      use: how a config or a command selects the entry NAME.
    """

    about: str
    homes: tuple[str, ...]
    form: str
    are_classes: bool = True
    calls: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    use: str = "--config.model.KIND=NAME"

    def base(self) -> type:
        """Returns the class that `form` names."""
        module, _, name = self.form.partition(":")
        return getattr(importlib.import_module(module), name)


_PART = "avsal_jax.models.part:Part"
KINDS: dict[str, Kind] = {
    "system": Kind(
        "a network: a part for each slot, and its input",
        ("avsal_jax.models.presets",),
        "avsal_jax.models.systems:System",
        are_classes=False,
        use='--config.model.system=NAME, create_model("NAME")',
    ),
    "visual_encoder": Kind(
        "frames -> a pyramid of features",
        ("avsal_jax.models.encoders",),
        _PART,
        calls=(
            "__call__(frames [B, T, H, W, 3], normalised by its `default_input.pixels`, train=False) -> "
            "tuple of levels [B, T', H', W', C], finest first",
            "stem(frames, train=False), trunk(arrays of the stem, train=False): optional; overlapping "
            "windows then compute the stem once per frame",
            "default_input: ClassVar[dict], required fields of `InputSpec`, as {'divisor': 16}",
            "frozen_parameters (property): patterns of the paths of parameters that are not trained",
        ),
    ),
    "neck": Kind(
        "pyramid -> pyramid, before the fusion",
        ("avsal_jax.models.necks",),
        _PART,
        calls=("__call__(pyramid, train=False) -> pyramid; sizes and channels may change",),
    ),
    "audio_encoder": Kind(
        "sound -> tokens",
        ("avsal_jax.models.encoders",),
        _PART,
        calls=(
            "__call__(sound [B, *shape of its front end], train=False) -> tokens [B, S, C]",
            "default_sound: ClassVar, an instance of a front end",
        ),
    ),
    "fusion": Kind(
        "pyramid and sound tokens -> pyramid",
        ("avsal_jax.models.fusion",),
        "avsal_jax.models.fusion.fusion:Fusion",
        calls=(
            "__call__(pyramid, tokens [B, S, C] or None, train=False) -> pyramid",
            "self.sow('intermediates', 'fused', tokens [B, N, C]) records a feature",
        ),
    ),
    "regulator": Kind(
        "fused and visual pyramid -> pyramid",
        ("avsal_jax.models.regulators",),
        _PART,
        calls=("__call__(pyramid before the fusion, pyramid after it, train=False) -> pyramid",),
    ),
    "head": Kind(
        "pyramid -> logits of saliency maps, or of another output",
        ("avsal_jax.models.decoders",),
        _PART,
        calls=(
            "__call__(pyramid, train=False) -> logits; of `saliency`: [B, H, W], the size of the frames",
            "A head with its own loss needs an objective; see the example fixation_count.py.",
        ),
        use="--config.model.heads.saliency=NAME, or a second one: --config.model.heads.ANY=NAME",
    ),
    "front_end": Kind(
        "the sound of a clip -> the input of an audio encoder",
        ("avsal_jax.spec.front_ends",),
        "avsal_jax.spec.front_ends:FrontEnd",
        helpers=("Silence",),
        use="default_sound of an audio encoder, or --config.model.audio.name=NAME",
    ),
    "metric": Kind(
        "agreement of a map with recorded gaze",
        ("avsal_jax.metrics.standard",),
        "avsal_jax.metrics.metric:Metric",
        are_classes=False,
        helpers=("Frame",),
        use="--metrics cc,NAME, --config.evaluation.metric=NAME",
    ),
    "protocol": Kind(
        "processing of maps and truth before the metrics",
        ("avsal_jax.evaluation.protocols",),
        "avsal_jax.evaluation.protocols:Protocol",
        are_classes=False,
        use="--protocol NAME",
    ),
    "baseline": Kind(
        "a rule without a network, evaluated like a model",
        ("avsal_jax.evaluation.baseline",),
        "avsal_jax.evaluation.baseline:Baseline",
        are_classes=False,
        helpers=("BaselineRequest", "MapSource", "Constant"),
        use="--model NAME of avsal evaluate",
    ),
    "output": Kind(
        "files that avsal predict writes",
        ("avsal_jax.inference.writers",),
        "avsal_jax.inference.output:Output",
        helpers=("Item", "Context"),
        use="--save maps,NAME",
    ),
    "conversion": Kind(
        "PyTorch weights -> a model directory",
        ("avsal_jax.convert.tables",),
        "avsal_jax.convert.conversion:Conversion",
        helpers=("Entry",),
        use="--system NAME of avsal convert",
    ),
    "dataset": Kind(
        "videos with recorded gaze: splits, folds, packaging",
        ("avsal_jax.data.sets.public_sets", "avsal_jax.synthetic.generated_set"),
        "avsal_jax.data.sets.dataset:DataSet",
        are_classes=False,
        use="--dataset NAME; --config.data.sources=\"(('NAME', None),)\" once prepared",
    ),
    "packaging": Kind(
        "layout of the files of a data set",
        ("avsal_jax.data.sets.packagings",),
        "avsal_jax.data.sets.dataset:Packaging",
        helpers=("ListedVideo", "VideoEntry", "FileEntry", "Truth", "ArrayTruth", "Fixations"),
        use="--dataset NAME:SET if `user_set` is defined",
    ),
    "loss": Kind(
        "a term of the training loss",
        ("avsal_jax.losses",),
        "avsal_jax.losses:Loss",
        are_classes=False,
        use="--config.loss.NAME=1.0, --config.loss.NAME_form=FORM",
    ),
    "objective": Kind(
        "batches and loss of a training step",
        ("avsal_jax.training.objectives",),
        "avsal_jax.training.objectives.objective:ObjectiveConfig",
        helpers=(
            "Objective",
            "Supervised",
            "Stream",
            "MadeStream",
            "Steps",
            "StepInputs",
            "StepOutputs",
            "clip_of",
            "masked_mean",
        ),
        use="--config.objective=NAME --config.objective.FIELD=VALUE",
    ),
    "optimizer": Kind(
        "updates from gradients",
        ("avsal_jax.training.optimizers",),
        "avsal_jax.training.optimizers:Optimizer",
        use="--config.optimizer=NAME --config.optimizer.FIELD=VALUE",
    ),
    "schedule": Kind(
        "learning rate over a run",
        ("avsal_jax.training.schedules",),
        "avsal_jax.training.schedules:Schedule",
        use="--config.optimizer.schedule=NAME --config.optimizer.schedule.FIELD=VALUE",
    ),
}
