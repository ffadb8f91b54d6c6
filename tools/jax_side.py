"""Our side of the benchmark: networks, and calls that evaluate, train and predict."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
import peers
from speed_systems import Clips, System

from avsal_jax import registry
from avsal_jax.bundled import DEFAULT
from avsal_jax.convert.rules import Entry, batch_norm
from avsal_jax.data.prepared.feature_cache import SHARED
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY, init_variables
from avsal_jax.models.systems import Preset, build, resolve
from avsal_jax.storage import StoredModel, flatten, read_model
from avsal_jax.types import Clip


class JaxSide:
    """A system of the benchmark in avsal_jax.

    Attributes:
      preset, network, variables: of the system. The weights are those of the bundled model for `gaze`, else
        random until `share_weights`.
    """

    def __init__(self, system: System, dtype: str = "float32"):
        self.system, self._runtime = system, Runtime(dtype=jax.numpy.dtype(dtype))
        self.preset = preset_of(system)
        self.network = build(self.preset, self._runtime)

    @functools.cached_property
    def variables(self) -> dict:
        if self.system.network == "gaze":
            return read_model(DEFAULT).variables
        return init_variables(self.network, 0)

    def share_weights(self, torch_side) -> None:
        """Makes the weights of a `TorchSide` and of this side the same: PyTorch's, or for `gaze` ours."""
        from torch_side import arrays_of, load_arrays

        tensors = arrays_of(torch_side.net)
        if self.system.network == "gaze":
            load_arrays(torch_side.net, gaze_tensors(self.variables, tensors))
        else:
            self.variables = peers.variables_of(self.system.network, self.preset, tensors)

    def call(self, task: str, clips: Clips, video: pathlib.Path) -> Callable:
        """Returns a function without arguments that makes a call of `task`; see `TorchSide.call`."""
        if task == "forward":
            return self._forward(clips)
        return self._step(clips) if task == "step" else self._predict(video)

    def _forward(self, clips: Clips) -> Callable:
        variables, clip = jax.device_put((self.variables, Clip(clips.frames, clips.audio)))
        run = jax.jit(lambda v, c: self.network.run(v, c).logits[SALIENCY])
        return lambda: run(variables, clip)

    def _step(self, clips: Clips) -> Callable:
        """Returns a call that makes the training step of `avsal train` and returns its loss."""
        step, first_state = peers.training_step(self.network, self.variables, self.system.training)
        step, state = jax.jit(step, donate_argnums=0), first_state()
        inputs = {f"{SHARED}{level}": array for level, array in enumerate(clips.features)}
        if not inputs:
            inputs = {"frames": clips.frames}
        if clips.audio is not None:
            inputs["audio"] = clips.audio
        mask = np.ones(len(clips.density), bool)
        truth = {"density": clips.density, "fixations": clips.fixations, "mask": mask}
        batches = jax.device_put({"labelled": {**inputs, **truth}})

        def run():
            nonlocal state
            state, values = step(state, batches, 1.0)
            return values["loss"]

        return run

    def _predict(self, video: pathlib.Path) -> Callable:
        """Returns a call that takes the first maps of `Model.iter_video`; it has `compile_seconds`."""
        from avsal_jax.inference.predictor import Model  # which reads videos

        model = Model(StoredModel(self.preset, self.network, self.variables, {}), self._runtime)
        system = self.system

        def run():
            stream = model.iter_video(video, batch=system.batch)
            maps = [next(stream)[1] for _ in range(system.maps)]
            stream.close()
            return np.stack(maps)

        model.iter_video(video, batch=system.batch).close()  # compiles
        engine = model.engine(system.batch, system.spec.for_picture(system.spec.height, system.spec.width))
        run.compile_seconds = engine.compile_seconds
        return run


def preset_of(system: System) -> Preset:
    """Returns the network that `system` describes."""
    spec, multiplier = system.spec, system.multiplier
    if system.network == "vinet":
        return peers.vinet_preset(spec.height, spec.width, multiplier)
    if system.network == "avinet":
        parts = ("visual_encoder", "audio_encoder", "heads.saliency")
        widths = {f"{part}.width": multiplier for part in parts}
        size = {"height": spec.height, "width": spec.width, "audio.samples": spec.audio.samples}
        return resolve("avinet", {**size, **widths})
    return dataclasses.replace(read_model(DEFAULT).preset, input=spec)


def gaze_tensors(variables: dict, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the weights of avsal-gaze as a state dict of `torch_gaze.Gaze`.

    Args:
      variables: ours.
      tensors: the state dict of the PyTorch network, for its names.
    """
    leaves = flatten(variables)
    values = {row.source: row.undo(np.asarray(leaves[row.target])) for row in _gaze_rows(tensors)}
    counters = {name: value for name, value in tensors.items() if name.endswith("num_batches_tracked")}
    return {**counters, **values}


def _gaze_rows(tensors) -> Iterator[Entry]:
    conversion = registry.find("conversion", "efficientnet_lite0")()
    encoder = {
        name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")
    }
    for row in conversion.table(conversion.recognise(encoder), encoder):
        yield dataclasses.replace(row, source=f"encoder.{row.source}")
    readout, target = "head.readout", "heads/saliency/readout"
    for level in range(3):
        yield from batch_norm(f"{readout}.norms.{level}", f"{target}/norm{level}")
        source = f"{readout}.levels.{level}.weight"
        yield Entry(source, f"params/{target}/level{level}/projection", "pointwise2d")
    yield from _convolution(f"{readout}.conv", f"{target}/conv")
    yield Entry(f"{readout}.logits.weight", f"params/{target}/logits/projection", "pointwise2d")
    yield Entry(f"{readout}.log_blur", f"params/{target}/log_blur", "vector")
    yield Entry(f"{readout}.prior", f"params/{target}/prior", "bilinear")
    motion, target = "head.motion_head", "heads/saliency/motion_head"
    for name in ("conv1", "conv2"):
        yield from _convolution(f"{motion}.{name}", f"{target}/{name}")
    yield Entry(f"{motion}.change.weight", f"params/{target}/change", "pointwise2d")
    yield Entry(f"{motion}.change.bias", f"params/{target}/bias", "vector")
    yield Entry(f"{motion}.prior", f"params/{target}/prior", "bilinear")


def _convolution(source: str, target: str) -> Iterator[Entry]:
    yield Entry(f"{source}.weight", f"params/{target}/kernel", "conv2d")
    yield Entry(f"{source}.bias", f"params/{target}/bias", "vector")
