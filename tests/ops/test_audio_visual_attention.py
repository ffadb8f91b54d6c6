"""Equations 1 to 5 of CASP-Net's paper against loops in float64, and the closed forms of tied keys."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.ops import audio_visual_attention as ava


def phi(x):
    """Eq. 5 by the definition of the GELU: x times the normal distribution function."""
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2))) + 0.2


def similarity_loops(query, keys):
    """sim(Q, K) = phi(Q) phi(K)^T (Eqs. 2, 3), an L x L matrix, entry by entry."""
    length, channels = query.shape
    matrix = np.zeros((length, length))
    for i in range(length):
        for j in range(length):
            matrix[i, j] = sum(phi(query[i, c]) * phi(keys[j, c]) for c in range(channels))
    return matrix


def softmax_loops(query, keys):
    """softmax(Q K^T / N) of Eq. 1."""
    length = len(query)
    matrix = np.zeros((length, length))
    for i in range(length):
        row = [math.exp(float(np.dot(query[i], keys[j])) / length) for j in range(length)]
        matrix[i] = np.array(row) / sum(row)
    return matrix


def product_loops(matrix, values):
    out = np.zeros((len(matrix), values.shape[1]))
    for i in range(len(matrix)):
        for j in range(len(values)):
            for d in range(values.shape[1]):
                out[i, d] += matrix[i, j] * values[j, d]
    return out


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


L, C, D = 12, 5, 4
QUERY, VALUES = draw(2, L, C), draw(2, L, D, seed=1)


def spans(keys):
    """Keys and values as [B, L, ...] that are tied in the spans of `keys` [B, S, C]."""
    repeat = L // keys.shape[1]
    means = VALUES.reshape(2, keys.shape[1], repeat, D).mean(2)
    return np.repeat(keys, repeat, 1), means


@pytest.mark.parametrize("count", [1, 3, L], ids=["tiled", "a token per time step", "untied"])
class TestAgainstLoops:
    """S sound tokens: the functions get S keys and means of values, the loops L of both."""

    @pytest.mark.parametrize(("normalizer", "divisor"), [("none", 1), ("tokens", L), ("elements", L * C)])
    def test_linear(self, count, normalizer, divisor):
        keys = draw(2, count, C, seed=2)
        tied, means = spans(keys)
        with jax.enable_x64(True):
            output = ava.linear_interaction(*map(jnp.asarray, (QUERY, keys, means)), normalizer=normalizer)
        assert output.dtype == np.float64
        for b in range(2):
            expected = product_loops(similarity_loops(QUERY[b], tied[b]), VALUES[b]) / divisor
            np.testing.assert_allclose(output[b], expected, atol=1e-10)

    def test_quadratic(self, count):
        keys = 10 * draw(2, count, C, seed=2)  # far from uniform weights
        tied, means = spans(keys)
        with jax.enable_x64(True):
            output = ava.quadratic_interaction(*map(jnp.asarray, (QUERY, keys, means)))
        assert output.dtype == np.float64
        for b in range(2):
            expected = product_loops(softmax_loops(QUERY[b], tied[b]), VALUES[b])
            np.testing.assert_allclose(output[b], expected, atol=1e-10)

    def test_bilinear(self, count):
        sound, kernel = draw(2, count, 3, seed=2), draw(C, 3, D, seed=3)
        with jax.enable_x64(True):
            output = ava.bilinear_interaction(*map(jnp.asarray, (QUERY, sound, kernel)))
        expected = np.zeros((2, L, D))
        for b, i, d in np.ndindex(2, L, D):
            token = sound[b, i * count // L]
            for c in range(C):
                for a in range(3):
                    expected[b, i, d] += QUERY[b, i, c] * kernel[c, a, d] * token[a]
        np.testing.assert_allclose(output, expected, atol=1e-10)


def test_phi_is_positive_and_is_equation_5():
    x = np.linspace(-4, 4, 801)
    with jax.enable_x64(True):
        output = np.asarray(ava.kernel_features(jnp.asarray(x)))
    np.testing.assert_allclose(output, [phi(value) for value in x], atol=1e-12)
    assert 0.03 < float(output.min()) < 0.031


def test_the_three_orders_of_the_linear_form_agree_in_float32():
    """Eq. 4 (associated), Eq. 3 (an L x L matrix) and, with one key, the rank-one form."""
    query, values = (jnp.asarray(draw(1, 640, 256, seed=s), jnp.float32) for s in (0, 1))
    key = jnp.asarray(draw(1, 1, 256, seed=2), jnp.float32)
    tied = jnp.repeat(key, 640, 1)
    linear = ava.linear_interaction(query, tied, values, normalizer="elements")
    q, k = ava.kernel_features(query), ava.kernel_features(tied)
    quadratic_order = jnp.einsum("blm,bmd->bld", jnp.einsum("blc,bmc->blm", q, k), values) / (640 * 256)
    closed = ava.linear_interaction(query, key, values.mean(1, keepdims=True), normalizer="elements")
    scale = np.abs(quadratic_order).max()
    assert np.abs(linear - quadratic_order).max() < 1e-5 * scale
    assert np.abs(closed - quadratic_order).max() < 1e-5 * scale
    centred = np.asarray(closed[0], np.float64)
    assert np.linalg.matrix_rank(centred, tol=1e-5 * np.abs(centred).max()) == 1


def test_one_tiled_key_makes_the_quadratic_form_deaf_and_the_linear_one_not():
    query, values = map(jnp.asarray, (QUERY, VALUES.mean(1, keepdims=True)))
    keys = [jnp.asarray(draw(2, 1, C, seed=s)) for s in (5, 6)]
    deaf = [ava.quadratic_interaction(query, k, values) for k in keys]
    np.testing.assert_array_equal(*deaf)
    np.testing.assert_allclose(deaf[0], np.broadcast_to(values, deaf[0].shape), rtol=1e-6)
    a, b = (ava.linear_interaction(query, k, values) for k in keys)
    assert np.abs(a - b).max() > 0.01
    tied = [jnp.repeat(10 * k, L, 1).at[:, : L // 2].multiply(-1) for k in keys]  # two different halves
    a, b = (ava.quadratic_interaction(query, k, jnp.asarray(VALUES)) for k in tied)
    assert np.abs(a - b).max() > 0.01


def test_no_intermediate_of_the_linear_form_is_quadratic_in_the_tokens():
    def largest(count):
        shapes = (jax.ShapeDtypeStruct((1, n, 8), jnp.float32) for n in (4096, count, count))
        gradient = jax.grad(lambda *x: ava.linear_interaction(*x).sum(), (0, 1, 2))
        jaxpr = jax.make_jaxpr(gradient)(*shapes)
        return max(v.aval.size for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars)

    assert largest(4096) <= 4096 * 8 and largest(1) <= 4096 * 8


def test_bfloat16_is_summed_in_float32():
    query, values = (jnp.asarray(draw(1, 4096, 8, seed=s), jnp.bfloat16) for s in (0, 1))
    keys, values = jnp.ones((1, 4096, 8), jnp.bfloat16), jnp.ones_like(values)
    output = ava.linear_interaction(query, keys, values, normalizer="tokens")
    assert output.dtype == jnp.bfloat16
    k = float(ava.kernel_features(jnp.ones((), jnp.bfloat16)))
    expected = k * np.asarray(ava.kernel_features(query), np.float64).sum(-1)
    # In bfloat16 the sum would not grow beyond 256.
    np.testing.assert_allclose(np.asarray(output[..., 0], np.float64), expected, rtol=0.01)


def test_what_is_refused():
    with pytest.raises(AvsalError, match="normalizer 'sum' is not one of elements, tokens, none"):
        ava.linear_interaction(QUERY, QUERY, QUERY, normalizer="sum")
    with pytest.raises(ValueError, match="number of sound tokens divides"):
        ava.linear_interaction(QUERY, QUERY[:, :5], QUERY[:, :5])

    def shapes(length, count):
        return (jax.ShapeDtypeStruct((1, n, 8), jnp.float32) for n in (length, count, count))

    with pytest.raises(AvsalError, match="43008 visual with 43008 sound tokens takes 1,849,688,064 .*linear"):
        jax.eval_shape(ava.quadratic_interaction, *shapes(43_008, 43_008))
    for count in (1, 8):  # tied keys need no L x L matrix
        assert jax.eval_shape(ava.quadratic_interaction, *shapes(43_008, count)).shape == (1, 43_008, 8)
    assert jax.eval_shape(ava.quadratic_interaction, *shapes(16_384, 16_384)).shape == (1, 16_384, 8)
