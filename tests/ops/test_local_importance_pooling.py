"""Local importance pooling against its formula in loops, and what it is with equal weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.ops.local_importance_pooling import local_importance_pool
from avsal_jax.ops.pooling import avg_pool3d, max_pool3d

CASES = [
    ((1, 3, 3), (1, 1, 1), (0, 1, 1)),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((1, 2, 2), (1, 2, 2), (0, 0, 0)),
]


def random_inputs(shape=(2, 2, 7, 6, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng.uniform(0, 12, shape)


def in_loops(x, logit, window, stride, padding):
    b, t, *sizes, c = x.shape
    _, *k = window
    out = [(n + 2 * p - m) // s + 1 for n, m, s, p in zip(sizes, k, stride[1:], padding[1:], strict=True)]
    y = np.zeros((b, t, *out, c))
    for n, f, i, j, channel in np.ndindex(y.shape):
        above = below = 0.0
        for row in range(i * stride[1] - padding[1], i * stride[1] - padding[1] + k[0]):
            for column in range(j * stride[2] - padding[2], j * stride[2] - padding[2] + k[1]):
                if 0 <= row < sizes[0] and 0 <= column < sizes[1]:
                    weight = np.exp(logit[n, f, row, column, channel])
                    above += weight * x[n, f, row, column, channel]
                    below += weight
        y[n, f, i, j, channel] = above / below
    return y


@pytest.mark.parametrize(("window", "stride", "padding"), CASES)
def test_it_is_the_weighted_mean_of_each_window(window, stride, padding):
    x, logit = random_inputs()
    with jax.enable_x64(True):
        means = np.asarray(local_importance_pool(jnp.asarray(x), jnp.asarray(logit), window, stride, padding))
    np.testing.assert_allclose(means, in_loops(x, logit, window, stride, padding), rtol=0, atol=1e-10)


def test_equal_weights_average_what_is_there():
    x = jnp.asarray(random_inputs()[0], jnp.float32)
    output = local_importance_pool(x, jnp.full_like(x, 6.0), *CASES[0])
    np.testing.assert_allclose(output, avg_pool3d(x, *CASES[0], count_include_pad=False), atol=1e-6)


def test_weight_on_the_largest_makes_it_max_pooling():
    x = jnp.asarray(np.random.default_rng(0).permutation(2 * 7 * 6).reshape(1, 2, 7, 6, 1), jnp.float32)
    output = local_importance_pool(x, x - 42, *CASES[0])
    np.testing.assert_allclose(output, max_pool3d(x, *CASES[0]), atol=1.0)
    sharp = local_importance_pool(x, 0.5 * x - 21, *CASES[0])
    largest = max_pool3d(x, *CASES[0])
    assert float((largest - output).mean()) < float((largest - sharp).mean())


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        local_importance_pool(jnp.ones((1, 1, 4, 4, 2)), jnp.ones((1, 1, 4, 4, 1)), *CASES[0])
