"""Regulator gates against Eqs. 13 to 15 in loops; which levels they gate, and what they leave alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, InputSpec, Waveform, create_model
from avsal_jax.models.decoders.avrsp import AVRSPDecoder
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Heads, Network, abstract_variables, feature_shapes
from avsal_jax.models.regulators.gates import RegulatorGate, RegulatorGates
from avsal_jax.models.slots import build_part
from tests.models.numpy_layers import conv3d, random_variables, sigmoid, trilinear

DIRECT = Runtime(lowering="direct")
DOUBLE = Runtime(dtype=jnp.float64, lowering="direct")
RAVF_FIELDS = {"blocks": 1, "heads": 2, "width": 1 / 64}
FUSIONS = {"ravf": {"name": "ravf", **RAVF_FIELDS}, "none": None}


def pyramid_of(channels=(2, 3, 4, 5), dtype=np.float32):
    rng = np.random.default_rng(0)
    sizes = [(4, 5, 6), (4, 3, 3), (2, 2, 2), (1, 1, 2)]
    levels = zip(sizes, channels, strict=True)
    return tuple(rng.standard_normal((2, *size, c)).astype(dtype) for size, c in levels)


def tokens_of(dtype=np.float32):
    return np.random.default_rng(1).standard_normal((2, 3, 4)).astype(dtype)


def gate_in_loops(p, fused, visual, order):
    score = conv3d(p["select"], np.concatenate([fused, visual], -1))
    gated = np.zeros_like(fused)
    for b, c in np.ndindex(fused.shape[0], fused.shape[-1]):
        places = [score[(b, *place, c)] for place in np.ndindex(fused.shape[1:4])]
        if order == "sigmoid_average":
            gate = sum(sigmoid(value) for value in places) / len(places)
        else:
            gate = sigmoid(sum(places) / len(places))
        gated[b, ..., c] = gate * fused[b, ..., c]
    return conv3d(p["output"], gated)


@pytest.mark.parametrize("order", ["sigmoid_average", "average_sigmoid"])
def test_a_gate_is_equations_14_and_15(order):
    rng = np.random.default_rng(0)
    fused, visual = rng.standard_normal((2, 2, 4, 3, 3)), rng.standard_normal((2, 2, 4, 3, 2))
    with jax.enable_x64(True):
        gate = RegulatorGate(order, DOUBLE)
        v = random_variables(gate, fused, visual)
        output = np.asarray(gate.apply(v, fused, visual))
    np.testing.assert_allclose(output, gate_in_loops(v["params"], fused, visual, order), rtol=0, atol=1e-10)


def test_the_literal_order_is_the_default():
    assert RegulatorGate().order == RegulatorGates().order == "sigmoid_average"


@pytest.mark.parametrize("gates", [1, 2, 3, 4])
@pytest.mark.parametrize("returns", ["gated_and_visual", "gated"])
def test_the_chain_of_gates_on_picture_alone(gates, returns):
    pyramid = pyramid_of(dtype=np.float64)
    with jax.enable_x64(True):
        module = RegulatorGates(gates, returns=returns, runtime=DOUBLE)
        v = random_variables(module, pyramid, pyramid)
        result = jax.jit(module.apply)(v, pyramid, pyramid)
    feature, levels = pyramid[3], pyramid[::-1]
    for level, visual in enumerate(levels):
        if level > 0:
            feature = trilinear(feature, visual.shape[1:4])  # Eq. 13
        expected = feature if level == 0 else visual
        if level >= 4 - gates:
            feature = gate_in_loops(v["params"][f"gate{level}"], feature, visual, "sigmoid_average")
            joined = returns == "gated_and_visual"
            expected = np.concatenate([feature, visual], -1) if joined else feature
        np.testing.assert_allclose(result[3 - level], expected, rtol=0, atol=1e-10)


def test_gates_hand_on_what_the_fusion_made():
    pyramid, tokens = pyramid_of(), tokens_of()
    fusion, gates = RAVF(**RAVF_FIELDS), RegulatorGates(4, runtime=DIRECT)
    variables = jax.tree.map(np.float32, random_variables(fusion, pyramid, tokens))
    fused = jax.jit(fusion.apply)(variables, pyramid, tokens)
    variables = jax.tree.map(np.float32, random_variables(gates, pyramid, fused))
    run = jax.jit(gates.apply)
    result = run(variables, pyramid, fused)
    first = gate_in_loops(variables["params"]["gate0"], np.asarray(fused[3]), pyramid[3], "sigmoid_average")
    np.testing.assert_allclose(result[3], np.concatenate([first, pyramid[3]], -1), atol=1e-4)
    silent = run(variables, pyramid, pyramid)  # what a fusion returns without sound
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(result, silent, strict=True))


def test_gates_after_a_fusion_of_all_levels_take_the_finer_ones_as_it_returned_them():
    """Finer X^l are those of the fusion; the coarsest X^0 is the picture's, and F^0 what the fusion made."""
    pyramid = pyramid_of()
    shifted = tuple(level + 1 for level in pyramid)  # by a fusion of every level, as CASP-Net's
    module = RegulatorGates(3, runtime=DIRECT)
    variables = jax.tree.map(np.float32, random_variables(module, pyramid, shifted))
    run = jax.jit(module.apply)
    result, expected = (run(variables, visual, shifted) for visual in (pyramid, shifted))
    for level, reference in zip(result, expected, strict=True):
        np.testing.assert_allclose(level, reference, atol=1e-5)
    module = RegulatorGates(4, runtime=DIRECT)
    variables = jax.tree.map(np.float32, random_variables(module, pyramid, shifted))
    coarsest = np.asarray(jax.jit(module.apply)(variables, pyramid, shifted)[3])
    first = gate_in_loops(variables["params"]["gate0"], pyramid[3] + 1, pyramid[3], "sigmoid_average")
    np.testing.assert_allclose(coarsest, np.concatenate([first, pyramid[3]], -1), atol=1e-4)


