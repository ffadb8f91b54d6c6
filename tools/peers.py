"""A network here and its PyTorch peer: the same weights, inputs and training step, on the same device.

Imports neither TensorFlow nor PyTorch by itself; `import_torch` says whether there is a peer.
"""

import contextlib
import copy
import functools
import types
from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import traverse_util

from avsal_jax import registry
from avsal_jax.convert import rules
from avsal_jax.losses import Term
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Network, abstract_variables, init_variables
from avsal_jax.models.systems import Preset, build, resolve
from avsal_jax.ops.pixels import normalize_pixels
from avsal_jax.spec.input import InputSpec
from avsal_jax.storage import flatten
from avsal_jax.testing import golden
from avsal_jax.training.objectives import Supervised
from avsal_jax.training.optimizers import Adam, make_optimizer
from avsal_jax.training.state import TrainState, new_state
from avsal_jax.training.step import make_step

RATE = 1e-4  # of Adam
STEPS = 1000  # of the run that a measured step is part of


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


def torch_vinet(torch, multiplier: float = 1.0):
    """Returns a PyTorch ViNet on the device, with weights as golden files have them."""
    from torch_vinet import ViNet

    net = ViNet(multiplier).eval()
    arrays = {name: golden.fill(name, value.shape) for name, value in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return net.to("cpu" if jax.default_backend() == "cpu" else "cuda")


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
            self.peer = torch_vinet(torch, multiplier)
            self.variables = variables_of("vinet", preset, weights_of(self.peer))


def weights_of(net) -> dict[str, np.ndarray]:
    """Returns the state dict of a PyTorch network as arrays."""
    return {name: value.float().cpu().numpy() for name, value in net.state_dict().items()}


def training_step(network: Network, variables: dict) -> tuple[Callable, Callable[[], TrainState]]:
    """Returns our step(state, batches, plateau_scale), not jitted, and what makes its first state.

    KL divergence (ViNet's form), batch statistics of the batch, Adam.
    """
    optimizer = make_optimizer(Adam(learning_rate=RATE), variables["params"], STEPS)
    step = make_step(Supervised(network, (Term("kl"),)), optimizer, STEPS, seed=0, ema=0.0)
    make_state = jax.jit(functools.partial(new_state, optimizer=optimizer, ema=False))
    return step, lambda: make_state(variables)  # new buffers, which the step may donate


def torch_clips(torch, net, spec: InputSpec, frames: np.ndarray):
    """Returns normalised frames [B, 3, T, H, W] on the device of `net`."""
    normal = np.asarray(normalize_pixels(frames, spec.pixels))
    clips = torch.from_numpy(np.ascontiguousarray(np.moveaxis(normal, -1, 1)))
    return clips.to(next(net.parameters()).device)


def torch_forms(torch, net, compiled: bool = False) -> Iterator[tuple[str, object, Callable]]:
    """Yields (name, network, what brings clips into its memory format) of the forms that are measured."""
    for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last_3d)):
        place = functools.partial(torch.Tensor.to, memory_format=layout)
        yield f"torch, {name}", copy.deepcopy(net).to(memory_format=layout), place
    if compiled:
        form = copy.deepcopy(net).to(memory_format=torch.channels_last_3d)
        yield "torch, channels-last, compiled", torch.compile(form), place


def torch_forward(torch, net, clips, dtype: str) -> Callable:
    """Returns a call that evaluates `net` on clips; `wait` waits for the logits."""

    def run():
        with torch.inference_mode(), _precision(torch, clips, dtype):
            return net(clips)

    return run


def torch_step(torch, net, clips, density, dtype: str) -> Callable:
    """Returns a call that makes a training step of `net` and returns its loss, for which `wait` waits.

    The same step as `training_step`: samyak0210/ViNet @164beb7 loss.py kldiv, Adam.
    """
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), RATE, fused=clips.is_cuda)
    epsilon = 2.2204e-16
    truth = torch.from_numpy(density).to(clips.device)
    truth = truth / truth.sum((1, 2), keepdim=True)

    def run():
        optimizer.zero_grad()
        with _precision(torch, clips, dtype):
            logits = net(clips)
        saliency = torch.sigmoid(logits.float())
        saliency = saliency / saliency.sum((1, 2), keepdim=True)
        value = (truth * torch.log(epsilon + truth / (saliency + epsilon))).sum((1, 2)).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    return run


def wait(value):
    """Returns the result of a call, jax's or PyTorch's, when it is there."""
    if getattr(value, "is_cuda", False):
        import torch

        torch.cuda.synchronize()
        return value
    return jax.block_until_ready(value)


def _precision(torch, clips, dtype: str):
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(clips.device.type, getattr(torch, dtype))


def disagreement(values, reference) -> float:
    """Returns the largest difference of two arrays, over the largest absolute value of the second."""
    values, reference = np.asarray(values, np.float32), np.asarray(reference, np.float32)
    return float(np.abs(values - reference).max() / np.abs(reference).max())
