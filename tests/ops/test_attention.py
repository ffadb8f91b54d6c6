"""Attention and the table of positions against formulas in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.ops.attention import attended, attention_weights, sinusoids

RNG = np.random.default_rng(0)
QUERY, KEY, VALUE = (RNG.standard_normal((2, n, 8)).astype(np.float32) for n in (5, 3, 3))


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_weights_and_means_are_those_of_the_formula(heads):
    weights = attention_weights(jnp.asarray(QUERY), jnp.asarray(KEY), heads)
    means = attended(weights, jnp.asarray(VALUE))
    size = 8 // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = QUERY[..., part].astype(np.float64) @ KEY[..., part].swapaxes(1, 2) / np.sqrt(size)
        expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        np.testing.assert_allclose(weights[:, head], expected, atol=1e-6)
        np.testing.assert_allclose(means[..., part], expected @ VALUE[..., part], atol=1e-5)


def test_half_precision_has_weights_in_full():
    half = jnp.asarray(QUERY, jnp.bfloat16), jnp.asarray(KEY, jnp.bfloat16)
    weights = attention_weights(*half, 2)
    assert weights.dtype == jnp.float32
    assert attended(weights, jnp.asarray(VALUE, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(("length", "channels"), [(339, 512), (4, 7), (1, 2)])
def test_positions_are_sines_and_cosines(length, channels):
    table = sinusoids(length, channels)
    assert table.shape == (length, channels) and table.dtype == np.float32
    for channel in range(channels):
        angle = np.arange(length) / 10000.0 ** ((channel - channel % 2) / channels)
        np.testing.assert_allclose(
            table[:, channel], np.cos(angle) if channel % 2 else np.sin(angle), atol=1e-6
        )