class Levels(nn.Module):
    """A visual encoder that gives every clip the same pyramid."""

    def __call__(self, frames, train=False):
        return pyramid_of()


class Tokens(nn.Module):
    """An audio encoder that gives every clip the same tokens."""

    def __call__(self, audio, train=False):
        return tokens_of()


class Channels(nn.Module):
    """A head that says how many channels each level has, and what the levels sum to."""

    def __call__(self, pyramid, train=False):
        return jnp.array([[level.shape[-1], level.sum()] for level in pyramid])


def network_of(fusion, gates, hears=True):
    return Network(
        InputSpec(8, 32, 32, audio=Waveform(samples=100) if hears else None),
        visual_encoder=Levels(),
        audio_encoder=Tokens() if hears else None,
        fusion=build_part("fusion", FUSIONS[fusion], DIRECT),
        regulator=build_part("regulator", {"name": "gates", "gates": gates} if gates else None, DIRECT),
        heads=Heads.of({"channels": Channels()}),
    )


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("hears", [True, False])
def test_gates_add_their_parameters_to_those_of_the_fusion_and_nothing_else(fusion, hears):
    def shapes(gates):
        params = abstract_variables(network_of(fusion, gates, hears)).get("params", {})
        return jax.tree.map(lambda leaf: leaf.shape, params)

    plain = shapes(0)
    assert set(plain) == ({"fusion"} if fusion == "ravf" and hears else set())
    for gates in range(1, 5):
        gated = shapes(gates)
        assert set(gated.pop("regulator")) == {f"gate{level}" for level in range(4 - gates, 4)}
        assert gated == plain


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_network_gives_the_gates_its_pyramid_and_what_the_fusion_made(fusion):
    network, pyramid = network_of(fusion, 3), pyramid_of()
    inputs = np.zeros((1, 8, 32, 32, 3), np.float32), np.zeros((1, 100), np.float32)
    variables = jax.tree.map(np.float32, random_variables(network, *inputs))
    result = jax.jit(network.apply)(variables, *inputs)["channels"]
    fused = pyramid
    if network.fusion is not None:
        part = {"params": variables["params"]["fusion"]}
        fused = jax.jit(network.fusion.apply)(part, pyramid, tokens_of())
    part = {"params": variables["params"]["regulator"]}
    levels = jax.jit(network.regulator.apply)(part, pyramid, fused)
    assert [level.shape[-1] for level in levels] == [2 + 5, 3 + 5, 4 + 5, 5]
    expected = [[level.shape[-1], level.sum()] for level in levels]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-3)
    paths = set(feature_shapes(network, None))
    assert ("fusion/fused" in paths) is (fusion == "ravf")


