"""From a config and a workdir to everything that the loop needs, checked before any step."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

import avsal_jax
from avsal_jax.data.source_words import videos_in_words
from avsal_jax.errors import AvsalError
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Network, abstract_variables, init_variables
from avsal_jax.models.part import Limit
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.models.systems import Preset, build
from avsal_jax.spec.input import InputSpec
from avsal_jax.storage import write_model
from avsal_jax.training import gradient_reach
from avsal_jax.training.cached_features import cached_features
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.feed import Feed
from avsal_jax.training.initialise import InitReport, initialise
from avsal_jax.training.objectives.objective import (
    MadeStream,
    Objective,
    Stream,
    clip_of,
    joined_variables,
)
from avsal_jax.training.optimizers import group_labels, make_optimizer, with_frozen
from avsal_jax.training.overview import Overview, forward_flops, overview
from avsal_jax.training.parallel import DataParallel
from avsal_jax.training.run_log import RunLog
from avsal_jax.training.schema import ModelConfig, TrainConfig, plain_values
from avsal_jax.training.state import TrainState, new_state
from avsal_jax.training.step import make_prediction_step, make_step, make_validation_step
from avsal_jax.training.validation import NativeStep, Validation, validation_words
from avsal_jax.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to begin or to go on.

    Attributes:
      config, settings: the config; the same as plain values.
      workdir: everything that the run writes is in it; its claim is released by the loop.
      total: the last step.
      preset, spec: the network's description, and the clip it takes.
      streams: the batches that the objective takes.
      feed: the data. parallel: the devices. checkpoints, log: what is written.
      step, validation_step: compiled at their first call.
      shapes: of the state.
      initial_state: gives the state of step 0, on the devices.
      limits: gives what parts watch of the parameters of a state.
      own_validation: gives the objective's own validation of a state; None where its maps are scored.
      overview: gives that of the parameters. notes: rows for the report; those that are `learned_from` say
        what the run learns from.
      writes: whether this process writes logs and models.
    """

    config: TrainConfig
    settings: dict
    workdir: Workdir
    total: int
    preset: Preset
    spec: InputSpec
    streams: dict[str, Stream | MadeStream]
    feed: Feed
    parallel: DataParallel
    checkpoints: Checkpoints
    log: RunLog
    step: Callable
    validation_step: Callable
    own_validation: Callable[[TrainState], Validation | None]
    shapes: TrainState
    initial_state: Callable[[], TrainState]
    limits: Callable[[TrainState], dict[str, Limit]]
    overview: Callable[[], Overview]
    notes: dict[str, str]
    learned_from: dict[str, str]
    writes: bool

    def export(self, state: TrainState, path: pathlib.Path, provenance: dict) -> None:
        """Writes a model directory of a state, in place of the one before."""
        params = state.ema or state.params
        variables = {"params": params, "batch_stats": state.batch_stats}
        slots = {*SLOTS, HEADS}
        variables = {
            name: {slot: tree for slot, tree in part.items() if slot in slots}
            for name, part in variables.items()
        }
        origin = {
            "by": f"avsal_jax {avsal_jax.__version__}",
            "trained on": next(iter(self.learned_from.values())),
        }
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_model(partial, preset=self.preset, variables=variables, provenance={**origin, **provenance})
        shutil.rmtree(path, ignore_errors=True)
        try:
            os.replace(partial, path)
        except OSError as error:
            raise AvsalError(f"cannot write {path}: {error.strerror}; it is in {partial}") from error


