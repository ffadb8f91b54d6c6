"""A network here and its PyTorch peer: the same weights and the same training step, on the same device.

Imports neither TensorFlow nor PyTorch by itself; `import_torch` returns PyTorch if there is a peer. The calls
of the peer are in `torch_side.py`.
"""

import functools
import types
from collections.abc import Callable

import jax
import numpy as np
from flax import traverse_util
from speed_systems import Training

from avsal_jax import registry
from avsal_jax.convert import rules
from avsal_jax.losses import Term
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Network, abstract_variables, init_variables
from avsal_jax.models.systems import Preset, build, resolve
from avsal_jax.storage import flatten
from avsal_jax.training.objectives import Supervised
from avsal_jax.training.optimizers import Adam, AdamW, Group, Optimizer, make_optimizer, with_frozen
from avsal_jax.training.schedules import Constant, Cosine
from avsal_jax.training.state import TrainState, new_state
from avsal_jax.training.step import make_step


def import_torch() -> types.ModuleType | None:
    """Returns PyTorch, or None where it is not installed, or cannot use the device that jax uses."""
    try:
        import torch
    except ImportError:
        return None
    if jax.default_backend() != "cpu" and not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    return torch


def variables_of(system: str, preset: Preset, tensors: dict[str, np.ndarray]) -> dict:
    """Returns the variables of a network whose weights are those of a PyTorch state dict."""
    conversion = registry.find("conversion", system)()
    leaves = flatten(abstract_variables(build(preset)))
    shapes = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    rows = list(conversion.table(conversion.recognise(tensors), tensors))
    flat = rules.apply_table(tensors, rows, conversion.ignored, expected=shapes)
    return traverse_util.unflatten_dict(flat, sep="/")


def vinet_preset(height: int, width: int, multiplier: float = 1.0, parts: dict | None = None) -> Preset:
    """Returns a ViNet for 32 frames, with `multiplier` times its channels, and with other `parts`."""
    settings = {**(parts or {}), "visual_encoder.width": multiplier, "heads.saliency.width": multiplier}
    return resolve("vinet", {"frames": 32, "height": height, "width": width, **settings})


def torch_vinet(multiplier: float = 1.0):
    """Returns a PyTorch ViNet on the device, with weights as golden files have them."""
    from torch_side import filled
    from torch_vinet import ViNet

    return filled(ViNet(multiplier).eval()).to("cpu" if jax.default_backend() == "cpu" else "cuda")


class Pair:
    """A ViNet here, and in PyTorch with the same weights.

    Attributes:
      preset, spec, network, variables: ours.
      torch, peer: PyTorch and its network, or None.
    """

    def __init__(self, preset: Preset, runtime: Runtime, torch, multiplier: float = 1.0):
        self.preset, self.spec, self.torch = preset, preset.input, torch
        self.network, self.peer = build(preset, runtime), None
        if torch is None:
            self.variables = init_variables(self.network, 0)
        else:
            from torch_side import arrays_of

            self.peer = torch_vinet(multiplier)
            self.variables = variables_of("vinet", preset, arrays_of(self.peer))


def training_step(
    network: Network, variables: dict, training: Training | None = None
) -> tuple[Callable, Callable[[], TrainState]]:
    """Returns our step(state, batches, plateau_scale), not jitted, and what makes its first state.

    Args:
      network: its frozen parameters are not trained.
      variables: of step 0.
      training: losses and optimizer; by default KL divergence (ViNet's form) and Adam.
    """
    training = training or Training()
    config = with_frozen(optimizer_of(training), network.frozen_parameters)
    optimizer = make_optimizer(config, variables["params"], training.steps)
    terms = tuple(Term(name, weight) for name, weight in training.losses)
    step = make_step(Supervised(network, terms), optimizer, training.steps, seed=0, ema=0.0)
    make_state = jax.jit(functools.partial(new_state, optimizer=optimizer, ema=False))
    return step, lambda: make_state(variables)  # new buffers, which the step may donate


def optimizer_of(training: Training) -> Optimizer:
    """Returns the optimizer that `training` describes."""
    schedule = Constant() if training.warmup_steps is None else Cosine(training.warmup_steps)
    return {"adam": Adam, "adamw": AdamW}[training.optimizer](
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        groups=tuple(Group(pattern, scale=factor) for pattern, _, factor in training.groups),
        schedule=schedule,
    )


def wait(value):
    """Returns the result of a call, jax's or PyTorch's, when it is there."""
    if getattr(value, "is_cuda", False):
        import torch

        torch.cuda.synchronize()
        return value
    return jax.block_until_ready(value)


def disagreement(values, reference) -> float:
    """Returns the largest difference of two arrays, over the largest absolute value of the second."""
    values, reference = np.asarray(values, np.float32), np.asarray(reference, np.float32)
    return float(np.abs(values - reference).max() / np.abs(reference).max())
