"""The cases of `gpu_check.py`; each runs in a process of its own and writes what it measured as it goes.

  python tools/gpu_cases.py CASE --folder DIR [--rehearse]

writes DIR/CASE.json after every program. `complete` in it is true at the end alone.
"""

import argparse
import functools
import json
import os
import pathlib
import sys
import threading
import time
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import peers
from gpu_record import Check, memory
from measure import machine, matrix_flops

from avsal_jax.inference.streaming import WindowEngine
from avsal_jax.losses import Term
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import forward, init_variables
from avsal_jax.models.systems import Preset, build, resolve
from avsal_jax.ops.convolution import conv3d
from avsal_jax.testing import golden
from avsal_jax.testing.parts import small_parts
from avsal_jax.training.domain_adversarial import AdaptConfig, DomainAdversarial
from avsal_jax.training.objectives import Supervised
from avsal_jax.training.optimizer import OptimizerConfig, make_optimizer
from avsal_jax.training.state import new_state
from avsal_jax.training.step import make_step
from avsal_jax.types import Clip

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden"
SMALL = {"visual_encoder": "small"}  # five convolutions in place of S3D's 77, see `avsal_jax.testing.parts`
SHORT = {
    "casp_net": {"decoder.dense_layers": 1, "fusion.iterations": 1, "fusion.stages": 4},
    "avrsp": {"fusion.blocks": 1, "fusion.gates": 1, "neck.pairs": 1},
}
THIN = {"visual_encoder.width": 1 / 16, "decoder.width": 1 / 16}
THIN_HEARING = {**THIN, "audio_encoder.width": 1 / 32, "audio.samples": 4574}
# name -> (system, its settings at full size, those that make it thin)
SYSTEMS = {
    "avinet_b": ("avinet", {}, THIN_HEARING),
    "avinet_t": ("avinet", {"fusion": "transformer"}, {**THIN_HEARING, "fusion.width": 1 / 16}),
    "dual_domain": ("dual_domain", {}, {**THIN_HEARING, "fusion.width": 1 / 16}),
    "casp_net": ("casp_net", {}, {**THIN, "audio_encoder.width": 1 / 32, "neck.width": 1 / 32}),
    "avrsp": ("avrsp", {}, {**THIN_HEARING, "neck.width": 1 / 32, "fusion.width": 1 / 16}),
}
# Of one step on two devices, in float32 of highest precision. Rounding moves the loss by 1e-6 to 1e-5 of
# itself between processors; the gradient norm sums the squares of all gradients, some ill-conditioned.
LOSS_BOUND, NORM_BOUND = 1e-3, 1e-2
MAP_BOUND = 1e-4  # of logits, over their largest absolute value: that of the golden files


def small(check: Check) -> None:
    """Imports, builds, compiles and runs everything once, with an encoder of five convolutions."""
    check.put("machine", machine())
    systems = {"vinet": ("vinet", {}, THIN), **SYSTEMS}
    # A rehearsal runs the cases of the other systems at this size.
    for name in ("vinet", "avinet_b") if check.rehearse else systems:
        system, settings, thin = systems[name]
        preset = _thin(system, {**SMALL, **settings, **thin, **SHORT.get(name, {})})
        check.put(name, _one_step(check, name, preset, jax.devices()[0]))
        if name in ("vinet", "avinet_b"):
            check.put(f"{name}, stream", _short_stream(preset))
    check.put("torch", check.torch.__version__ if check.torch else "not installed")


def _short_stream(preset):
    network, spec = build(preset), preset.input
    engine = WindowEngine(network, jax.device_put(init_variables(network, spec, 0)), spec, 2)
    frames = np.zeros((24, spec.height, spec.width, 3), np.uint8)
    maps = [saliency for _, saliency in engine.maps(frames)]
    return {"maps": len(maps), "finite": bool(np.isfinite(maps).all())}


