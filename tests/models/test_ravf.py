"""RAVF against Eqs. 1 to 7 in loops; its invariants, features and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.fusion.ravf import RAVF, RAVFBlock
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.layers import Runtime
from tests.models.numpy_layers import affine, layer_norm, random_variables, sigmoid, softmax

DOUBLE = Runtime(dtype=jnp.float64)


def block_in_loops(p, visual, tokens, heads, squash, scale=1):
    """One clip: visual [N, C], tokens [S, A] -> fused tokens, Ret_A, Ret_V, head weights."""
    v = {part: affine(p[f"visual_{part}"], visual) for part in ("query", "key", "value")}
    a = {part: affine(p[f"audio_{part}"], tokens) for part in ("query", "key", "value")}
    d = v["query"].shape[-1] // heads
    fused = np.zeros_like(v["value"])
    scores, v2a, ret_a, ret_v = [], [], [], []
    for head in range(heads):
        chunk = slice(head * d, (head + 1) * d)
        ret_a.append(squash(v["query"][:, chunk] @ a["key"][:, chunk].T / np.sqrt(d)))
        ret_v.append(squash(a["query"][:, chunk] @ v["key"][:, chunk].T / np.sqrt(d)))
        v2a.append(ret_a[-1] @ a["value"][:, chunk] + v["value"][:, chunk])
        a2v = ret_v[-1] @ v["value"][:, chunk] + a["value"][:, chunk]
        joined = np.concatenate([sum(v2a[-1]) / len(visual), sum(a2v) / len(tokens)])
        if "head_norm" in p:
            joined = layer_norm(p["head_norm"], joined[None], 1e-5)[0]
        hidden = np.maximum(0, affine(p["head_hidden"], joined))
        scores.append(affine(p["head_score"], hidden)[0])
    weights = softmax(scores)
    for head in range(heads):
        fused[:, head * d : (head + 1) * d] = scale * weights[head] * v2a[head]
    x = layer_norm(p["norm1"], visual + (affine(p["output"], fused) if "output" in p else fused), 1e-5)
    hidden = np.maximum(0, affine(p["expand"], x))
    x = layer_norm(p["norm2"], x + affine(p["reduce"], hidden), 1e-5)
    return x, np.stack(ret_a), np.stack(ret_v), weights


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_a_block_is_equations_1_to_7_with_residuals_norms_and_feed_forward(activation):
    rng = np.random.default_rng(0)
    visual, tokens = rng.standard_normal((2, 6, 5)), rng.standard_normal((2, 3, 7))
    squash = {"none": lambda r: r, "sigmoid": sigmoid}[activation]
    with jax.enable_x64(True):
        block = RAVFBlock(8, 2, 3, activation, runtime=DOUBLE)
        variables = random_variables(block, visual, tokens)
        x, relevance, weights = jax.jit(block.apply)(variables, visual, tokens)
    for b in range(2):
        expected = block_in_loops(variables["params"], visual[b], tokens[b], 2, squash)
        outputs = (x[b], relevance.retention_audio[b], relevance.retention_visual[b], weights[b])
        for actual, reference in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(actual, reference, rtol=0, atol=1e-10)


def test_what_the_paper_leaves_open_can_be_chosen():
    """Without the linear map after the heads, and with weights of mean 1."""
    rng = np.random.default_rng(1)
    visual, tokens = rng.standard_normal((1, 6, 8)), rng.standard_normal((1, 3, 7))
    with jax.enable_x64(True):
        block = RAVFBlock(8, 4, output=False, head_scale=True, runtime=DOUBLE)
        variables = random_variables(block, visual, tokens)
        x, _, _ = jax.jit(block.apply)(variables, visual, tokens)
    expected, *_ = block_in_loops(variables["params"], visual[0], tokens[0], 4, lambda r: r, 4)
    np.testing.assert_allclose(x[0], expected, rtol=0, atol=1e-10)
    with pytest.raises(AvsalError, match="as many channels as the picture; got 16 and 8"):
        RAVFBlock(16, 4, output=False).init(jax.random.key(0), visual, tokens)


def test_a_norm_before_the_scores_of_heads():
    rng = np.random.default_rng(2)
    visual, tokens = rng.standard_normal((1, 6, 5)), rng.standard_normal((1, 3, 7))
    with jax.enable_x64(True):
        block = RAVFBlock(8, 4, head_norm=True, runtime=DOUBLE)
        variables = random_variables(block, visual, tokens)
        x, _, weights = jax.jit(block.apply)(variables, visual, tokens)
    expected = block_in_loops(variables["params"], visual[0], tokens[0], 4, lambda r: r)
    np.testing.assert_allclose(x[0], expected[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(weights[0], expected[3], rtol=0, atol=1e-10)


@pytest.mark.parametrize("start", ["he", "torch"])
def test_fresh_heads_have_equal_weights_and_gradients_at_the_papers_size(start):
    """336 visual tokens, 8 heads of 64 channels: no head has a gradient below a hundredth of the largest."""
    rng = np.random.default_rng(3)
    visual, tokens = rng.standard_normal((1, 336, 256)), rng.standard_normal((1, 3, 128))
    visual, tokens = visual.astype(np.float32), tokens.astype(np.float32)
    block, probe = RAVFBlock(512, 8), rng.standard_normal((1, 336, 256)).astype(np.float32)
    variables = fresh_variables(lambda key: block.init(key, visual, tokens), 0, start)

    def total(variables):
        x, _, weights = block.apply(variables, visual, tokens)
        return jnp.sum(x * probe), weights

    gradients, weights = jax.jit(jax.grad(total, has_aux=True))(variables)
    np.testing.assert_array_equal(weights, np.full((1, 8), 1 / 8, np.float32))
    gradients = gradients["params"]
    for name in ("visual_value", "audio_value", "visual_query", "audio_key"):
        kernel = np.asarray(gradients[name]["projection"])
        by_head = np.abs(kernel.reshape(len(kernel), 8, 64)).max((0, 2))
        assert by_head.min() > 0.01 * by_head.max(), name
    assert np.abs(np.asarray(gradients["head_score"]["projection"])).max() > 0


def test_positions_tell_places_apart():
    """Equal tokens at every place come out equal, unless their places are added."""
    pyramid = tuple(np.ones_like(level) for level in pyramid_of())
    tokens = np.random.default_rng(0).standard_normal((1, 3, 6)).astype(np.float32)
    tokens = np.broadcast_to(tokens, (len(pyramid[-1]), 3, 6))
    for positions in (False, True):
        module = RAVF(blocks=1, positions=positions, width=1 / 32)
        *_, level = jax.jit(module.apply)(random_variables(module, pyramid, tokens), pyramid, tokens)
        spread = np.ptp(np.asarray(level), axis=(1, 2, 3)).max()
        assert spread > 0.01 if positions else spread < 1e-5


def pyramid_of(seed=0, channels=(4, 5, 6, 7)):
    rng = np.random.default_rng(seed)
    sizes = [(4, 12, 20), (4, 6, 10), (2, 3, 5), (1, 3, 5)]
    return tuple(
        rng.standard_normal((2, *size, c)).astype(np.float32) for size, c in zip(sizes, channels, strict=True)
    )


def tokens_of(seed=1, count=3):
    return np.random.default_rng(seed).standard_normal((2, count, 9)).astype(np.float32)


SMALL = RAVF(blocks=2, heads=4, width=1 / 32)


@pytest.fixture(scope="module")
def variables():
    return jax.tree.map(np.float32, random_variables(SMALL, pyramid_of(), tokens_of()))


apply_small = jax.jit(functools.partial(SMALL.apply, mutable=["intermediates"]))


def recorded(variables, pyramid, tokens):
    levels, state = apply_small(variables, pyramid, tokens)
    return levels, {name: np.asarray(value[0]) for name, value in state["intermediates"].items()}


def test_blocks_follow_each_other_on_the_coarsest_level_and_hear_the_same_sound(variables):
    pyramid, tokens = pyramid_of(), tokens_of()
    levels, features = recorded(variables, pyramid, tokens)
    x = pyramid[3][0].reshape(-1, 7)
    for number in (1, 2):
        block = variables["params"][f"block{number}"]
        x, ret_a, ret_v, weights = block_in_loops(block, x, tokens[0], 4, lambda r: r)
        np.testing.assert_allclose(features["head_weights"][0, number - 1], weights, atol=1e-5)
        maps = features["retention_audio"][0, number - 1]  # [heads, T, H, W, S]
        np.testing.assert_allclose(maps.reshape(4, 15, 3), ret_a, atol=1e-4)
        maps = features["retention_visual"][0, number - 1]
        np.testing.assert_allclose(maps.reshape(4, 3, 15), ret_v, atol=1e-4)
    np.testing.assert_allclose(features["fused"][0], x, atol=1e-4)
    np.testing.assert_allclose(levels[3][0].reshape(-1, 7), x, atol=1e-4)
    for level, original in zip(levels[:3], pyramid[:3], strict=True):
        np.testing.assert_array_equal(level, original)


def test_features_have_the_shapes_that_the_docstring_gives(variables):
    _, features = recorded(variables, pyramid_of(), tokens_of())
    assert {name: value.shape for name, value in features.items()} == {
        "fused": (2, 15, 7),
        "retention_audio": (2, 2, 4, 1, 3, 5, 3),
        "retention_visual": (2, 2, 4, 3, 1, 3, 5),
        "head_weights": (2, 2, 4),
    }
    np.testing.assert_allclose(features["head_weights"].sum(-1), 1, atol=1e-6)
    assert features["head_weights"].std() > 0.01


def test_the_order_of_the_sound_does_not_matter_but_the_sound_does(variables):
    pyramid, tokens = pyramid_of(), tokens_of()
    plain, _ = recorded(variables, pyramid, tokens)
    mixed, _ = recorded(variables, pyramid, tokens[:, [1, 2, 0]])
    other, _ = recorded(variables, pyramid, tokens_of(seed=2))
    np.testing.assert_allclose(mixed[3], plain[3], atol=1e-5)
    assert np.abs(other[3] - plain[3]).max() > 0.1


def test_any_number_of_tokens_fits_the_same_weights(variables):
    levels, features = recorded(variables, pyramid_of(), tokens_of(count=7))
    assert levels[3].shape == (2, 1, 3, 5, 7) and features["retention_audio"].shape[-1] == 7


def test_without_an_audio_encoder_it_is_the_identity_and_has_no_weights():
    pyramid = pyramid_of()
    levels, state = SMALL.init_with_output(jax.random.key(0), pyramid, None)
    assert levels == pyramid and not state


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 7}, "fusion.heads must divide the 512 channels of RAVF's attention; got 7"),
        ({"blocks": 65}, "blocks must be a whole number from 1 to 64; got 65"),
        ({"blocks": 0}, "blocks must be a whole number from 1 to 64; got 0"),
        ({"heads": 0}, "heads must be a whole number from 1 to 64; got 0"),
        ({"expansion": -1}, "expansion must be a whole number from 1 to 64; got -1"),
        ({"retention_activation": "relu"}, "retention_activation 'relu' is not one of none, sigmoid"),
    ],
)
def test_what_it_refuses(fields, message):
    with pytest.raises(AvsalError, match=message):
        RAVF(**fields).init(jax.random.key(0), pyramid_of(), None)
