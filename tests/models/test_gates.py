"""Regulator gates against Eqs. 13 to 15 in loops; which levels they gate, and what they leave alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.fusion.gates import RegulatorGate, RegulatorGates
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.layers import Runtime
from avsal_jax.models.registry import build_part
from tests.models.numpy_layers import conv3d, random_variables, sigmoid, trilinear

DIRECT = Runtime(lowering="direct")
DOUBLE = Runtime(dtype=jnp.float64, lowering="direct")
RAVF_FIELDS = {"blocks": 1, "heads": 2, "width": 1 / 64}


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
        got = np.asarray(gate.apply(v, fused, visual))
    np.testing.assert_allclose(got, gate_in_loops(v["params"], fused, visual, order), rtol=0, atol=1e-10)


def test_the_literal_order_is_the_default():
    assert RegulatorGate().order == RegulatorGates().gate_order == "sigmoid_average"


@pytest.mark.parametrize("gates", [1, 2, 3, 4])
@pytest.mark.parametrize("decoder_inputs", ["gated_and_visual", "gated"])
def test_the_chain_of_gates_on_picture_alone(gates, decoder_inputs):
    pyramid = pyramid_of(dtype=np.float64)
    with jax.enable_x64(True):
        module = RegulatorGates(None, gates, decoder_inputs=decoder_inputs, runtime=DOUBLE)
        v = random_variables(module, pyramid, None)
        got = jax.jit(module.apply)(v, pyramid, None)
    feature, levels = pyramid[3], pyramid[::-1]
    for level, visual in enumerate(levels):
        if level > 0:
            feature = trilinear(feature, visual.shape[1:4])  # Eq. 13
        expected = feature if level == 0 else visual
        if level >= 4 - gates:
            feature = gate_in_loops(v["params"][f"gate{level}"], feature, visual, "sigmoid_average")
            both = decoder_inputs == "gated_and_visual"
            expected = np.concatenate([feature, visual], -1) if both else feature
        np.testing.assert_allclose(got[3 - level], expected, rtol=0, atol=1e-10)


def test_gates_hand_on_what_the_fusion_made():
    pyramid, tokens = pyramid_of(), tokens_of()
    module = build_part("fusion", "ravf", {**RAVF_FIELDS, "gates": 4}, DIRECT)
    variables = jax.tree.map(np.float32, random_variables(module, pyramid, tokens))
    inner = {"params": {k: v for k, v in variables["params"].items() if k.startswith("block")}}
    run = jax.jit(lambda module, v, p, t: module.apply(v, p, t, mutable=["intermediates"]), static_argnums=0)
    fused, _ = run(RAVF(**RAVF_FIELDS), inner, pyramid, tokens)
    got, state = run(module, variables, pyramid, tokens)
    first = gate_in_loops(variables["params"]["gate0"], np.asarray(fused[3]), pyramid[3], "sigmoid_average")
    np.testing.assert_allclose(got[3], np.concatenate([first, pyramid[3]], -1), atol=1e-4)
    assert "fused" in state["intermediates"]
    silent, _ = run(module, variables, pyramid, None)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(got, silent, strict=True))


class Shifted(nn.Module):
    """A fusion that works on every level, as CASP-Net's does."""

    def __call__(self, pyramid, tokens, train=False):
        return tuple(level + 1 for level in pyramid)


def test_gates_around_a_fusion_of_all_levels_take_the_finer_ones_as_it_returned_them():
    """Finer X^l are those of the fusion; the coarsest X^0 is the picture's, and F^0 what the fusion made."""
    pyramid = pyramid_of()
    alone = RegulatorGates(None, 3, runtime=DIRECT)
    variables = jax.tree.map(np.float32, random_variables(alone, pyramid, None))
    got = RegulatorGates(Shifted(), 3, runtime=DIRECT).apply(variables, pyramid, tokens_of())
    shifted = tuple(level + 1 for level in pyramid)
    expected = alone.apply(variables, shifted, None)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    module = RegulatorGates(Shifted(), 4, runtime=DIRECT)
    variables = jax.tree.map(np.float32, random_variables(module, pyramid, None))
    coarsest = np.asarray(module.apply(variables, pyramid, None)[3])
    first = gate_in_loops(variables["params"]["gate0"], pyramid[3] + 1, pyramid[3], "sigmoid_average")
    np.testing.assert_allclose(coarsest, np.concatenate([first, pyramid[3]], -1), atol=1e-4)


@pytest.mark.parametrize("name", ["ravf", "none"])
def test_gates_add_their_parameters_to_those_of_the_fusion_and_nothing_else(name):
    pyramid, tokens = pyramid_of(), tokens_of()
    fields = RAVF_FIELDS if name == "ravf" else {}

    def shapes(gates, tokens):
        module = build_part("fusion", name, {**fields, "gates": gates}, Runtime())
        if module is None:
            return {}
        params = jax.eval_shape(lambda: module.init(jax.random.key(0), pyramid, tokens)).get("params", {})
        return jax.tree.map(lambda leaf: leaf.shape, params)

    for gates in range(1, 5):
        own = {k: v for k, v in shapes(gates, tokens).items() if not k.startswith("gate")}
        assert own == shapes(0, tokens)
        assert set(shapes(gates, tokens)) - set(own) == {f"gate{level}" for level in range(4 - gates, 4)}
        assert set(shapes(gates, None)) == {f"gate{level}" for level in range(4 - gates, 4)}


def test_without_gates_there_is_no_wrapper():
    assert type(build_part("fusion", "ravf", {"gates": 0}, Runtime())) is RAVF
    assert build_part("fusion", "none", {"gates": 0}, Runtime()) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gates": 5}, "fusion.gates must be a whole number from 0 to 4; got 5"),
        ({"gates": -1}, "fusion.gates must be a whole number from 0 to 4; got -1"),
        (
            {"gates": 1, "gate_order": "mean"},
            "gate_order 'mean' is not one of sigmoid_average, average_sigmoid",
        ),
        (
            {"gates": 0, "gate_order": "mean"},
            "gate_order 'mean' is not one of sigmoid_average, average_sigmoid",
        ),
        ({"gates": 1, "decoder_inputs": "all"}, "decoder_inputs 'all' is not one of gated_and_visual, gated"),
        ({"gates": "many"}, "fusion.gates must be a whole number from 0 to 4; got 'many'"),
        ({"gate": 3}, r"no field 'gate' \(did you mean 'gates'\?\); it has gates, gate_order"),
        ({"heads": 8}, "fusion 'none' has no field 'heads'"),
    ],
)
def test_what_is_refused(fields, message):
    with pytest.raises(AvsalError, match=message):
        build_part("fusion", "none", fields, Runtime()).init(jax.random.key(0), pyramid_of(), None)


def test_no_other_slot_takes_gates():
    with pytest.raises(AvsalError, match="neck is 'none' and takes no field; got gates"):
        build_part("neck", "none", {"gates": 3}, Runtime())