def roof(check: Check) -> None:
    """The rate of a plain matrix product and of a plain 3x3x3 convolution, direct and folded."""
    sizes = check.sizes
    check.put("machine", machine())
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((sizes.side, sizes.side), np.float32)
    clip = rng.standard_normal(
        (sizes.batch, sizes.frames, sizes.height // 4, sizes.width // 4, sizes.channels), np.float32
    )
    kernel = rng.standard_normal((3, 3, 3, sizes.channels, sizes.channels), np.float32)

    def convolve(lowering):
        return lambda x, k: conv3d(x, k, padding=(1, 1, 1), lowering=lowering)

    functions = {
        "matrix product": (jnp.matmul, matrix, matrix),
        "convolution": (convolve("direct"), clip, kernel),
        "folded convolution": (convolve("folded"), clip, kernel),
    }
    for dtype, precision in (("bfloat16", None), ("float32", None), ("float32", "highest")):
        for name, (function, *arrays) in functions.items():
            arguments = jax.device_put([jnp.asarray(a, dtype) for a in arrays])
            title = f"{name}, {dtype}{' without TF32' if precision else ''}"
            with jax.default_matmul_precision(precision or "default"):
                program = check.compile(title, function, *arguments)
            run = functools.partial(program, *arguments)
            check.put(title, check.plain_rate(run, matrix_flops(function, *arguments)))


def parity(check: Check) -> None:
    """ViNet T32 against its golden file: weights and inputs from seeds, error over the largest value."""
    _golden(check, "vinet_t32", "vinet", {})


def _golden(check, file, system, settings):
    oracle = json.loads((GOLDEN / f"{file}.json").read_text())
    tensors = {name: golden.fill(name, shape) for name, shape in oracle["keys"].items()}
    preset = resolve(system, settings)
    frames, wave = golden.inputs(32)
    sound = wave[:, 0, :, 0] if preset.input.audio else None
    clip = Clip(np.moveaxis(frames, 1, -1), sound, normalized=True)
    variables, clip = jax.device_put((peers.variables_of(system, preset, tensors), clip))
    runs = [("float32", "highest")]
    if not check.rehearse:
        runs += [("float32", "default"), ("bfloat16", "default")]
    for dtype, precision in runs:
        network, title = build(preset, Runtime(dtype=jnp.dtype(dtype))), f"{dtype}, {precision} precision"
        run = functools.partial(forward, network, preset.input, features=("taps",))
        with jax.default_matmul_precision(precision):
            program = check.compile(title, run, variables, clip)
        prediction = program(variables, clip)
        outputs = {f"y{3 - i}": np.moveaxis(tap, -1, 1) for i, tap in enumerate(prediction.features["taps"])}
        outputs["logits"] = np.asarray(prediction.logits)[:, None, None]
        outputs = {name: np.asarray(value, np.float32) for name, value in outputs.items()}
        errors = {
            name: golden.disagreement(value, oracle["outputs"][name]) for name, value in outputs.items()
        }
        check.put(title, {"error_over_absmax": errors, "within": max(errors.values()) <= MAP_BOUND})


def _vinet(check, dtype, remat=False, with_torch=True):
    """Returns (preset, network, variables, the peer or None)."""
    sizes = check.sizes
    with_torch = with_torch and check.torch is not None
    small = SMALL if check.rehearse and not with_torch else {}
    preset = peers.vinet_preset(sizes.height, sizes.width, sizes.multiplier, small)
    network = build(preset, Runtime(dtype=jnp.dtype(dtype), remat=remat))
    if not with_torch:
        return preset, network, init_variables(network, preset.input, 0), None
    peer = peers.torch_vinet(check.torch, sizes.multiplier)
    return preset, network, peers.variables_of("vinet", preset, peers.weights_of(peer)), peer


def _forward(check: Check, dtype: str) -> None:
    """Maps a second of ViNet, with PyTorch at the first batch size."""
    preset, network, variables, peer = _vinet(check, dtype)
    spec, device_variables = preset.input, jax.device_put(variables)

    def logits(v, frames):
        return forward(network, spec, v, Clip(frames)).logits

    first, *rest = check.sizes.batches
    flops = matrix_flops(logits, variables, peers.random_clips(spec, 1)["frames"])
    for batch in (first, *(rest if dtype == "bfloat16" else ())):
        frames = jax.device_put(peers.random_clips(spec, batch)["frames"])
        try:
            program = check.compile(f"batch {batch}", logits, device_variables, frames)
            run = functools.partial(program, device_variables, frames)
            jax.block_until_ready(run())
        except jax.errors.JaxRuntimeError as error:  # out of memory
            check.put(f"batch {batch}", {"refused": str(error).splitlines()[0]})
            continue
        check.put(f"batch {batch}", check.rate({"avsal_jax": run}, batch * flops, batch, dtype) | memory())
        if peer is not None and batch == first:
            clips = peers.torch_clips(check.torch, peer, spec, np.asarray(frames))
            make = functools.partial(peers.torch_forward, check.torch, dtype=dtype)
            _with_torch(check, f"batch {batch}", run, peer, clips, make, batch * flops, batch, dtype)


def _with_torch(check, title, call, peer, clips, make, flops, units, dtype):
    """Measures all forms of PyTorch in turn with `call`; one that cannot run is named.

    `make(net, clips)` returns the call of a form. The first values of all are kept, to be compared.
    """
    sides, first = {"avsal_jax": call}, {"avsal_jax": np.asarray(call(), np.float32)}
    for name, net, place in peers.torch_forms(check.torch, peer, compiled=clips.is_cuda):
        try:
            run = make(net, place(clips))
            first[name] = run().float().cpu().numpy()
        except Exception as error:  # the compiler of PyTorch needs more than PyTorch
            check.put(f"{title}, {name}", {"refused": f"{type(error).__name__}: {error}"[:200]})
            continue
        sides = {**sides, name: run}
        errors = {
            key: peers.disagreement(first["avsal_jax"], first[key]) for key in first if key != "avsal_jax"
        }
        check.put(f"{title}, with torch", check.rate(sides, flops, units, dtype) | {"disagreement": errors})


def forward_bfloat16(check: Check) -> None:
    _forward(check, "bfloat16")


def forward_float32(check: Check) -> None:
    _forward(check, "float32")


def _train(check: Check, dtype: str, remat: bool = False, with_torch: bool = True) -> None:
    """Speed and memory of training steps of ViNet."""
    preset, network, variables, peer = _vinet(check, dtype, remat, with_torch)
    batch, spec = check.sizes.batch, preset.input
    clips = peers.random_clips(spec, batch)
    batches = jax.device_put({"source": clips})
    step, first_state = peers.training_step(network, spec, variables)
    state = first_state()
    program = check.compile("step", step, state, batches, 1.0, donate_argnums=0)
    losses = []

    def run():
        nonlocal state
        state, values = program(state, batches, 1.0)
        losses.append(values["loss"])
        return values["loss"]

    def logits(v, frames):
        return forward(network, spec, v, Clip(frames)).logits

    flops = 3 * matrix_flops(logits, variables, clips["frames"])
    check.put("step", check.rate({"avsal_jax": run}, flops, 1, dtype) | memory())
    check.put("losses", {"first": float(losses[0]), "last": float(losses[-1]), "steps": len(losses)})
    if peer is not None:
        state, density = first_state(), clips["density"]  # the loss before the first update is compared
        clips = peers.torch_clips(check.torch, peer, spec, clips["frames"])
        make = functools.partial(peers.torch_step, check.torch, density=density, dtype=dtype)
        _with_torch(check, "step", run, peer, clips, make, flops, 1, dtype)


def train_bfloat16(check: Check) -> None:
    _train(check, "bfloat16", with_torch=not check.rehearse)


def train_float32(check: Check) -> None:
    _train(check, "float32")


def train_remat(check: Check) -> None:
    _train(check, "bfloat16", remat=True, with_torch=False)


def stream(check: Check) -> None:
    """Maps a second of the sliding window, from frames in memory to maps in memory, bfloat16."""
    preset, network, variables, _ = _vinet(check, "bfloat16", with_torch=False)
    spec, count = preset.input, check.sizes.maps
    frames = np.random.default_rng(0).integers(0, 256, (64, spec.height, spec.width, 3), np.uint8)
    for batch in check.sizes.batches[:2]:
        engine = WindowEngine(network, jax.device_put(variables), spec, batch)
        check.report["programs"][f"batch {batch}"] = {"compile_seconds": engine.compile_seconds}
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            maps = sum(1 for _ in engine.maps(frames[i % len(frames)] for i in range(count)))
            seconds.append(time.perf_counter() - started)
        assert maps == count
        check.put(
            f"batch {batch}", {"seconds": seconds, "per_second": count / float(np.median(seconds))} | memory()
        )


def _thin(system: str, settings: dict) -> Preset:
    preset = resolve(system)
    frames = 8 if preset.input.frames == 32 else preset.input.frames
    return resolve(system, {"frames": frames, "height": 64, "width": 96, **settings})


def _system(check: Check, name: str) -> None:
    """A system on the device and on this host's own CPU at small size, and at full size on the device."""
    system, settings, thin = SYSTEMS[name]
    if name == "avinet_b" and not check.rehearse:
        _golden(check, name, system, settings)
    small = SMALL | SHORT.get(name, {}) if check.rehearse else {}
    preset = _thin(system, settings | thin | small)
    devices = {"device": jax.devices()[0], "cpu": jax.devices("cpu")[0]}
    logits = {place: _logits(check, f"small, {place}", preset, device) for place, device in devices.items()}
    worst = peers.disagreement(logits["device"], logits["cpu"])
    check.put("small", {"error_over_absmax": worst, "within": worst <= MAP_BOUND})
    if not check.rehearse:
        _full_size(check, resolve(system, settings))
    steps = {place: _one_step(check, f"step, {place}", preset, device) for place, device in devices.items()}
    differences = {
        value: abs(steps["device"][value] - steps["cpu"][value]) / abs(steps["cpu"][value])
        for value in ("loss", "gradient_norm")
    }
    within = differences["loss"] <= LOSS_BOUND and differences["gradient_norm"] <= NORM_BOUND
    check.put("step", {**steps, "differences": differences, "within": within})


def _logits(check, title, preset, device):
    network, spec = build(preset), preset.input
    clips = peers.random_clips(spec, 2)
    arguments = jax.device_put(
        (init_variables(network, spec, 0), Clip(clips["frames"], clips.get("audio"))), device
    )
    with jax.default_matmul_precision("highest"):
        program = check.compile(title, lambda v, c: forward(network, spec, v, c).logits, *arguments)
    return np.asarray(program(*arguments))


def _full_size(check, preset):
    network, spec, batch = build(preset, Runtime(dtype=jnp.bfloat16)), preset.input, check.sizes.batch
    clips = peers.random_clips(spec, batch)
    arguments = jax.device_put((init_variables(network, spec, 0), Clip(clips["frames"], clips.get("audio"))))

    def logits(v, c):
        return forward(network, spec, v, c).logits

    program = check.compile(f"full size, batch {batch}", logits, *arguments)
    result = check.rate(
        {"avsal_jax": functools.partial(program, *arguments)},
        matrix_flops(logits, *arguments),
        batch,
        "bfloat16",
    )
    finite = bool(np.isfinite(np.asarray(program(*arguments))).all())
    check.put("full size", result | memory() | {"finite": finite})


def _one_step(check, title, preset, device):
    """Returns loss and gradient norm of one training step; of both domains for `dual_domain`."""
    network, spec, terms = build(preset), preset.input, (Term("kl"),)
    variables, batches = init_variables(network, spec, 0), {"source": peers.random_clips(spec, 2)}
    objective = Supervised(network, spec, terms)
    if preset.system == "dual_domain":
        objective = DomainAdversarial(network, spec, terms, AdaptConfig(sources=("target",)))
        clips = peers.random_clips(spec, 2, seed=1)
        batches["target"] = {name: clips[name] for name in ("frames", "audio")}
    extra = objective.extra_variables(network, spec, 0)
    variables = {name: {**variables.get(name, {}), **extra[name]} for name in ("params", "batch_stats")}
    optimizer = make_optimizer(OptimizerConfig(), variables["params"], peers.STEPS)
    step = make_step(objective, optimizer, peers.STEPS, seed=0, ema=0.0)
    arguments = jax.device_put((new_state(variables, optimizer, ema=False), batches, np.float32(1)), device)
    with jax.default_matmul_precision("highest"):
        program = check.compile(title, step, *arguments)
    _, values = program(*arguments)
    result = {name: float(values[name]) for name in ("loss", "gradient_norm")}
    return result | {"finite": bool(np.isfinite(list(result.values())).all())}


def repeat(check: Check) -> None:
    """The same steps twice, and memory after many steps."""
    preset, network, variables, _ = _vinet(check, "bfloat16", with_torch=False)
    batches = jax.device_put({"source": peers.random_clips(preset.input, check.sizes.batch)})
    step, first_state = peers.training_step(network, preset.input, variables)
    program = check.compile("step", step, first_state(), batches, 1.0, donate_argnums=0)

    def run(steps):
        state = first_state()
        for _ in range(steps):
            state, values = program(state, batches, 1.0)
        return jax.device_get((state.params, values["loss"]))

    first, second = run(5), run(5)
    equal = all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True))
    spread = max(
        peers.disagreement(a, b) for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True)
    )
    check.put(
        "twice", {"equal": equal, "largest_difference": spread, "flags": os.environ.get("XLA_FLAGS", "")}
    )
    if "deterministic" not in os.environ.get("XLA_FLAGS", ""):
        before = memory()
        run(check.sizes.steps)
        check.put("memory", {"steps": check.sizes.steps, "before": before, "after": memory()})


CASES = {
    function.__name__: function
    for function in (
        *(small, roof, parity, forward_bfloat16, train_bfloat16, stream),
        *(forward_float32, train_float32, train_remat, repeat),
    )
} | {name: functools.partial(_system, name=name) for name in SYSTEMS}
CASES["repeat_deterministic"] = repeat


def _leave_with_parent() -> None:
    """Ends this process when the one that started it is gone: the pipe on its standard input closes."""

    def watch():
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read, whose lock stops the interpreter's own end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=tuple(CASES))
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    if not sys.stdin.isatty():
        _leave_with_parent()
    check = Check(args.case, args.folder, args.rehearse)
    check.write()
    try:
        with small_parts():
            CASES[args.case](check)
    except Exception as error:
        traceback.print_exc()
        check.report["error"] = f"{type(error).__name__}: {error}"[:2000]
        check.write()
        sys.exit(1)
    check.report["complete"] = True
    check.write()


if __name__ == "__main__":
    main()
