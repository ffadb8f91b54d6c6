"""Relevance-aware attention against Eqs. 2 to 5 in loops, and its invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.ops.relevance_attention import Projected, relevance_attention

B, N, S, HEADS, D = 2, 5, 3, 2, 4


def random_projections(tokens, seed):
    rng = np.random.default_rng(seed)
    return Projected(*(rng.standard_normal((B, tokens, HEADS, D)) for _ in range(3)))


def in_loops(visual, audio, squash):
    """Eqs. 2 to 5: v2a, a2v, Ret_A, Ret_V."""
    ret_a, ret_v = np.zeros((B, HEADS, N, S)), np.zeros((B, HEADS, S, N))
    v2a, a2v = np.zeros((B, N, HEADS, D)), np.zeros((B, S, HEADS, D))
    for b, h, n, s in np.ndindex(ret_a.shape):
        for d in range(D):
            ret_a[b, h, n, s] += visual.query[b, n, h, d] * audio.key[b, s, h, d] / np.sqrt(D)
            ret_v[b, h, s, n] += audio.query[b, s, h, d] * visual.key[b, n, h, d] / np.sqrt(D)
        ret_a[b, h, n, s], ret_v[b, h, s, n] = squash(ret_a[b, h, n, s]), squash(ret_v[b, h, s, n])
    for b, n, h, d in np.ndindex(v2a.shape):
        v2a[b, n, h, d] = visual.value[b, n, h, d]
        for s in range(S):
            v2a[b, n, h, d] += ret_a[b, h, n, s] * audio.value[b, s, h, d]
    for b, s, h, d in np.ndindex(a2v.shape):
        a2v[b, s, h, d] = audio.value[b, s, h, d]
        for n in range(N):
            a2v[b, s, h, d] += ret_v[b, h, s, n] * visual.value[b, n, h, d]
    return v2a, a2v, ret_a, ret_v


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_equations_2_to_5(activation):
    visual, audio = random_projections(N, 0), random_projections(S, 1)
    squash = {"none": lambda r: r, "sigmoid": lambda r: 1 / (1 + np.exp(-r))}[activation]
    with jax.enable_x64(True):
        result = jax.tree.map(np.asarray, relevance_attention(*map(on_device, (visual, audio)), activation))
    for actual, reference in zip(result, in_loops(visual, audio, squash), strict=True):
        np.testing.assert_allclose(actual, reference, rtol=0, atol=1e-10)


def on_device(projected):
    return Projected(*map(jnp.asarray, projected))


def test_without_retention_the_visual_values_are_unchanged():
    visual, audio = on_device(random_projections(N, 0)), on_device(random_projections(S, 1))
    result = relevance_attention(visual, audio._replace(key=jnp.zeros_like(audio.key)))
    assert not np.any(result.retention_audio)
    np.testing.assert_array_equal(result.visual, visual.value)
    assert np.abs(result.audio - audio.value).max() > 0.1


def test_the_order_of_the_sound_does_not_matter():
    visual, audio, order = on_device(random_projections(N, 0)), on_device(random_projections(S, 1)), [2, 0, 1]
    plain = relevance_attention(visual, audio)
    mixed = relevance_attention(visual, Projected(*(x[:, order] for x in audio)))
    np.testing.assert_allclose(mixed.visual, plain.visual, atol=1e-5)
    np.testing.assert_allclose(mixed.audio, plain.audio[:, order], atol=1e-5)


def test_literal_retention_grows_with_the_keys_and_sigmoid_retention_stays_below_one():
    visual, audio = on_device(random_projections(N, 0)), on_device(random_projections(S, 1))
    louder = audio._replace(key=10 * audio.key)
    plain, loud = (relevance_attention(visual, a).retention_audio for a in (audio, louder))
    np.testing.assert_allclose(loud, 10 * plain, atol=1e-5 * np.abs(loud).max())  # sums of either sign
    assert np.abs(loud).max() > 1
    bounded = np.asarray(relevance_attention(visual, louder, "sigmoid").retention_audio)
    assert bounded.min() >= 0 and bounded.max() <= 1
