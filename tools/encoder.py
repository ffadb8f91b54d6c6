"""The image encoder alone: seconds a call, by grouped convolutions too, and in PyTorch with equal weights."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import peers
from measure import compare, time_in_turn

from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve

SYSTEM = "efficientnet_lite0"
SECONDS = 0.3  # of calls in a measurement


def measure_encoder(height: int, width: int, batch: int, repeats: int, with_torch: bool, train: bool) -> dict:
    """Returns the times of the sides, the ratio to PyTorch, and what compiling took.

    Args:
      height, width: of frames, divisible by 32. batch: frames of a call.
      repeats: measurements of each side.
      with_torch: whether PyTorch is measured too.
      train: whether a call computes the gradient of all parameters too, with batch statistics.
    """
    preset = resolve(SYSTEM, {"height": height, "width": width})
    torch, peer = (peers.import_torch() if with_torch else None), None
    if torch is None:
        variables = init_variables(build(preset), 0)
    else:
        from torch_side import arrays_of

        peer = torch_encoder()
        variables = peers.variables_of(SYSTEM, preset, arrays_of(peer))
    frames = np.random.default_rng(0).standard_normal((batch, 1, height, width, 3), np.float32)
    variables, clip = jax.device_put((variables, frames))
    sides = {}
    for name, lowering in (("avsal_jax", "auto"), ("avsal_jax, grouped", "direct")):
        run = jax.jit(_call(build(preset, Runtime(lowering=lowering)), train))
        started = time.perf_counter()
        run = run.lower(variables, clip).compile()
        if name == "avsal_jax":
            compile_seconds = time.perf_counter() - started
        sides[name] = lambda run=run: run(variables, clip)
    result = {"compile_seconds": compile_seconds}
    if torch is not None:
        pictures = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames[:, 0], -1, 1)))
        for name in ("contiguous", "channels_last"):
            layout = getattr(torch, f"{name}_format" if name == "contiguous" else name)
            net = torch_encoder().to(memory_format=layout)
            sides[f"torch, {name}"] = _torch_call(torch, net, pictures.to(memory_format=layout), train)
        if not train:
            worst = max(map(_disagreement, sides["avsal_jax"](), sides["torch, contiguous"]()))
            if worst > 1e-4:
                raise SystemExit(f"the two implementations disagree by {worst:.2g} of the largest value")
            result["disagreement"] = worst
    return result | compare(time_in_turn(sides, repeats, SECONDS, peers.wait), "avsal_jax")


def torch_encoder():
    """Returns the PyTorch encoder with weights as golden files have them."""
    from torch_efficientnet import EfficientNetLite0
    from torch_side import filled

    return filled(EfficientNetLite0().eval())


def _call(network, train: bool):
    def levels(variables, clip):
        return network.apply(variables, clip, train=train, mutable=["batch_stats", "intermediates"])

    def pyramid(variables, clip):
        return levels(variables, clip)[1]["intermediates"]["taps"][0]

    def loss(params, variables, clip):
        _, state = levels({**variables, "params": params}, clip)
        total = sum((level**2).mean() for level in state["intermediates"]["taps"][0])
        return total, state["batch_stats"]

    def gradient(variables, clip):
        return jax.grad(loss, has_aux=True)(variables["params"], variables, clip)

    return gradient if train else pyramid


def _torch_call(torch, net, pictures, train: bool):
    def forward():
        with torch.inference_mode():
            return net(pictures)

    def gradient():
        net.zero_grad()
        total = sum((level**2).mean() for level in net(pictures))
        total.backward()
        return total.detach()

    net.train(train)
    return gradient if train else forward


def _disagreement(level, reference) -> float:
    return peers.disagreement(jnp.moveaxis(level[:, 0], -1, 1), reference.numpy())
