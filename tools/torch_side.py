"""The PyTorch side of the benchmark: networks with weights, and calls that evaluate, train and predict.

Imports PyTorch and not jax.
"""

import contextlib
import copy
import math
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from speed_systems import Clips, System, Training
from torch import nn

from avsal_jax.spec.input import InputSpec, Pixels
from avsal_jax.testing import golden

LAYOUTS = {
    "contiguous": {},
    "channels-last": {4: torch.channels_last, 5: torch.channels_last_3d},
}
_EPSILON = 2.2204e-16  # of the losses, as in samyak0210/ViNet @164beb7 loss.py


def use_cores(count: int) -> None:
    """Makes PyTorch compute in `count` threads; denormal numbers count as 0, as in XLA.

    Call it before the first operation: the threads that compute inherit the treatment of denormal numbers.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(count)
    with contextlib.suppress(RuntimeError):  # it can be set once, before the first operation
        torch.set_num_interop_threads(1)


def network_of(system: System) -> nn.Module:
    """Returns the network of a system on the CPU, with weights as golden files have them."""
    spec = system.spec
    if system.network == "gaze":
        from torch_gaze import Gaze

        net = Gaze(spec.height, spec.width)
    elif system.network == "avinet":
        from torch_avinet import AViNet, tokens_of

        net = AViNet(spec.height, spec.width, tokens_of(spec.audio.samples), system.multiplier)
    else:
        from torch_vinet import ViNet

        net = ViNet(system.multiplier)
    return filled(net.eval())


def filled(net: nn.Module) -> nn.Module:
    """Returns a network with weights as golden files have them."""
    load_arrays(net, {name: golden.fill(name, value.shape) for name, value in net.state_dict().items()})
    return net


def load_arrays(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Replaces the weights of a network by arrays with the names of its state dict."""
    net.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})


def arrays_of(net: nn.Module) -> dict[str, np.ndarray]:
    """Returns the state dict of a network as arrays."""
    return {name: value.float().cpu().numpy() for name, value in net.state_dict().items()}


def placed(tensor, layout: str):
    """Returns a tensor in a memory format of `LAYOUTS`; those with other axes than pictures are unchanged."""
    formats = LAYOUTS[layout]
    if tensor.dim() not in formats:
        return tensor.contiguous()
    return tensor.contiguous(memory_format=formats[tensor.dim()])


def in_layout(net: nn.Module, layout: str) -> nn.Module:
    """Returns a copy of a network in a memory format."""
    net = copy.deepcopy(net)
    for parameter in net.parameters():
        parameter.data = placed(parameter.data, layout)
    return net


def normalised(frames: np.ndarray, pixels: Pixels, device="cpu"):
    """Returns frames uint8 [..., H, W, 3] as float32 [..., H, W, 3]."""
    mean, deviation = (torch.tensor(values, device=device) for values in (pixels.mean, pixels.deviation))
    pixels_of_frames = torch.from_numpy(np.require(frames, requirements="W")).to(device)
    return (pixels_of_frames / pixels.scale - mean) / deviation


def clips_on(net: nn.Module, spec: InputSpec, frames: np.ndarray):
    """Returns normalised frames [B, 3, T, H, W] on the device of `net`."""
    return normalised(frames, spec.pixels, next(net.parameters()).device).movedim(-1, 1).contiguous()


def forward(net: nn.Module, inputs: tuple, dtype: str) -> Callable:
    """Returns a call that evaluates `net`."""

    def run():
        with torch.inference_mode(), autocast(inputs[0].device, dtype):
            return net(*inputs)

    return run


def training_step(
    net: nn.Module, inputs: tuple, truth: Mapping[str, np.ndarray], dtype: str, training: Training
) -> Callable:
    """Returns a call that makes a training step of `net` and returns its loss.

    Args:
      net: its parameters with `requires_grad` are trained.
      inputs: of the network.
      truth: `density` [B, H, W] and, for the loss nss, `fixations`.
      dtype: of the computation; other than float32 by autocast.
      training: losses and optimizer.
    """
    net.train()
    optimizer, scheduler = _optimizer(net, training)
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    truth = {
        name: torch.from_numpy(np.asarray(maps, np.float32)).to(parameters[0].device)
        for name, maps in truth.items()
    }

    def run():
        optimizer.zero_grad()
        with autocast(parameters[0].device, dtype):
            logits = net(*inputs)
        saliency = torch.sigmoid(logits.float())
        scores = (weight * LOSSES[name](saliency, truth) for name, weight in training.losses)
        value = sum(scores).mean()
        value.backward()
        if training.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, training.clip_norm)
        optimizer.step()
        scheduler.step()
        return value.detach()

    return run


