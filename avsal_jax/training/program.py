"""The program of a run: network, objective, optimizer, and the compiled functions of a step."""

from __future__ import annotations

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Network, abstract_variables, init_variables
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.models.systems import Preset, build
from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.training.initialise import InitReport, initialise
from avsal_jax.training.objectives.objective import clip_of, joined_variables
from avsal_jax.training.optimizers import group_labels, learning_rate, make_optimizer, with_frozen
from avsal_jax.training.records.overview import Overview, forward_flops, overview
from avsal_jax.training.schema import ModelConfig, TrainConfig
from avsal_jax.training.state import TrainState, new_state
from avsal_jax.training.step import make_prediction_step, make_step, make_validation_step
from avsal_jax.training.validation import NativeStep


class Program:
    """The functions of a training run; it does not access data or files.

    Attributes:
      preset, network: the network to train, and its description.
      objective: computes the loss.
      labels: the optimizer group of each parameter, by path; `frozen` parameters are not updated.
      total: number of steps of the run.
      shapes: the state as `jax.ShapeDtypeStruct`.
      step: (state, batches, plateau scale) -> (state, values to log); compiled at its first call. The state
        is donated.
      validation_step: for `validation.validate`; compiled at its first call.

    Args:
      config: of the run.
      preset, network: from `network_of`.
      medium: of all clips; as `Clip.medium`.
      total: number of steps.
      parallel: the devices.

    Raises:
      AvsalError: the network lacks what the objective needs, or the optimizer does not fit it.
    """

    def __init__(
        self,
        config: TrainConfig,
        preset: Preset,
        network: Network,
        medium: str,
        total: int,
        parallel: DataParallel,
    ):
        self.preset, self.network, self.total = preset, network, total
        self._config, self._parallel = config, parallel
        self.objective = config.objective.build(network, config.loss.terms(), medium)
        extra = jax.eval_shape(lambda: self.objective.extra_variables(0))
        self._abstract = joined_variables(abstract_variables(network), extra)
        optimizer_config = with_frozen(config.optimizer, network.frozen_parameters)
        self.labels = group_labels(optimizer_config, self._abstract["params"])
        optimizer = make_optimizer(optimizer_config, self._abstract["params"], total)
        self._new_state = functools.partial(new_state, optimizer=optimizer, ema=bool(config.ema))
        self.shapes: TrainState = jax.eval_shape(self._new_state, self._abstract)
        chex.clear_trace_counter()  # its counts are by source text, over all runs of a process
        step = make_step(self.objective, optimizer=optimizer, total=total, seed=config.seed, ema=config.ema)
        self.step = parallel.jit(chex.assert_max_traces(step, n=1), donate=True)
        self.validation_step = _validation_step(config, network=network, medium=medium, parallel=parallel)

    def initial_variables(self) -> tuple[dict, InitReport | None]:
        """Returns the variables of step 0 on the host, and a report of `init`, None if `init` is empty."""
        config, extra = self._config, self.objective.extra_variables(self._config.seed)
        network = init_variables(self.network, config.seed, config.model.start)
        variables = joined_variables(network, extra)
        if not config.init:
            return variables, None
        extra = variables.pop("extra")
        variables, report = initialise(variables, [entry for _, entry in sorted(config.init.items())])
        return {**variables, "extra": extra}, report

    def initial_state(
        self,
        say: Callable[[str], None] = lambda line: None,
        initial: tuple[dict, InitReport | None] | None = None,
    ) -> TrainState:
        """Returns the state of step 0 on the devices; prints the report of `init`.

        Args:
          say: prints a line on the console.
          initial: what `initial_variables` returned, if it was called already.
        """
        variables, report = initial or self.initial_variables()
        if report is not None:
            say(report.text())
        return self._parallel.jit(self._new_state)(self._parallel.replicate(variables))

    @functools.cached_property
    def overview(self) -> Overview:
        """The overview of the parameters; takes seconds, since it lowers the network to count FLOP."""
        return overview(self.shapes.params, forward_flops(*self.forward))

    def learning_rate(self, step: int, plateau_scale: float) -> float:
        """Returns the rate of `step`, from 0, of the parameters in no group."""
        optimizer = self._config.optimizer
        return learning_rate(optimizer, step, total_steps=self.total, plateau_scale=plateau_scale)

    @functools.cached_property
    def forward(self) -> tuple:
        """A forward pass of one clip: a jitted function, then its arguments as shapes, parameters first.

        The function returns the inputs of losses: logits, and the features that the objective uses.
        """
        spec, features = self.network.input, self._config.objective.feature_names
        clip = {"frames": jax.ShapeDtypeStruct((1, spec.frames, spec.height, spec.width, 3), np.uint8)}
        if spec.audio is not None:
            clip["audio"] = jax.ShapeDtypeStruct((1, *spec.audio.shape), np.float32)

        def run(params, batch_stats, batch):
            variables = {"params": params, "batch_stats": batch_stats}
            outputs = self.network.run(variables, clip_of(batch), features=features)
            return outputs.logits, outputs.features

        params, batch_stats = self._abstract["params"], self._abstract["batch_stats"]
        of_network = {name: tree for name, tree in params.items() if name in (*SLOTS, HEADS)}
        return jax.jit(run), of_network, batch_stats, clip  # jitted, so that it is traced once


def network_of(config: TrainConfig) -> tuple[Preset, Network]:
    """Returns the network of a config, and its description.

    Raises:
      AvsalError: the objective needs a system, and the config names a part.
    """
    preset = config.model.preset()
    if preset.kind != "system" and config.objective.on_videos:
        raise AvsalError(f"{config.model.system} is a part, which has no maps to train; name a system")
    return preset, build(preset, runtime_of(config.model))


def runtime_of(model: ModelConfig) -> Runtime:
    """Returns the runtime settings of the network of a config."""
    return Runtime(
        dtype=jnp.dtype(model.dtype),
        remat=model.remat,
        frozen_norm=model.norm == "frozen",
        norm_momentum=model.norm_momentum,
        unbiased_variance=model.unbiased_variance,
    )


def _validation_step(config: TrainConfig, network: Network, medium: str, parallel: DataParallel) -> Callable:
    terms, metrics = config.loss.terms(), config.evaluation.scores
    if config.evaluation.native:
        predict = chex.assert_max_traces(make_prediction_step(network, medium), n=1)
        return NativeStep(parallel.jit(predict), terms=terms, metrics=metrics, parallel=parallel)
    step = make_validation_step(network, terms, medium, metrics=metrics)
    return parallel.jit(chex.assert_max_traces(step, n=1))
