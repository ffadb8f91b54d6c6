"""Pooling equals `reduce_window`, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from avsal_jax.ops.pooling import avg_pool3d, max_pool3d

CASES = [
    ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((4, 1, 1), (2, 1, 2), (0, 0, 0)),
    ((2, 5, 3), (1, 3, 2), (1, 2, 0)),
]


def windows(window, stride, padding):
    pads = ((0, 0), *((p, p) for p in padding), (0, 0))
    return (1, *window, 1), (1, *stride, 1), pads


def distinct(shape=(2, 5, 8, 11, 3)):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.permutation(int(np.prod(shape))).reshape(shape), jnp.float32) / 100


def value_and_gradient(pool, loss):
    """Returns the pooled values of `distinct`, and the gradient of a loss of them, by one program."""

    def run(x):
        pooled = pool(x)
        return loss(pooled), pooled

    (_, pooled), gradient = jax.jit(jax.value_and_grad(run, has_aux=True))(distinct())
    return pooled, gradient


@pytest.mark.parametrize(("window", "stride", "padding"), CASES)
def test_max_pool_equals_reduce_window(window, stride, padding):
    def reference_pool(v):
        return lax.reduce_window(v, -jnp.inf, lax.max, *windows(window, stride, padding))

    def weighted(pooled):
        return (pooled * jnp.sin(jnp.arange(pooled.size, dtype=jnp.float32)).reshape(pooled.shape)).sum()

    value, gradient = value_and_gradient(lambda v: max_pool3d(v, window, stride, padding), weighted)
    expected = value_and_gradient(reference_pool, weighted)
    np.testing.assert_array_equal(value, expected[0])
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-6)


def test_ties_share_the_gradient_and_lose_none():
    x = jnp.ones((1, 4, 6, 8, 2))
    gradient = jax.jit(jax.grad(lambda v: (3 * max_pool3d(v, (3, 3, 3), (2, 2, 2), (1, 1, 1))).sum()))(x)
    outputs = max_pool3d(x, (3, 3, 3), (2, 2, 2), (1, 1, 1)).size
    np.testing.assert_allclose(gradient.sum(), 3 * outputs, rtol=1e-6)


def test_padding_never_wins():
    x = -jnp.ones((1, 2, 5, 7, 1))
    assert float(max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)).max()) == -1


@pytest.mark.parametrize(("window", "stride", "padding"), CASES)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_equals_reduce_window(window, stride, padding, count_include_pad):
    shape = windows(window, stride, padding)

    def reference_pool(v):
        total = lax.reduce_window(v, 0.0, lax.add, *shape)
        if count_include_pad:
            return total / np.prod(window)
        return total / lax.reduce_window(jnp.ones_like(v), 0.0, lax.add, *shape)

    def avg_pool(v):
        return avg_pool3d(v, window, stride, padding, count_include_pad=count_include_pad)

    (value, gradient), expected = (
        value_and_gradient(pool, lambda pooled: (pooled**2).sum()) for pool in (avg_pool, reference_pool)
    )
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4)


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match="half of the window"):
        max_pool3d(distinct(), (1, 3, 3), (1, 2, 2), (0, 2, 1))
    with pytest.raises(ValueError, match="larger than the padded input"):
        max_pool3d(distinct(), (6, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match=r"\[B,T,H,W,C\]"):
        max_pool3d(jnp.ones((2, 3, 4)), (1, 1, 1), (1, 1, 1))
