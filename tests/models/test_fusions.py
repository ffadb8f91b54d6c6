"""Every fusion in every system: whatever is in the registry and among the presets is tested here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import registry
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.layers import Runtime
from avsal_jax.models.slots import build_part, part_class
from avsal_jax.models.systems import resolve, systems

RUNTIME = Runtime(lowering="direct")  # which traces and compiles faster
GATES = range(5)
FUSIONS = tuple(registry.table("fusion"))


def narrow(kind, part):
    """A part of a sixteenth of its width, where it has one; None for None."""
    if part is not None and "width" in part_class(kind, part["name"]).field_types():
        part = {**part, "width": 1 / 16}
    return build_part(kind, part, RUNTIME)


def regulator(gates):
    return build_part("regulator", {"name": "gates", "gates": gates} if gates else None, RUNTIME)


def shapes_of(module, *inputs):
    """What a freshly initialised module returns for inputs of these shapes, and its parameters' shapes."""
    returned, variables = jax.eval_shape(
        functools.partial(module.init_with_output, jax.random.key(0)), *inputs
    )
    return returned, variables.get("params", {})


@functools.cache
def before_fusion(system):
    """Shapes of the pyramid after the neck and of the tokens, for the clip that the system takes."""
    preset = resolve(system)
    spec, parts = preset.input, preset.parts
    sizes = [(2, 4, 192), (2, 8, 480), (4, 16, 832), (8, 32, 1024)]
    pyramid = tuple(
        jax.ShapeDtypeStruct((2, spec.frames // t, spec.height // s, spec.width // s, c // 16), np.float32)
        for t, s, c in sizes
    )
    if parts["neck"] is not None:
        pyramid, _ = shapes_of(narrow("neck", parts["neck"]), pyramid)
    tokens = jax.ShapeDtypeStruct((2, 3, 64), np.float32)  # systems that do not hear get SoundNet's
    if parts["audio_encoder"] is not None:
        sound = jax.ShapeDtypeStruct((2, *spec.audio.shape), np.float32)
        tokens, _ = shapes_of(narrow("audio_encoder", parts["audio_encoder"]), sound)
    return pyramid, tokens


@pytest.mark.parametrize("system", [name for name in systems() if name != "gaze"])  # whose levels are S3D's
@pytest.mark.parametrize("fusion", [None, *FUSIONS])
def test_every_fusion_fits_every_system_with_any_gates_with_and_without_sound(system, fusion):
    pyramid, tokens = before_fusion(system)
    decoder = narrow("head", resolve(system).parts["heads"]["saliency"])
    module = narrow("fusion", None if fusion is None else {"name": fusion})
    spec = resolve(system).input
    decoded = {}
    for sound in (tokens, None):
        fused, params = (pyramid, {}) if module is None else shapes_of(module, pyramid, sound)
        assert not {name for name in params if name.startswith("gate")}
        if sound is None:
            assert [level.shape for level in fused] == [level.shape for level in pyramid] and not params
        for gates in GATES:
            levels, gate_params = shapes_of(regulator(gates), pyramid, fused) if gates else (fused, {})
            assert [level.shape[:4] for level in levels] == [level.shape[:4] for level in pyramid]
            assert set(gate_params) == {f"gate{3 - i}" for i in range(gates)}
            channels = tuple(level.shape[-1] for level in levels)
            if gates in (0, 4) and channels not in decoded:  # decoders read the channels of every level
                decoded[channels] = shapes_of(decoder, levels)[0].shape
    assert set(decoded.values()) == {(2, spec.height, spec.width)}


def stub_levels(seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(4, 16, 16, 4), (4, 8, 8, 8), (2, 4, 4, 8), (1, 2, 2, 16)]
    return tuple(rng.standard_normal((2, *size)).astype(np.float32) for size in sizes)


def after_a_step(variables):
    """Gives values to the layer of RAVF that starts at zero, which passes no gradient until it moves."""

    def value(path, leaf):
        if not jax.tree_util.keystr(path).endswith("['head_score']['projection']"):
            return leaf
        return np.random.default_rng(5).standard_normal(leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(value, variables)


@pytest.mark.parametrize(("fusion", "gates"), [*((name, 0) for name in FUSIONS), ("ravf", 4)])
def test_values_and_gradients_of_every_fusion_are_finite_and_depend_on_picture_and_sound(fusion, gates):
    pyramid = stub_levels()
    tokens = np.random.default_rng(1).standard_normal((2, 3, 16)).astype(np.float32)
    module, gate = narrow("fusion", {"name": fusion}), regulator(gates)

    def gated(variables, pyramid, tokens):
        fused = module.apply(variables["fusion"], pyramid, tokens)
        return fused if gate is None else gate.apply(variables["regulator"], pyramid, fused)

    def fresh(pyramid, tokens, key):
        fused, variables = module.init_with_output(key, pyramid, tokens)
        regulator_variables = {} if gate is None else {"regulator": gate.init(key, pyramid, fused)}
        return {"fusion": variables, **regulator_variables}

    variables = after_a_step(fresh_variables(functools.partial(fresh, pyramid, tokens), 0))
    assert all(set(part) <= {"params", "batch_stats"} for part in variables.values())
    probes = jax.eval_shape(functools.partial(gated, variables), pyramid, tokens)
    rng = np.random.default_rng(2)
    probes = [rng.standard_normal(level.shape).astype(np.float32) for level in probes]

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    def loss(variables, pyramid, tokens):
        levels = gated(variables, pyramid, tokens)
        return sum(jnp.sum(level * probe) for level, probe in zip(levels, probes, strict=True))

    value, (slopes, picture, sound) = loss(variables, pyramid, jnp.asarray(tokens))
    assert np.isfinite(value)
    for leaf in jax.tree.leaves((slopes, picture, sound)):
        assert np.isfinite(leaf).all()
    assert np.abs(sound).max() > 0 and np.abs(picture[3]).max() > 0
    params = {slot: slope["params"] for slot, slope in slopes.items()}
    gradients = {jax.tree_util.keystr(p): g for p, g in jax.tree_util.tree_leaves_with_path(params)}
    # A softmax over heads does not change with a bias that all heads share: what is left there is rounding.
    shared = {path for path in gradients if path.endswith("['head_score']['bias']")}
    assert all(np.abs(gradients[path]).max() < 1e-3 for path in shared)
    assert not {path for path, gradient in gradients.items() if not np.any(gradient)} - shared
