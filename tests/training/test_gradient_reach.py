"""Parameters that no gradient reaches are logged before training; expected are those of real gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.ops.gradient_reversal import reverse_gradient
from avsal_jax.ops.predictive_coding import Coding
from avsal_jax.storage import flatten
from avsal_jax.training.gradient_reach import without_gradient, words
from avsal_jax.training.records.notes import announce
from avsal_jax.training.train import Trainer


def steps(p, length):
    """A carry that reaches the result through another one, a step later."""

    def step(carry, x):
        first, second = carry
        return (first + second, p["late"] * x), None

    return jax.lax.scan(step, (p["start"], jnp.zeros(())), jnp.ones(length))[0][0]


@pytest.mark.parametrize(
    ("function", "idle"),
    [
        (lambda p: p["a"] * p["b"], ["c"]),
        (lambda p: jnp.where(p["a"] > 0, p["b"], 0) * p["c"], ["a"]),
        (lambda p: jax.lax.stop_gradient(p["a"]) * p["b"] + jax.jit(jnp.sin)(p["c"]), ["a"]),
        (lambda p: jax.checkpoint(lambda a, b: a + jax.lax.stop_gradient(b))(p["a"], p["b"]), ["b", "c"]),
        (lambda p: reverse_gradient(p["a"], 1.0) + jax.nn.relu(p["b"]), ["c"]),
        (lambda p: jnp.round(p["a"]).astype(int) * p["b"] + p["c"], ["a"]),
        (lambda p: steps({"start": p["a"], "late": p["b"]}, 3), ["c"]),
        (lambda p: steps({"start": p["a"], "late": p["b"]}, 0), ["b", "c"]),
    ],
)  # fmt: skip
def test_dependences_are_followed_through_calls_scans_and_constants(function, idle):
    params = {"a": jnp.array(1.3), "b": jnp.array(0.7), "c": jnp.array(2.1)}
    assert without_gradient(function, params) == idle
    gradients = jax.grad(function)(params)
    assert [name for name, value in gradients.items() if value == 0] == idle


QUERY_AND_KEY = ("interaction4/query", "interaction4/key")


def fusion_case(fields):
    """Returns (a function of a fusion's parameters, the parameters)."""
    module = CASPNetFusion(stages=(4,), **fields)
    rng = np.random.default_rng(0)
    pyramid = tuple(jnp.asarray(rng.standard_normal((1, 2, n, n, 4)), jnp.float32) for n in (4, 4, 4, 3))
    tokens = jnp.asarray(rng.standard_normal((1, 2, 5)), jnp.float32)
    start = jax.tree.map(
        lambda x: jnp.asarray(rng.standard_normal(x.shape) * 0.1, jnp.float32),
        jax.eval_shape(functools.partial(module.init, jax.random.key(0)), pyramid, tokens)["params"],
    )

    def function(params):
        return sum((level**2).sum() for level in module.apply({"params": params}, pyramid, tokens))

    return function, start


@pytest.mark.parametrize(
    ("fields", "idle"),
    [
        ({"interaction": "none", "coding": Coding(layers=1)}, ()),
        ({"interaction": "none", "coding": Coding(layers=1, stop_gradient="inference")}, ("coding/",)),
        ({"interaction": "none", "coding": Coding(layers=1, iterations=0)}, ("coding/",)),
        ({"interaction": "none", "coding": Coding(layers=1, update="own")}, ("coding/down0",)),
        ({"interaction": "none", "coding": Coding(layers=1, update="above")}, ("coding/up", "coding/down1")),
        ({"interaction": "quadratic", "coding": None}, (*QUERY_AND_KEY, "interaction4/audio")),
        ({"interaction": "quadratic", "coding": None, "values": "audio"}, QUERY_AND_KEY),
        ({"interaction": "linear", "coding": None}, ()),
    ],
)  # fmt: skip
def test_parameters_of_casp_nets_fusion_without_a_gradient(fields, idle):
    """Coding that does not reach the function, or is a constant; a softmax over one token, which is 1."""
    function, params = fusion_case(fields)
    expected = [path for path in flatten(params) if path.startswith(idle)] if idle else []
    assert sorted(without_gradient(function, params)) == sorted(expected) and bool(expected) is bool(idle)
    gradients = flatten(jax.jit(jax.grad(function))(params))
    assert sorted(path for path, value in gradients.items() if not np.any(value)) == sorted(expected)


def test_the_words_name_modules_and_numbers():
    paths = ["fusion/coding/up1/kernel", "fusion/coding/up1/bias", "neck/level1/point/kernel"]
    assert words(paths, 12) == (
        "no gradient reaches 3 of 12 arrays, which are not trained: fusion/coding (2), neck/level1 (1)"
    )


def test_training_states_them_and_leaves_out_what_is_frozen(values, config, tmp_path):
    """`stop_gradient=inference` trains nothing of the coding."""
    coding = {"layers": 1, "iterations": 1, "stop_gradient": "inference"}
    fusion = {"name": "casp_net", "interaction": "none", "coding": coding}
    model = {**values()["model"], "system": "casp_net", "neck": None, "fusion": fusion}
    expected = "warning: no gradient reaches {} of {} arrays, which are not trained: {}"
    coded = r"fusion/coding \(6\)"
    for frozen, modules in ((None, f"audio_encoder.*{coded}"), ("audio_encoder/.*", f"{coded}$")):
        optimizer = {"groups": [{"pattern": frozen, "scale": 0}] if frozen else []}
        lines = []
        trainer = Trainer(config(model=model, optimizer=optimizer), tmp_path / str(frozen), lines.append)
        announce(trainer.log, notes={}, feed=trainer.feed, program=trainer.program)
        (warning,) = [line for line in lines if "no gradient" in line]
        arrays = len(jax.tree.leaves(trainer.program.shapes.params))
        assert re.match(expected.format("[0-9]+", arrays, modules), warning)