def _optimizer(net, training: Training):
    """Returns the optimizer in its fused form, and the scheduler of its rate."""
    parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
    groups = []
    for _, ending, factor in training.groups:
        names = [name for name in parameters if name.endswith(ending)]
        rate = factor * training.learning_rate
        groups.append({"params": [parameters.pop(name) for name in names], "lr": rate})
    groups.insert(0, {"params": list(parameters.values())})
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimizer]
    options = {"weight_decay": training.weight_decay, "fused": True}
    optimizer = cls(groups, training.learning_rate, **options)

    def factor(step):
        warm = training.warmup_steps
        if warm is None:
            return 1.0
        progress = min(max(0, step - warm) / (training.steps - warm), 1.0)
        return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * progress))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _kl(saliency, truth):
    density = truth["density"] / truth["density"].sum((1, 2), keepdim=True)
    saliency = saliency / saliency.sum((1, 2), keepdim=True)
    return (density * torch.log(_EPSILON + density / (saliency + _EPSILON))).sum((1, 2))


def _cc(saliency, truth):
    saliency, density = (maps - maps.mean((1, 2), keepdim=True) for maps in (saliency, truth["density"]))
    power = (saliency**2).sum((1, 2)) * (density**2).sum((1, 2))
    return (saliency * density).sum((1, 2)) / power.sqrt()


def _nss(saliency, truth):
    centred = saliency - saliency.mean((1, 2), keepdim=True)
    standard = centred / (saliency.std((1, 2), keepdim=True) + _EPSILON)
    return (standard * truth["fixations"]).sum((1, 2)) / truth["fixations"].sum((1, 2))


LOSSES = {"kl": _kl, "cc": _cc, "nss": _nss}


def autocast(device: torch.device, dtype: str):
    """Returns a context in which PyTorch computes in `dtype`."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, dtype))


class TorchSide:
    """A system in PyTorch: a call of each layout.

    Attributes:
      net: the network, whose weights may be replaced before a call is requested.

    Args:
      system: the network and its clips.
      dtype: of the computation.
      device: `cpu`, or `cuda` for a system other than `gaze`.
    """

    def __init__(self, system: System, dtype: str = "float32", device: str = "cpu"):
        self.system, self.net = system, network_of(system).to(device)
        self._dtype, self._device = dtype, device

    def call(
        self, task: str, layout: str, clips: Clips, video: pathlib.Path, compiled: bool = False
    ) -> Callable:
        """Returns a function without arguments that makes the call `task` in a memory format.

        Args:
          task: of `speed_systems.TASKS`.
          layout: of `LAYOUTS`.
          clips: inputs of `forward` and `step`.
          video: input of `predict`.
          compiled: whether torch.compile compiles the network, at the first call.
        """
        net = in_layout(self.net, layout)
        if task == "predict":
            from torch_video import VideoLoop

            return VideoLoop(self.system, net, layout, video=video, compiled=compiled, dtype=self._dtype)
        inputs = tuple(placed(tensor.to(self._device), layout) for tensor in self._inputs(clips))
        if task == "forward":
            return forward(compiled_if(net, compiled), inputs, self._dtype)
        if clips.features:
            *levels, light = inputs
            net, inputs = net.head, (levels, light)
        truth = {"density": clips.density, "fixations": clips.fixations}
        return training_step(
            compiled_if(net, compiled), inputs, truth, dtype=self._dtype, training=self.system.training
        )

    def _inputs(self, clips: Clips):
        """Yields the tensors that a network is given."""
        if clips.features:
            _, *levels, light = map(torch.from_numpy, clips.features)
            yield from (level[:, -1].movedim(-1, 1) for level in levels)
            yield light[..., 0]
            return
        yield clips_on(self.net, self.system.spec, clips.frames)
        if clips.audio is not None:
            yield torch.from_numpy(clips.audio)


def compiled_if(function, compiled: bool):
    """Returns a function or module, by torch.compile if `compiled`."""
    return torch.compile(function) if compiled else function
