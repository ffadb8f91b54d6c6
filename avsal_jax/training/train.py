"""A training run from top to bottom: mesh, model, data, workdir, restore, loop, result."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.storage import EXPORT_FOLDER
from avsal_jax.training.cached_features import cached_features
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.export import export_model
from avsal_jax.training.feed import Feed
from avsal_jax.training.in_flight import InFlight, NotFinite
from avsal_jax.training.profiling import ProfilerWindow
from avsal_jax.training.program import Program, network_of
from avsal_jax.training.records.notes import announce, run_notes, training_data
from avsal_jax.training.records.run_log import RunLog
from avsal_jax.training.resume import HostState, restore
from avsal_jax.training.schema import TrainConfig, plain_values
from avsal_jax.training.state import TrainState
from avsal_jax.training.validation import Validation, validate, validated_size
from avsal_jax.training.workdir import Workdir


class Preempted(Exception):
    """The run was asked to stop, and its state is saved.

    Attributes:
      step: number of completed steps.
    """

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class Trainer:
    """One run in a workdir.

    Attributes:
      config: of the run.
      parallel: the mesh of devices.
      program: the network, and the functions of a step.
      feed: the data.
      workdir: claimed by this run until `run` ends.
      checkpoints, log: outputs in the workdir.

    Args:
      config: from `schema.build_config`.
      workdir: created if missing; resumed if it has checkpoints of the same config.
      say: prints a line on the console.
      should_stop: whether the run must save and stop after this number of steps; with several processes
        all must get the same answer.
      on_activity: called whenever the run makes progress, with a description of its next activity.
      devices: to use; None for all.
      profile: number of steps to profile, into `WORKDIR/profile`.
      config_name: for the log, the report and `model.json`, such as `vinet_dhf1k:table2_t16`; "" if it has no
        name.

    Raises:
      AvsalError: the workdir has another config or is in use; data, devices or optimizer are incompatible.
    """

    def __init__(
        self,
        config: TrainConfig,
        workdir,
        say: Callable[[str], None],
        *,
        should_stop: Callable[[int], bool] = lambda step: False,
        on_activity: Callable[[str], None] = lambda activity: None,
        devices=None,
        profile: int = 0,
        config_name: str = "",
    ):
        self.config, self._should_stop, self._on_activity = config, should_stop, on_activity
        self._names = {"config": config_name} if config_name else {}
        self.parallel = parallel = DataParallel(config.data.batch, devices)
        preset, network = network_of(config)
        self.feed = feed = Feed(
            config.data, spec=network.input, seed=config.seed, parallel=parallel, objective=config.objective
        )
        medium = feed.medium() if network.sees_medium else "video"
        total = config.steps or -(-config.epochs * feed.clips_per_epoch // config.data.batch)
        self.program = Program(config, preset, network, medium=medium, total=total, parallel=parallel)
        self._writes = parallel.process[0] == 0
        self.workdir = Workdir(pathlib.Path(workdir), plain_values(config), self._writes)
        self.checkpoints = Checkpoints(
            self.workdir.path / "checkpoints",
            keep=config.keep,
            metric=config.evaluation.metric,
            mode=config.evaluation.mode,
        )
        self.log = RunLog(self.workdir.path, total=total, writes=self._writes, say=say)
        self._in_flight = InFlight(self.log)
        self._profile = profile if self._writes else 0

    def run(self) -> dict:
        """Trains until the last step, or until validation no longer improves.

        Returns:
          `steps`, `best` ((metric, value, step) or None), `model` (the exported directory), `validation`.

        Raises:
          Preempted: `should_stop` asked for it; everything is saved.
          AvsalError: initial weights or a checkpoint are incompatible, the loss is not finite, the disk is
            full, or data cannot be read. Checkpoints are kept.
        """
        with self.workdir, contextlib.closing(self.log):
            notes = (
                self._names
                | self._training_data
                | run_notes(self.config, feed=self.feed, program=self.program, parallel=self.parallel)
            )
            if self.checkpoints.latest() is None:
                announce(self.log, notes, feed=self.feed, program=self.program)
            state, host_state = self.start()
            self.log.open(self.checkpoints.latest())
            last = self._loop(state, host_state)
            self._on_activity("writing the model and the report")
            return self._finish(host_state, last, notes)

    def start(self) -> tuple[TrainState, HostState]:
        """Returns the first state of the run, as `restore`; first caches features if the config says so."""
        initial = None
        if self.config.data.cached_features:
            initial = variables, _ = self.program.initial_variables()
            videos = [*self.feed.train, *self.feed.validation]
            features = cached_features(self.program, variables, videos=videos, say=self.log.say)
            self.feed.use_features(features)
        return restore(
            self.config,
            self.program,
            self.parallel,
            checkpoints=self.checkpoints,
            log=self.log,
            training_data=self._data_description,
            initial=initial,
        )

    @functools.cached_property
    def _training_data(self) -> dict[str, str]:
        """What the run trains on, in words by title."""
        return training_data(self.config, self.feed)

    @property
    def _data_description(self) -> str:
        return "; ".join(self._training_data.values())

    def _loop(self, state: TrainState, host_state: HostState) -> int:
        """Returns the number of completed steps."""
        start = step = int(state.step)
        log, in_flight, total = self.log, self._in_flight, self.program.total
        profiler = ProfilerWindow(self.workdir.path / "profile", start, self._profile)
        with contextlib.ExitStack() as stack:
            stack.callback(profiler.end)
            streams = {}
            for name in self.config.objective.streams():
                streams[name] = stack.enter_context(contextlib.closing(self.feed.batches(name, step, total)))
            try:
                while not self._between_steps(state, host_state, step=step, start=start):
                    self._on_activity(f"step {step + 1} of {total}{', compiled first' * (step == start)}")
                    profiler.begin(step)
                    with log.timer.waiting():
                        batches = {name: next(stream) for name, stream in streams.items()}
                    state, values = self._step(state, batches, scale=host_state.plateau.scale, step=step)
                    step += 1
                    in_flight.add(step, values)
                    if step % self.config.log_every == 0 or step == total:
                        in_flight.wait()
                        log.record(step, self.program.learning_rate(step - 1, host_state.plateau.scale))
                    if profiler.is_last(step):
                        in_flight.wait()
                        profiler.end()
                        log.say(f"the profile of {self._profile} steps is in {profiler.folder}")
            except NotFinite:
                state = state.replace(failed=jnp.full_like(state.failed, -1))
                self._save(state, host_state, int(state.step))
                self.checkpoints.wait()
                raise
        return step

    def _between_steps(self, state: TrainState, host_state: HostState, step: int, start: int) -> bool:
        """Validates and saves if due; returns whether the run ends here.

        Raises:
          Preempted: the run must stop.
        """
        config, total = self.config, self.program.total
        validation_due = (step % config.evaluation.every == 0 and step > 0) or step == total
        validates = validation_due and host_state.validated.get("step") != step
        if validates:
            self._in_flight.wait()
            self._validate(state, host_state, step)
        ends = step == total or host_state.stops_early(config)
        preempted = self._should_stop(step)
        save_due = step % config.save_every == 0 and step > start
        if save_due or validates or ends or preempted:  # a validated state may be the best
            self._in_flight.wait()
            self._on_activity(f"saving step {step} of {total}")
            self._save(state, host_state, step)
        if preempted:
            self.checkpoints.wait()
            raise Preempted(step)
        if not ends and (step + 1) % config.save_every == 0:
            self.checkpoints.wait()  # a save is complete before the next is due
        return ends

    def _step(self, state: TrainState, batches: dict, scale: float, step: int) -> tuple:
        """Returns the state after a step, and its values, without waiting for the devices."""
        plateau_scale = self.parallel.replicate(np.float32(scale))
        annotation = jax.profiler.StepTraceAnnotation("train", step_num=step)
        with jax.transfer_guard("disallow"), annotation:  # all its inputs are on the devices
            return self.program.step(state, batches, plateau_scale)

    def _validate(self, state: TrainState, host_state: HostState, step: int) -> None:
        with self.log.timer.paused():
            validation, rule = self._validation(state, f"validating at step {step} of {self.program.total}")
        self.log.validated(step, validation, rule)
        self.log.limits(step, self.program.network.limits(state.params))
        host_state.observe(step, validation.means, self.config)

    def _validation(self, state: TrainState, activity: str) -> tuple[Validation, str]:
        """Returns the validation of a state, and a description of its rule."""
        values = self.program.objective.validate(state.evaluated_params, state.batch_stats)
        if values is not None:
            return Validation(*values, examples=None), "by the objective"
        settings, spec = self.config.evaluation, self.program.network.input
        validation = validate(
            self.program.validation_step,
            state=state,
            batches=self.feed.validation_batches(settings.native),
            metrics=settings.scores,
            label=spec.label_index,
            pictures=settings.pictures,
            before_batch=lambda: self._on_activity(activity),
        )
        return validation, f"{self.feed.rule}; {validated_size(spec, settings.native)}"

    def _save(self, state: TrainState, host_state: HostState, step: int) -> None:
        with self.log.timer.paused():
            meta = {
                "progress": host_state.to_json(),  # the key in all versions
                "pending": self.log.pending(),
                "data": self._data_description,
            }
            self.checkpoints.save(step, state, meta=meta, metrics=host_state.metrics_at(step))

    def _finish(self, host_state: HostState, step: int, notes: dict[str, str]) -> dict:
        """Exports the state by `evaluation.export`, or the last if none was validated; writes the report."""
        self.checkpoints.wait()
        best_step, best = self.checkpoints.best(), None
        if best_step is not None:
            metric = self.config.evaluation.metric
            best = metric, self.checkpoints.metrics(best_step).get(metric), best_step
        exported = step if best is None or self.config.evaluation.export == "last" else best_step
        state = self.checkpoints.restore(exported, self.program.shapes)
        model = self.workdir.path / EXPORT_FOLDER
        if self._writes:
            origin = {"step": exported, "validation": self.checkpoints.metrics(exported)}
            origin = {"trained on": next(iter(self._training_data.values()), ""), **self._names, **origin}
            export_model(model, preset=self.program.preset, state=state, provenance=origin)
        self.log.finish(
            plain_values(self.config),
            self.program.overview,
            best=best,
            restarts=host_state.restarts,
            notes=tuple(notes.items()),
        )
        self.checkpoints.close()
        return {"steps": step, "best": best, "model": str(model), "validation": host_state.validated}
