"""Every system lowers for GPU and TPU without a device, into operations that these run well."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import Clip
from avsal_jax.losses import Term
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.testing.models import TINY_S3D
from avsal_jax.training.objectives import Supervised, joined_variables
from avsal_jax.training.objectives.domain_adversarial import DomainAdversarial, DomainAdversarialConfig
from avsal_jax.training.optimizers import Adam, make_optimizer
from avsal_jax.training.state import new_state
from avsal_jax.training.step import make_step

PLATFORMS = ("cuda", "tpu")
THIN = {"visual_encoder": "small", "visual_encoder.width": 1 / 16, "heads.saliency.width": 1 / 16}
HEARING = {**THIN, "audio_encoder.width": 1 / 32, "audio.samples": 4574}
SYSTEMS = {
    "vinet": THIN,
    "vinet_lite0": {
        "visual_encoder": "efficientnet_lite0",
        "visual_encoder.width": 1 / 16,
        "heads.saliency": "small",
    },
    "avinet": HEARING,
    "avinet_t": {**HEARING, "fusion": "transformer", "fusion.width": 1 / 16},
    "dual_domain": {**HEARING, "fusion.width": 1 / 16},
    "casp_net": {**THIN, "audio_encoder.width": 1 / 32, "neck.width": 1 / 32},
    "avrsp": {**HEARING, "neck.width": 1 / 32, "fusion.width": 1 / 16},
    "gaze": {"visual_encoder.width": 1 / 16, "heads.saliency.channels": 4},  # with the fit of the camera
}

# Spatial dimensions -> how many, of a forward pass with S3D on a GPU.
CONVOLUTIONS = {
    "avinet": {2: 49, 3: 3},
    "avinet_t": {2: 49, 3: 3},
    "dual_domain": {2: 49, 3: 3},
    "casp_net": {2: 59, 3: 27},
    "avrsp": {2: 63, 3: 44},
}


def preset_of(system, **settings):
    name = {"avinet_t": "avinet", "vinet_lite0": "vinet"}.get(system, system)
    return resolve(name, {"frames": 8, "height": 64, "width": 96, **SYSTEMS[system], **settings})


def clips_of(spec):
    shape = jax.ShapeDtypeStruct
    clips = {
        "frames": shape((2, spec.frames, spec.height, spec.width, 3), jnp.uint8),
        "density": shape((2, spec.height, spec.width), jnp.float32),
        "fixations": shape((2, spec.height, spec.width), bool),
        "mask": shape((2,), bool),
    }
    if spec.audio is not None:
        clips["audio"] = shape((2, *spec.audio.shape), jnp.float32)
    return clips


def forward_of(preset, runtime):
    network, clips = build(preset, runtime), clips_of(preset.input)

    def saliency(variables, frames, audio):
        return jax.nn.sigmoid(network.run(variables, Clip(frames, audio)).logits["saliency"])

    return saliency, (abstract_variables(network), clips["frames"], clips.get("audio"))


def step_of(preset, runtime):
    network, spec, terms = build(preset, runtime), preset.input, (Term("kl"), Term("cc", -0.1))
    batches, objective = {"labelled": clips_of(spec)}, Supervised(network, terms)
    if preset.system == "dual_domain":
        objective = DomainAdversarial(network, terms, DomainAdversarialConfig(sources=("target",), memory=2))
        batches["target"] = {name: clips_of(spec)[name] for name in ("frames", "audio")}
    extra = jax.eval_shape(lambda: objective.extra_variables(0))
    variables = joined_variables(abstract_variables(network), extra)
    optimizer = make_optimizer(Adam(), variables["params"], 10)
    state = jax.eval_shape(functools.partial(new_state, optimizer=optimizer, ema=True), variables)
    step = make_step(objective, optimizer, 10, seed=0, ema=0.9)
    return step, (state, batches, jax.ShapeDtypeStruct((), np.float32))


def lowered(function, arguments, platforms=PLATFORMS):
    """Returns the program for each platform, of one trace."""
    traced = jax.jit(function).trace(*arguments)
    return [traced.lower(lowering_platforms=(platform,)).as_text() for platform in platforms]


def custom_calls(text):
    return set(re.findall(r"stablehlo\.custom_call @(\w+)", text))


def convolutions(text):
    """Counts convolutions by spatial dimensions."""
    operands = re.findall(r"dim_numbers = \[([^\]]*)\]x", text)
    return collections.Counter(len(re.findall(r"\d", names)) for names in operands)


def check(text):
    assert "f64" not in re.findall(r"tensor<[^>]*?x?(f64)>", text), "float64"
    # None at all: no callback into Python, and no library call that a GPU or TPU might lack.
    assert custom_calls(text) == set()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_forward_pass_of_every_system_lowers(system):
    for text in lowered(*forward_of(preset_of(system), Runtime(dtype=jnp.bfloat16))):
        check(text)
        assert "bf16" in text and "stablehlo.convolution" in text


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_training_step_of_every_system_lowers(system):
    for text in lowered(*step_of(preset_of(system), Runtime(dtype=jnp.bfloat16, remat=True))):
        check(text)
        assert "bf16" in text and "stablehlo.convolution" in text


@pytest.mark.slow
def test_convolutions_are_as_docs_performance_lists_them():
    """S3D has none in 3-D. The decoder has four on a GPU, which join frames, unless they are folded too."""
    preset = preset_of("vinet", frames=32, **TINY_S3D)
    for lowering, expected in (("auto", {2: 41, 3: 4}), ("folded", {2: 45})):
        (text,) = lowered(*forward_of(preset, Runtime(jnp.bfloat16, lowering=lowering)), ("cuda",))
        check(text)
        assert convolutions(text) == expected


@pytest.mark.slow
@pytest.mark.parametrize("system", ["avinet", "avinet_t", "dual_domain", "casp_net", "avrsp"])
def test_convolutions_of_the_other_systems_are_listed_too(system):
    forward = forward_of(preset_of(system, visual_encoder="s3d"), Runtime(jnp.bfloat16))
    (text,) = lowered(*forward, ("cuda",))
    check(text)
    assert convolutions(text) == CONVOLUTIONS[system]


@pytest.mark.slow
def test_the_training_step_with_s3d_and_recomputed_stages_lowers():
    preset = preset_of("vinet", **TINY_S3D)
    counts = {}
    for remat in (False, True):
        texts = lowered(*step_of(preset, Runtime(dtype=jnp.bfloat16, remat=remat)))
        for text in texts:
            check(text)
            assert "select_and_scatter" not in text  # of pooling, which is slow on GPUs
        counts[remat] = [convolutions(text)[2] for text in texts]
    for plain, recomputed in zip(counts[False], counts[True], strict=True):
        assert recomputed > 1.2 * plain
