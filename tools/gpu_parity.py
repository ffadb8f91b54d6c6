"""Whether the networks give the right values: against golden files, and against the host's own CPU."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import peers
from gpu_record import Check
from measure import matrix_flops
from speed_systems import Training

from avsal_jax.inference.streaming import WindowEngine
from avsal_jax.losses import Term
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY, init_variables
from avsal_jax.models.systems import Preset, build, resolve
from avsal_jax.testing import golden
from avsal_jax.testing.parts import SMALL
from avsal_jax.testing.training import random_clips
from avsal_jax.training.objectives import Supervised, joined_variables
from avsal_jax.training.objectives.domain_adversarial import DomainAdversarial, DomainAdversarialConfig
from avsal_jax.training.optimizers import SGD, make_optimizer
from avsal_jax.training.state import new_state
from avsal_jax.training.step import make_step
from avsal_jax.types import Clip

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden"
THIN = {"visual_encoder.width": 1 / 16, "heads.saliency.width": 1 / 16, **SMALL}
HEARING = {**THIN, "audio_encoder.width": 1 / 32, "audio.samples": 4574}
NECK = {"neck.width": 1 / 32, "neck.rates": (2,)}
CASP = {"audio_encoder.width": 1 / 32, **NECK, "heads.saliency.dense_layers": 1}
CODING = {"fusion.coding.iterations": 1, "fusion.stages": (4,)}
AVRSP = {**NECK, "neck.pairs": 1, "fusion.width": 1 / 16, "regulator.gates": 1, "fusion.blocks": 1}
# name -> (system, its settings at full size, those that make it small)
SYSTEMS = {
    "vinet": ("vinet", {}, THIN),
    "avinet_b": ("avinet", {}, HEARING),
    "avinet_t": ("avinet", {"fusion": "transformer"}, {**HEARING, "fusion.width": 1 / 16}),
    "dual_domain": ("dual_domain", {}, {**HEARING, "fusion.width": 1 / 16}),
    "casp_net": ("casp_net", {}, {**THIN, **CASP, **CODING}),
    "avrsp": ("avrsp", {}, {**HEARING, **AVRSP}),
}
# Of the taps and logits of a golden file, over the largest absolute value, by (dtype, precision). The first
# is that of the golden files; TF32 has 10 bits of mantissa, bfloat16 has 7, through some ten layers.
GOLDEN_BOUNDS = {("float32", "highest"): 1e-4, ("float32", "default"): 5e-3, ("bfloat16", "default"): 0.1}
# Of one step on two devices, in float32 of highest precision. Rounding moves the loss by 1e-6 to 1e-5 of
# itself between processors; the gradient norm sums the squares of all gradients, some ill-conditioned.
LOSS_BOUND, NORM_BOUND = 1e-3, 1e-2
MAP_BOUND = 1e-4  # of logits of two devices, over their largest absolute value: that of the golden files


def compare_golden(check: Check, file: str, system: str, settings: dict, precisions: tuple) -> None:
    """A network against its golden file: weights and inputs from seeds, error over the largest value."""
    oracle = json.loads((GOLDEN / f"{file}.json").read_text())
    tensors = {name: golden.fill(name, shape) for name, shape in oracle["keys"].items()}
    preset = resolve(system, settings)
    frames, wave = golden.inputs(32)
    sound = wave[:, 0, :, 0] if preset.input.audio else None
    clip = Clip(np.moveaxis(frames, 1, -1), sound, normalized=True)
    variables, clip = jax.device_put((peers.variables_of(system, preset, tensors), clip))
    for dtype, precision in precisions:
        network, title = build(preset, Runtime(dtype=jnp.dtype(dtype))), f"{dtype}, {precision} precision"
        run = functools.partial(network.run, features=("taps",))
        with jax.default_matmul_precision(precision):
            program = check.compile(title, run, variables, clip)
        outputs = program(variables, clip)
        arrays = {f"y{3 - i}": np.moveaxis(tap, -1, 1) for i, tap in enumerate(outputs.features["taps"])}
        arrays["logits"] = np.asarray(outputs.logits[SALIENCY])[:, None, None]
        errors = {
            name: golden.disagreement(np.asarray(value, np.float32), oracle["outputs"][name])
            for name, value in arrays.items()
        }
        within = max(errors.values()) <= GOLDEN_BOUNDS[dtype, precision]
        check.record(title, {"error_over_absmax": errors, "within": within})


def compare_system(check: Check, name: str) -> None:
    """A system on the device and on this host's own CPU at small size, and at full size on the device."""
    system, settings, _ = SYSTEMS[name]
    if name == "avinet_b" and not check.rehearse:
        compare_golden(check, name, system, settings, (("float32", "highest"),))
    preset = small_preset(name)
    logits = _on_both(check, "small", *_forward(preset))
    worst = peers.disagreement(logits["device"], logits["cpu"])
    check.record("small", {"error_over_absmax": worst, "within": worst <= MAP_BOUND})
    if not check.rehearse:
        _full_size(check, resolve(system, settings))
    elif name == "avinet_b":  # once, for the code
        _full_size(check, preset)
    steps = {place: _values(outputs) for place, outputs in _on_both(check, "step", *_step(preset)).items()}
    differences = {
        value: abs(steps["device"][value] - steps["cpu"][value]) / abs(steps["cpu"][value])
        for value in ("loss", "gradient_norm")
    }
    within = differences["loss"] <= LOSS_BOUND and differences["gradient_norm"] <= NORM_BOUND
    check.record("step", {**steps, "differences": differences, "within": within})


