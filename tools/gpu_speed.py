"""How fast ViNet is: forward pass, training step and sliding window, with PyTorch on the same device."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import peers
from gpu_record import Check
from measure import matrix_flops
from speed_systems import Training

from avsal_jax.inference.streaming import WindowEngine
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY
from avsal_jax.testing.parts import SMALL
from avsal_jax.testing.training import random_clips
from avsal_jax.types import Clip

# How far logits, or the loss of the first step, may be from PyTorch's, over the largest absolute value.
# float32 is TF32 on both sides, with 10 bits of mantissa; bfloat16 has 7. Both go through some ten layers.
TORCH_BOUNDS = {"float32": 5e-3, "bfloat16": 0.1}
COMPILER_SECONDS = 45  # that PyTorch's compiler needs at least


@dataclasses.dataclass(frozen=True)
class Work:
    """A call that is measured.

    Attributes:
      title: of its result.
      call: our side.
      flops: of a call. units: maps or steps that it makes. dtype: of the computation.
    """

    title: str
    call: Callable
    flops: float
    units: int
    dtype: str


class ViNet(peers.Pair):
    """ViNet with 32 frames at the sizes of the check."""

    def __init__(self, check: Check, dtype: str, *, remat: bool = False, with_torch: bool = True):
        sizes, self.check, torch = check.sizes, check, check.torch if with_torch else None
        parts = SMALL if check.rehearse and torch is None else {}
        preset = peers.vinet_preset(sizes.height, sizes.width, sizes.multiplier, parts)
        super().__init__(preset, Runtime(dtype=jnp.dtype(dtype), remat=remat), torch, sizes.multiplier)

    def logits(self, variables, frames):
        return self.network.run(variables, Clip(frames)).logits[SALIENCY]

    def flops(self) -> int:
        """Of the forward pass of one clip."""
        return matrix_flops(self.logits, self.variables, random_clips(self.spec, 1)["frames"])

    def with_torch(self, work: Work, frames: np.ndarray, make: Callable) -> None:
        """Measures the forms of PyTorch in turn with `work`; a form that cannot run is named.

        Args:
          work: our side.
          frames: uint8; PyTorch is given them normalised, and is not timed for that.
          make: (network, its inputs) -> the call of a form. The first values of all are compared.
        """
        import torch_side

        check, torch, bound = self.check, self.torch, TORCH_BOUNDS[work.dtype]
        clips = torch_side.clips_on(self.peer, self.spec, frames)
        reference, sides, errors = np.asarray(work.call(), np.float32), {"avsal_jax": work.call}, {}
        compiled = clips.is_cuda and check.seconds_left() > COMPILER_SECONDS
        for name, net, layout in _forms(torch, self.peer, compiled):
            try:
                sides[name] = make(net, (torch_side.placed(clips, layout),))
                errors[name] = peers.disagreement(reference, sides[name]().float().cpu())
            except Exception as error:  # the compiler of PyTorch needs more than PyTorch
                sides.pop(name, None)
                check.record(f"{work.title}, {name}", {"refused": f"{type(error).__name__}: {error}"[:200]})
                continue
            result = check.rate(sides, work.flops, work.units, work.dtype)
            if clips.is_cuda:
                result["torch_peak_bytes"] = torch.cuda.max_memory_allocated()
            result |= {"disagreement": errors, "within": max(errors.values()) <= bound}
            check.record(f"{work.title}, with torch", result)


def _forms(torch, peer, compiled: bool) -> Iterator[tuple[str, object, str]]:
    """Yields (name, network, memory format) of the forms of PyTorch."""
    import torch_side

    for layout in torch_side.LAYOUTS:
        yield f"torch, {layout}", torch_side.in_layout(peer, layout), layout
    if compiled:
        form = torch_side.in_layout(peer, "channels-last")
        yield "torch, channels-last, compiled", torch.compile(form), "channels-last"


def measure_forward(check: Check, dtype: str) -> None:
    """Maps a second of ViNet, with PyTorch at the first batch size."""
    vinet = ViNet(check, dtype)
    variables, flops, works = jax.device_put(vinet.variables), vinet.flops(), []
    batches = check.sizes.batches if dtype == "bfloat16" else check.sizes.batches[:1]
    for batch in batches:
        clips = random_clips(vinet.spec, batch)
        frames, title = jax.device_put(clips["frames"]), f"batch {batch}"
        try:
            program = check.compile(title, vinet.logits, variables, frames)
            call = functools.partial(program, variables, frames)
            jax.block_until_ready(call())
        except jax.errors.JaxRuntimeError as error:  # out of memory
            check.record(title, {"refused": str(error).splitlines()[0]})
            continue
        works.append((Work(title, call, batch * flops, batch, dtype), clips["frames"]))
        check.record(title, check.rate({"avsal_jax": call}, batch * flops, batch, dtype))
    if vinet.peer is not None:
        import torch_side

        work, frames = works[0]
        vinet.with_torch(work, frames, functools.partial(torch_side.forward, dtype=dtype))


def measure_training(check: Check, dtype: str, *, remat: bool = False, with_torch: bool = True) -> None:
    """Speed and memory of training steps of ViNet."""
    vinet = ViNet(check, dtype, remat=remat, with_torch=with_torch)
    clips = random_clips(vinet.spec, check.sizes.batch)
    batches = jax.device_put({"labelled": clips})
    step, first_state = peers.training_step(vinet.network, vinet.variables)
    state = first_state()
    program = check.compile("step", step, state, batches, 1.0, donate_argnums=0)
    losses = []

    def call():
        nonlocal state
        state, values = program(state, batches, 1.0)
        losses.append(values["loss"])
        return values["loss"]

    flops = 3 * check.sizes.batch * vinet.flops()
    check.record("step", check.rate({"avsal_jax": call}, flops, 1, dtype))
    finite = bool(np.isfinite(float(losses[-1])))
    check.record("losses", {"first": float(losses[0]), "last": float(losses[-1]), "finite": finite})
    if vinet.peer is not None:
        import torch_side

        state = first_state()  # the loss before the first update is compared
        truth = {"density": clips["density"]}
        options = {"truth": truth, "dtype": dtype, "training": Training()}
        make = functools.partial(torch_side.training_step, **options)
        vinet.with_torch(Work("step", call, flops, 1, dtype), clips["frames"], make)


def measure_stream(check: Check) -> None:
    """Maps a second of the sliding window, from frames in memory to maps in memory, bfloat16."""
    vinet = ViNet(check, "bfloat16", with_torch=False)
    spec, count = vinet.spec, check.sizes.maps
    flops = count * vinet.flops()
    frames = np.random.default_rng(0).integers(0, 256, (64, spec.height, spec.width, 3), np.uint8)
    for batch in check.sizes.batches[:2]:
        engine = WindowEngine(vinet.network, jax.device_put(vinet.variables), batch)
        check.report["programs"][f"batch {batch}"] = {"compile_seconds": engine.compile_seconds}

        def call(engine=engine):
            return sum(1 for _ in engine.maps(frames[i % len(frames)] for i in range(count)))

        check.record(f"batch {batch}", check.rate({"avsal_jax": call}, flops, count, "bfloat16"))


def measure_repeats(check: Check) -> None:
    """The same steps twice; and memory after many steps, unless determinism is what the flags are for."""
    vinet = ViNet(check, "bfloat16", with_torch=False)
    batches = jax.device_put({"labelled": random_clips(vinet.spec, check.sizes.batch)})
    step, first_state = peers.training_step(vinet.network, vinet.variables)
    program = check.compile("step", step, first_state(), batches, 1.0, donate_argnums=0)

    def run(steps):
        state = first_state()
        for _ in range(steps):
            state, values = program(state, batches, 1.0)
        return jax.tree.leaves(jax.device_get((state.params, values["loss"])))

    pairs = list(zip(run(5), run(5), strict=True))
    equal = all(np.array_equal(a, b) for a, b in pairs)
    result = {"equal": equal, "largest_difference": max(peers.disagreement(a, b) for a, b in pairs)}
    if check.deterministic:
        check.record("twice", result | {"within": equal})
        return
    check.record("twice", result)
    before = check.memory()
    run(check.sizes.steps)
    after = check.memory()
    result = {"steps": check.sizes.steps, "before": before, "after": after}
    if after:
        result["within"] = after["bytes_in_use"] <= 1.01 * before["bytes_in_use"]
    check.record("memory", result)