def prepare_run(config: TrainConfig, workdir, say: Callable[[str], None], devices=None) -> Run:
    """Returns a run for a config, in a new workdir or in one of the same config.

    Args:
      config: from `schema.build_config`.
      workdir: made if it is missing.
      say: takes lines for the console.
      devices: None for all.

    Raises:
      AvsalError: the workdir is of another config or in use; data, devices, optimizer or initial weights
        do not fit.
    """
    workdir = pathlib.Path(workdir)
    parallel = DataParallel(config.data.batch, devices)
    writes = parallel.process[0] == 0
    preset = config.model.preset()
    network, spec = build(preset, runtime_of(config.model)), preset.input
    if preset.kind != "system" and config.objective.on_videos:
        raise AvsalError(f"{config.model.system} is a part, without maps to train on; name a system")
    feed = Feed(config.data, spec=spec, seed=config.seed, parallel=parallel, objective=config.objective)
    source = feed.source() if network.sees_source else "video"
    objective = config.objective.build(network, config.loss.terms(), source)
    total = config.steps or -(-config.epochs * feed.epoch // config.data.batch)
    settings = plain_values(config)
    claim = Workdir(workdir, settings, writes)
    abstract = _abstract(network, objective)
    forward = _forward(network, abstract, config.objective.feature_names)
    optimizer_config = with_frozen(config.optimizer, network.frozen_parameters)
    optimizer = make_optimizer(optimizer_config, abstract["params"], total)
    make_state = functools.partial(new_state, optimizer=optimizer, ema=bool(config.ema))
    chex.clear_trace_counter()  # it counts by source text, over all runs of a process
    step = chex.assert_max_traces(
        make_step(objective, optimizer=optimizer, total=total, seed=config.seed, ema=config.ema), n=1
    )
    checkpoints = Checkpoints(
        workdir / "checkpoints",
        keep=config.keep,
        metric=config.evaluation.metric,
        mode=config.evaluation.mode,
    )
    log = RunLog(workdir, total=total, writes=writes, say=say)

    @functools.cache
    def parameters():  # lowering the network for its FLOP takes seconds
        return overview(abstract["params"], forward_flops(*forward))

    learned_from = {**_training_data(feed), **config.objective.notes(feed.other_videos)}
    notes = learned_from | _notes(config, feed=feed, spec=spec, total=total, parallel=parallel)
    if checkpoints.latest() is None:
        labels = group_labels(optimizer_config, abstract["params"])
        _tell(log, parameters=parameters(), notes=notes, feed=feed, labels=labels)
        idle = [path for path in gradient_reach.without_gradient(*forward) if labels[path] != "frozen"]
        if idle:
            log.say(f"warning: {gradient_reach.words(idle, len(labels))}")

    def initial_state():
        variables, report = _initial_variables(network, objective, config)
        if report is not None:
            log.say(report.text())
        return parallel.jit(make_state)(parallel.replicate(variables))

    if config.data.cached_features:
        variables, _ = _initial_variables(network, objective, config)
        videos = [*feed.train, *feed.validation]
        feed.use_features(cached_features(network, preset, variables=variables, videos=videos, say=log.say))
        del variables  # the state holds its own

    return Run(
        config=config,
        settings=settings,
        workdir=claim,
        total=total,
        preset=preset,
        spec=spec,
        streams=config.objective.streams(),
        feed=feed,
        parallel=parallel,
        checkpoints=checkpoints,
        log=log,
        step=parallel.jit(step, donate=True),
        validation_step=_validation_step(config, network=network, source=source, parallel=parallel),
        own_validation=functools.partial(_own_validation, objective),
        shapes=jax.eval_shape(make_state, abstract),
        initial_state=initial_state,
        limits=lambda state: network.limits(state.params),
        overview=parameters,
        notes=notes,
        learned_from=learned_from,
        writes=writes,
    )


def runtime_of(model: ModelConfig) -> Runtime:
    """Returns how the network of a config is run."""
    return Runtime(
        dtype=jnp.dtype(model.dtype),
        remat=model.remat,
        frozen_norm=model.norm == "frozen",
        norm_momentum=model.norm_momentum,
        unbiased_variance=model.unbiased_variance,
    )


def _validation_step(config: TrainConfig, network: Network, source: str, parallel: DataParallel) -> Callable:
    """Returns the step of `validation.validate`, compiled at its first call."""
    terms, metrics = config.loss.terms(), config.evaluation.scores
    if config.evaluation.native:
        predict = chex.assert_max_traces(make_prediction_step(network, source), n=1)
        return NativeStep(parallel.jit(predict), terms=terms, metrics=metrics, parallel=parallel)
    step = make_validation_step(network, terms, source, metrics=metrics)
    return parallel.jit(chex.assert_max_traces(step, n=1))


def _own_validation(objective: Objective, state: TrainState) -> Validation | None:
    values = objective.validate(state.ema or state.params, state.batch_stats)
    return None if values is None else Validation(*values, shown=None)


def _abstract(network: Network, objective: Objective) -> dict:
    extra = jax.eval_shape(lambda: objective.extra_variables(0))
    return joined_variables(abstract_variables(network), extra)


def _initial_variables(network, objective, config: TrainConfig) -> tuple[dict, InitReport | None]:
    """Returns the variables of step 0, and what came from the sources of `init`, if there are any."""
    extra = objective.extra_variables(config.seed)
    variables = joined_variables(init_variables(network, config.seed, config.model.start), extra)
    if not config.init:
        return variables, None
    extra = variables.pop("extra")
    variables, report = initialise(variables, [source for _, source in sorted(config.init.items())])
    return {**variables, "extra": extra}, report


def _forward(network: Network, abstract: dict, features: tuple[str, ...]) -> tuple:
    """Returns a forward pass of one clip as a function, and its arguments as shapes: parameters first.

    It gives what a loss may be of: logits, and the named features.
    """
    spec = network.input
    clip = {"frames": jax.ShapeDtypeStruct((1, spec.frames, spec.height, spec.width, 3), np.uint8)}
    if spec.audio is not None:
        clip["audio"] = jax.ShapeDtypeStruct((1, *spec.audio.shape), np.float32)

    def run(params, batch_stats, batch):
        variables = {"params": params, "batch_stats": batch_stats}
        outputs = network.run(variables, clip_of(batch), features=features)
        return outputs.logits, outputs.features

    of_network = {name: tree for name, tree in abstract["params"].items() if name in (*SLOTS, HEADS)}
    return run, of_network, abstract["batch_stats"], clip


def _notes(
    config: TrainConfig, feed: Feed, spec: InputSpec, total: int, parallel: DataParallel
) -> dict[str, str]:
    device, native, batch = parallel.mesh.devices.flat[0], config.evaluation.native, config.data.batch
    validation = f"{len(feed.validation)} videos: {feed.rule}; {validation_words(spec, native)}"
    epochs = f": {total * batch / feed.epoch:.3g} epochs" if feed.epoch else ""
    return {
        **({"validation": validation} if feed.validation else {}),
        "steps": f"{total} of {batch} clips{epochs}",
        "devices": f"{parallel.mesh.size} x {device.device_kind}, {parallel.process[1]} processes",
        "avsal_jax": avsal_jax.__version__,
    }


def _training_data(feed: Feed) -> dict[str, str]:
    if not feed.train:
        return {}
    return {"training data": f"{videos_in_words(feed.train)}, {feed.epoch} clips per epoch"}


def _tell(log: RunLog, parameters: Overview, notes: dict, feed: Feed, labels: dict[str, str]) -> None:
    log.say(parameters.text())
    frozen = sum(label == "frozen" for label in labels.values())
    if frozen:
        log.say(f"{frozen} of {len(labels)} arrays are frozen")
    for name, text in notes.items():
        log.say(f"{name}: {text}")
    for line in feed.warnings:
        log.say(f"warning: {line}")
