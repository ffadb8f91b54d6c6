"""Gradient reversal: analytic values and gradients under every transformation that training uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from avsal_jax.ops.gradient_reversal import reversal_ramp, reverse_gradient

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)


def loss(x, strength):
    """Its gradient with respect to x would be 3 W (3 x)^2 = 27 W x^2 without the reversal."""
    return jnp.sum(W * reverse_gradient(3 * x, strength) ** 3 / 3)


def expected(strength):
    return -strength * 27 * W * X**2


def check(function, strength=0.7):
    value, gradient = jax.value_and_grad(function)(X, strength)
    np.testing.assert_allclose(value, np.sum(W * (3 * X) ** 3 / 3), rtol=1e-5)
    np.testing.assert_allclose(gradient, expected(strength), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 1.0, 0.25, -2.0])
def test_value_and_gradient(strength):
    check(loss, strength)


def test_the_value_is_the_same_array_and_strength_gets_no_gradient():
    np.testing.assert_array_equal(reverse_gradient(X, 5.0), X)
    assert jax.grad(loss, argnums=1)(X, 0.7) == 0


def test_under_jit_one_program_serves_every_strength():
    traces = []

    def counting_loss(x, strength):
        traces.append(strength)
        return loss(x, strength)

    step = jax.jit(jax.grad(counting_loss))
    for strength in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(step(X, strength), expected(strength), rtol=1e-5, atol=1e-5)
    assert len(traces) == 1


def test_under_vmap_over_x_and_over_strengths():
    def row_loss(x, w, strength):
        return jnp.sum(w * reverse_gradient(3 * x, strength) ** 3 / 3)

    rows = jax.vmap(jax.grad(row_loss), (0, 0, None))(X, W, 0.7)
    np.testing.assert_allclose(rows, expected(0.7), rtol=1e-5, atol=1e-5)
    strengths = np.array([0.0, 0.5, 1.0, 2.0], np.float32)
    gradients = jax.vmap(jax.grad(row_loss))(X, W, strengths)
    np.testing.assert_allclose(gradients, expected(strengths[:, None]), rtol=1e-5, atol=1e-5)
    check(lambda x, s: jax.vmap(row_loss, (0, 0, None))(x, W, s).sum())


def test_under_scan():
    """Two steps, each with its own strength: the gradient passes through both reversals."""
    strengths = jnp.array([0.5, 3.0])

    def scanned(x):
        def body(carry, strength):
            return reverse_gradient(2 * carry, strength), None

        return jnp.sum(W * jax.lax.scan(body, x, strengths)[0])

    value, gradient = jax.jit(jax.value_and_grad(scanned))(X)
    np.testing.assert_allclose(value, np.sum(4 * W * X), rtol=1e-5)
    np.testing.assert_allclose(gradient, (-0.5) * (-3.0) * 4 * W, rtol=1e-5)


def test_under_remat():
    check(jax.checkpoint(loss))
    check(jax.jit(jax.checkpoint(loss)))


def test_under_sharding():
    assert jax.device_count() > 1
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("data")))
    value, gradient = jax.jit(jax.value_and_grad(loss))(x, 0.7)
    np.testing.assert_allclose(value, np.sum(W * (3 * X) ** 3 / 3), rtol=1e-5)
    np.testing.assert_allclose(gradient, expected(0.7), rtol=1e-5, atol=1e-5)
    assert gradient.sharding.is_equivalent_to(x.sharding, x.ndim)


def test_used_twice_each_use_has_its_strength():
    def twice(x, a, b):
        return jnp.sum(W * reverse_gradient(x, a)) + jnp.sum(2 * W * reverse_gradient(x, b)) + jnp.sum(x)

    np.testing.assert_allclose(jax.grad(twice)(X, 0.5, 0.25), 1 - 0.5 * W - 0.5 * W, rtol=1e-5)

    def nested(x):
        return jnp.sum(W * reverse_gradient(reverse_gradient(x, 0.5), 0.25))

    np.testing.assert_allclose(jax.grad(nested)(X), 0.125 * W, rtol=1e-5)


def test_half_precision_keeps_its_type():
    gradient = jax.grad(lambda x: jnp.sum(reverse_gradient(x, 0.5).astype(jnp.float32)))(
        X.astype(jnp.bfloat16)
    )
    assert gradient.dtype == jnp.bfloat16 and (gradient == -0.5).all()


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match="floats and a scalar; got int32"):
        reverse_gradient(jnp.arange(3))
    with pytest.raises(ValueError, match=r"got float32 and shape \(2,\)"):
        reverse_gradient(X, jnp.ones(2))


def test_the_ramp_is_that_of_the_paper():
    progress = np.linspace(0, 1, 11)
    np.testing.assert_allclose(reversal_ramp(progress), 2 / (1 + np.exp(-10 * progress)) - 1, atol=1e-6)
    assert reversal_ramp(0.0) == 0 and reversal_ramp(1.0) > 0.9999