def test_without_gates_the_slot_is_empty():
    assert build_part("regulator", None, Runtime()) is None
    for empty in (None, "none"):
        network, _ = create_model("avrsp", regulator=empty)
        assert network.regulator is None and type(network.fusion) is RAVF
    network, _ = create_model("avrsp", fusion=None, audio_encoder=None)
    assert network.fusion is None and type(network.regulator) is RegulatorGates
    network, _ = create_model("vinet", regulator={"name": "gates", "gates": 2})
    assert network.fusion is None and network.regulator == RegulatorGates(2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gates": 5}, "regulator.gates must be a whole number from 1 to 4; got 5"),
        ({"gates": 0}, "regulator.gates must be a whole number from 1 to 4; got 0"),
        ({"gates": -1}, "regulator.gates must be a whole number from 1 to 4; got -1"),
        ({"gates": "many"}, "regulator.gates must be a whole number from 1 to 4; got 'many'"),
        (
            {"gates": 1, "order": "mean"},
            "regulator.order 'mean' is not one of sigmoid_average, average_sigmoid",
        ),
        ({"order": "mean"}, "regulator.order 'mean' is not one of sigmoid_average, average_sigmoid"),
        (
            {"gates": 1, "returns": "all"},
            "regulator.returns 'all' is not one of gated_and_visual, gated",
        ),
        (
            {"gate": 3},
            r"regulator 'gates' has no field 'gate' \(did you mean 'gates'\?\); it has gates, order, returns",
        ),
        ({"heads": 8}, "regulator 'gates' has no field 'heads'"),
    ],
)
def test_what_is_refused(fields, message):
    with pytest.raises(AvsalError, match=message):
        build_part("regulator", {"name": "gates", **fields}, Runtime())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion.heads": 8}, "fusion is none and takes no field; got heads"),
        ({"regulator.gates": 3}, "regulator is none and takes no field; got gates"),
        ({"neck.gates": 3}, "neck is none and takes no field; got gates"),
        ({"regulator": None, "regulator.gates": 3}, "regulator is none and takes no field; got g"),
        ({"regulator": "gate"}, r"unknown regulator 'gate' \(did you mean 'gates'\?\)"),
    ],
)
def test_an_empty_slot_takes_no_fields(settings, message):
    with pytest.raises(AvsalError, match=message):
        create_model("vinet", **settings)


@pytest.mark.parametrize("part", ["gates", "decoder"])
def test_recomputing_changes_memory_alone(part):
    """Gates and AVRSP's decoder with `remat`: the same variables, values and gradients."""
    plain, recomputed = (
        RegulatorGates(runtime=Runtime(lowering="direct", remat=remat))
        if part == "gates"
        else AVRSPDecoder(width=1 / 64, runtime=Runtime(lowering="direct", remat=remat))
        for remat in (False, True)
    )
    pyramid = pyramid_of() if part == "gates" else decoder_levels()
    arguments = (pyramid, pyramid) if part == "gates" else (pyramid,)
    variables = random_variables(plain, *arguments)
    shapes = [jax.eval_shape(module.init, jax.random.key(0), *arguments) for module in (plain, recomputed)]
    assert shapes[0] == shapes[1]

    def value(module, variables):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(module.apply(variables, *arguments)))

    results = [
        jax.jit(jax.value_and_grad(functools.partial(value, module)))(variables)
        for module in (plain, recomputed)
    ]
    for expected, result in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    for module, recomputes in ((plain, False), (recomputed, True)):
        text = str(jax.make_jaxpr(functools.partial(value, module))(variables))
        assert ("remat" in text or "checkpoint" in text) is recomputes


def decoder_levels():
    rng = np.random.default_rng(2)
    sizes = [(4, 8, 8, 2), (4, 4, 4, 3), (2, 2, 2, 4), (2, 1, 1, 5)]
    return tuple(rng.standard_normal((1, *size)).astype(np.float32) for size in sizes)
