"""MBT and the elementwise fusions against their formulas in NumPy; how sound reaches the picture."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.fusion.elementwise import Addition, Multiplication
from avsal_jax.models.fusion.mbt import MBT
from avsal_jax.models.layers import Runtime
from tests.models.numpy_layers import affine, layer_norm, random_variables, softmax

DOUBLE = Runtime(dtype=jnp.float64)
B, T, H, W, C, S = 2, 2, 2, 3, 4, 3


def inputs():
    rng = np.random.default_rng(0)
    finer = tuple(rng.standard_normal((B, 2 * T, 4, 4, 1)) for _ in range(3))
    return (*finer, rng.standard_normal((B, T, H, W, C))), rng.standard_normal((B, S, 5))


@pytest.mark.parametrize(("cls", "join"), [(Addition, np.add), (Multiplication, np.multiply)])
@pytest.mark.parametrize("time", ["mean", "resampled"])
def test_elementwise_fusions_join_the_projected_sound_everywhere(cls, join, time):
    pyramid, tokens = inputs()
    with jax.enable_x64(True):
        module = cls(time, DOUBLE)
        v = random_variables(module, pyramid, tokens)
        levels, state = module.apply(v, pyramid, tokens, mutable=["intermediates"])
    sound = affine(v["params"]["sound"], tokens)
    for b, t, h, w in np.ndindex(B, T, H, W):
        # Resampled, three tokens on two time steps have the half-pixel centres 0.25 and 1.75.
        late = 0.75 * sound[b, 2 * t] + 0.25 * sound[b, 1]
        audio = sum(sound[b]) / S if time == "mean" else late
        np.testing.assert_allclose(
            levels[3][b, t, h, w], join(pyramid[3][b, t, h, w], audio), rtol=0, atol=1e-10
        )
    assert state["intermediates"]["fused"][0].shape == (B, T * H * W, C)


def test_an_unknown_time_of_the_sound_is_refused():
    pyramid, tokens = inputs()
    with pytest.raises(AvsalError, match="audio_time 'first' is not one of resampled, mean"):
        Addition("first").init(jax.random.key(0), pyramid, tokens)


def vit_layer(p, x, heads):
    """One clip's tokens [N, C] through a pre-norm transformer layer."""
    y, a = layer_norm(p["norm1"], x, 1e-6), p["attention"]
    query, key, value = (affine(a[name], y) for name in ("query", "key", "value"))
    mixed, d = np.zeros_like(value), value.shape[-1] // heads
    for head in range(heads):
        chunk = slice(head * d, (head + 1) * d)
        for n in range(len(x)):
            weights = softmax(key[:, chunk] @ query[n, chunk] / np.sqrt(d))
            mixed[n, chunk] = sum(w * row for w, row in zip(weights, value[:, chunk], strict=True))
    x = x + affine(a["output"], mixed)
    y = affine(p["expand"], layer_norm(p["norm2"], x, 1e-6))
    y = np.vectorize(lambda u: 0.5 * u * (1 + math.erf(u / math.sqrt(2))))(y)
    return x + affine(p["reduce"], y)


def test_mbt_exchanges_bottleneck_tokens_between_layers():
    pyramid, tokens = inputs()
    with jax.enable_x64(True):
        module = MBT(blocks=2, heads=2, bottlenecks=2, width=1 / 64, runtime=DOUBLE)
        v = random_variables(module, pyramid, tokens)
        levels, state = module.apply(v, pyramid, tokens, mutable=["intermediates"])
    p = v["params"]
    for b in range(B):
        visual, audio = affine(p["visual"], pyramid[3][b].reshape(-1, C)), affine(p["audio"], tokens[b])
        bottleneck, n = p["projection"], T * H * W
        visual_tokens = vit_layer(p["visual1"], np.concatenate([visual, bottleneck]), 2)
        audio_tokens = vit_layer(p["audio1"], np.concatenate([audio, bottleneck]), 2)
        bottleneck = (visual_tokens[n:] + audio_tokens[S:]) / 2
        visual = vit_layer(p["visual2"], np.concatenate([visual_tokens[:n], bottleneck]), 2)[:n]
        # The softmax is float32 whatever the dtype.
        np.testing.assert_allclose(state["intermediates"]["fused"][0][b], visual, rtol=0, atol=1e-5)
        output = affine(p["output"], visual).reshape(T, H, W, C)
        np.testing.assert_allclose(levels[3][b], output, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": 1}, "blocks must be a whole number from 2 to 64; got 1"),
        ({"bottlenecks": 0}, "bottlenecks must be a whole number from 1 to 64; got 0"),
        ({"heads": 3}, "512 channels does not divide into 3 heads"),
    ],
)
def test_what_mbt_refuses(fields, message):
    with pytest.raises(AvsalError, match=message):
        MBT(**fields).init(jax.random.key(0), *inputs())