def small_preset(name: str) -> Preset:
    """Returns a system with narrow parts, and an encoder of five convolutions in place of S3D's 77."""
    system, settings, parts = SYSTEMS[name]
    frames = 8 if resolve(system).input.frames == 32 else resolve(system).input.frames
    return resolve(system, {"frames": frames, "height": 64, "width": 96, **settings, **parts})


def _on_both(check, title, function, arguments) -> dict:
    """Returns what a function gives on the device and on the host's CPU; it is traced once for both."""
    places = {"device": jax.devices()[0], "cpu": jax.devices("cpu")[0]}
    return {
        place: _on(check, f"{title}, {place}", function=function, arguments=arguments, device=device)
        for place, device in places.items()
    }


def _on(check, title, function, arguments, device):
    """Returns what a function gives on a device, in full precision, as NumPy arrays."""
    placed = jax.device_put(arguments, device)
    with jax.default_matmul_precision("highest"):
        program = check.compile(title, function, *placed)
    return jax.device_get(program(*placed))


def _forward(preset, batch=2, dtype=jnp.float32):
    """Returns the function that gives logits [B, H, W], and its arguments."""
    network = build(preset, Runtime(dtype=dtype))
    clips = random_clips(network.input, batch)

    def logits(variables, clip):
        return network.run(variables, clip).logits[SALIENCY]

    return logits, (init_variables(network, 0), Clip(clips["frames"], clips.get("audio")))


def _full_size(check, preset):
    batch = check.sizes.batch
    logits, arguments = _forward(preset, batch, jnp.bfloat16)
    arguments = jax.device_put(arguments, jax.devices()[0])
    program = check.compile(f"full size, batch {batch}", logits, *arguments)
    call, flops = functools.partial(program, *arguments), matrix_flops(logits, *arguments)
    finite = bool(np.isfinite(np.asarray(call())).all())
    check.record("full size", check.rate({"avsal_jax": call}, flops, batch, "bfloat16") | {"finite": finite})


def short_stream(preset: Preset) -> dict:
    """Returns whether the sliding window gives finite maps for a few frames."""
    network, spec = build(preset), preset.input
    engine = WindowEngine(network, jax.device_put(init_variables(network, 0)), 2)
    frames = np.zeros((24, spec.height, spec.width, 3), np.uint8)
    maps = [saliency for _, saliency in engine.maps(frames)]
    return {"maps": len(maps), "finite": bool(np.isfinite(maps).all())}


def one_step(check: Check, title: str, preset: Preset) -> dict:
    """Returns loss and gradient norm of a training step on the device; of both domains for `dual_domain`."""
    step, arguments = _step(preset)
    return _values(_on(check, title, function=step, arguments=arguments, device=jax.devices()[0]))


def _step(preset: Preset):
    """Returns a training step, and its arguments."""
    network, spec, terms = build(preset), preset.input, (Term("kl"),)
    variables, batches = init_variables(network, 0), {"labelled": random_clips(spec, 2)}
    objective = Supervised(network, terms)
    if preset.system == "dual_domain":
        objective = DomainAdversarial(network, terms, DomainAdversarialConfig(sources=("target",)))
        clips = random_clips(spec, 2, seed=1)
        batches["target"] = {name: clips[name] for name in ("frames", "audio")}
    variables = joined_variables(variables, objective.extra_variables(0))
    # The simplest one compiles soonest: the values come before it, and the training cases have Adam.
    steps = Training().steps
    optimizer = make_optimizer(SGD(), variables["params"], steps)
    step = make_step(objective, optimizer, steps, seed=0, ema=0.0)
    return step, (new_state(variables, optimizer, ema=False), batches, np.float32(1))


def _values(outputs) -> dict:
    _, values = outputs
    result = {name: float(values[name]) for name in ("loss", "gradient_norm")}
    return result | {"finite": bool(np.isfinite(list(result.values())).all())}
