"""Fusions against their formulas in float64, from the papers; sizes; mistakes."""

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.fusion.tokens import pooled
from avsal_jax.models.layers import Runtime
from avsal_jax.models.slots import build_part

RNG = np.random.default_rng(0)
LEVEL = RNG.standard_normal((2, 4, 3, 5, 8)).astype(np.float32)
FINER = tuple(RNG.standard_normal((2, 4, 2, 2, c)).astype(np.float32) for c in (2, 3, 4))
SOUND = RNG.standard_normal((2, 3, 8)).astype(np.float32)
NAMES = ("bilinear", "concatenation", "transformer", "cross_modal")
SMALL = {"transformer": {"width": 1 / 32}, "cross_modal": {"width": 1 / 32}}  # 16 channels


def part(name, **fields):
    return build_part("fusion", {"name": name, **SMALL.get(name, {}), **fields}, Runtime())


def fused(name, level=LEVEL, sound=SOUND, **fields):
    """Applies a fusion with random parameters; returns (coarsest level, recorded features, parameters)."""
    fusion = part(name, **fields)
    pyramid = (*FINER, level)
    shapes = jax.eval_shape(fusion.init, jax.random.key(0), pyramid, sound)["params"]
    parameters = jax.tree.map(lambda leaf: RNG.standard_normal(leaf.shape).astype(np.float32) / 4, shapes)
    apply = jax.jit(lambda p: fusion.apply({"params": p}, pyramid, sound, mutable=["intermediates"]))
    out, state = apply(parameters)
    assert len(out) == 4
    for after, before in zip(out[:3], FINER, strict=True):
        np.testing.assert_array_equal(after, before)
    recorded = {k: v[0] for k, v in state["intermediates"].items() if isinstance(v, tuple)}
    return np.asarray(out[3]), recorded, jax.tree.map(np.float64, parameters)


def linear(x, parameters):
    return x @ parameters["projection"] + parameters["bias"]


def test_bilinear_form_of_the_public_code():
    out, recorded, parameters = fused("bilinear")
    v = LEVEL.astype(np.float64).max(1)[:, :, ::2].reshape(2, 9, 8)  # time pooled, odd columns dropped
    z = np.einsum("bic,ijo,bjc->boc", v, parameters["projection"], SOUND) + parameters["bias"][:, None]
    np.testing.assert_allclose(recorded["fused"], z, atol=1e-4)
    np.testing.assert_allclose(out, z.reshape(2, 4, 3, 5, 8), atol=1e-4)


@pytest.mark.parametrize(("frames", "left"), [(1, 1), (2, 1), (4, 1), (6, 2)])
def test_bilinear_pools_as_much_time_as_there_is(frames, left):
    level = RNG.standard_normal((1, frames, 2, 3, 8)).astype(np.float32)
    _, _, parameters = fused("bilinear", level, SOUND[:1])
    assert parameters["projection"].shape == (left * 2 * 2, 3, frames * 2 * 3)


def test_bilinear_brings_sound_to_the_channels_of_the_picture():
    out, _, parameters = fused("bilinear", sound=np.ones((2, 2, 5), np.float32))
    assert parameters["sound"]["projection"].shape == (5, 8) and out.shape == LEVEL.shape


def test_columns_of_the_max_pooling():
    """42 places of 4 x 7 x 12, in which the largest value lies in columns 0, 2, 4, ... of the first frame."""
    level = np.zeros((1, 4, 7, 12, 1), np.float32)
    level[0, 3, :, :, 0] = np.arange(84).reshape(7, 12)
    level[0, 0, 2, 4, 0] = 100
    level[0, 1, 6, 11, 0] = 200
    every_second = np.arange(0, 84, 2, dtype=np.float32).reshape(7, 6)
    every_second[2, 2] = 100
    np.testing.assert_array_equal(pooled(level)[0, 0, :, :, 0], every_second)
    pairs = np.arange(1, 84, 2, dtype=np.float32).reshape(7, 6)
    pairs[2, 2], pairs[6, 5] = 100, 200
    np.testing.assert_array_equal(pooled(level, "pairs")[0, 0, :, :, 0], pairs)
    odd = pooled(level[:, :, :1, :3], "pairs")
    np.testing.assert_array_equal(odd[0, 0, 0, :, 0], [1, 2])
    with pytest.raises(AvsalError, match="fusion.columns 'all' is not one of every_second, pairs"):
        pooled(level, "all")


def test_pairs_of_columns_keep_all_of_them():
    """The levels of the formulas have five columns: two pairs and one alone."""
    pairs = np.maximum(LEVEL.max(1)[:, :, [0, 2, 4]], LEVEL.max(1)[:, :, [1, 3, 4]]).astype(np.float64)
    out, _, parameters = fused("bilinear", columns="pairs")
    z = np.einsum("bic,ijo,bjc->boc", pairs.reshape(2, 9, 8), parameters["projection"], SOUND)
    z = z + parameters["bias"][:, None]
    np.testing.assert_allclose(out, z.reshape(2, 4, 3, 5, 8), atol=1e-4)


@pytest.mark.parametrize("time", ["resampled", "mean"])
def test_concatenation_repeats_the_sound_over_places(time):
    out, recorded, parameters = fused("concatenation", audio_time=time)
    sound = SOUND.astype(np.float64)
    # 3 tokens at 4 times: their centres lie at 3/4 t - 1/8, held at the ends.
    shares = np.array([[1, 0, 0], [3 / 8, 5 / 8, 0], [0, 5 / 8, 3 / 8], [0, 0, 1]])
    sound = sound.mean(1, keepdims=True).repeat(4, 1) if time == "mean" else shares @ sound
    sound = np.broadcast_to(sound[:, :, None, None], (2, 4, 3, 5, 8))
    z = linear(np.concatenate([LEVEL, sound], -1), parameters["reduce"])
    np.testing.assert_allclose(out, z, atol=1e-4)
    np.testing.assert_allclose(recorded["fused"], z.reshape(2, 60, 8), atol=1e-4)


@pytest.mark.parametrize("columns", ["every_second", "pairs"])
@pytest.mark.parametrize("residual", ["X_V", "O_V"])
def test_cross_modal_attention_of_the_paper(residual, columns):
    out, recorded, parameters = fused("cross_modal", residual=residual, columns=columns)
    level = LEVEL.astype(np.float64)
    small = level.max(1)[:, :, ::2]
    if columns == "pairs":
        small[:, :, :2] = np.maximum(small[:, :, :2], level.max(1)[:, :, 1::2])
    x_v = linear(small.reshape(2, 9, 8), parameters["picture"])
    x_a = linear(SOUND.astype(np.float64), parameters["sound"])
    q, k, v = (parameters["attention"][name]["projection"] for name in ("query", "key", "value"))
    scores = (x_v @ q) @ (x_a @ k).swapaxes(1, 2) / 4  # Eq. 1 with d_k = 16
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    x1 = x_v + weights @ (x_a @ v)
    hidden = np.maximum(x1 @ parameters["expand"]["kernel"] + parameters["expand"]["bias"], 0)
    assert hidden.shape[-1] == 4 * 16
    fc = linear(x1 + linear(hidden, parameters["reduce"]), parameters["out"])

    def restored(x):
        places = x.swapaxes(1, 2) @ parameters["places"]["projection"] + parameters["places"]["bias"]
        return linear(places.swapaxes(1, 2), parameters["channels"])

    o_av = x_v + fc if residual == "X_V" else level.reshape(2, 60, 8) + restored(fc)
    np.testing.assert_allclose(recorded["fused"], o_av, atol=1e-3)
    z = restored(o_av) if residual == "X_V" else o_av
    np.testing.assert_allclose(out, z.reshape(LEVEL.shape), atol=1e-3)


def test_cross_modal_restored_by_a_resize_fits_any_size():
    _, _, parameters = fused("cross_modal", restore="trilinear")
    assert "places" not in parameters
    fusion = part("cross_modal", restore="trilinear")
    larger = RNG.standard_normal((1, 2, 4, 7, 8)).astype(np.float32)
    parameters = jax.tree.map(np.float32, parameters)
    shape = jax.eval_shape(lambda p: fusion.apply({"params": p}, (larger,), SOUND[:1]), parameters)[0].shape
    assert shape == larger.shape


def test_cross_modal_has_a_row_of_weights_for_each_head():
    fusion = part("cross_modal", heads=4)
    variables = fusion.init(jax.random.key(0), (LEVEL,), SOUND)
    _, state = fusion.apply({"params": variables["params"]}, (LEVEL,), SOUND, mutable=["intermediates"])
    weights = state["intermediates"]["attention"]["attention"][0]
    assert weights.shape == (2, 4, 9, 3)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_transformer_dropout_is_for_training_alone():
    fusion = part("transformer", heads=2)
    variables = {"params": fusion.init(jax.random.key(0), (LEVEL,), SOUND)["params"]}
    keys = jax.random.split(jax.random.key(1))

    @jax.jit
    def run(key):
        return fusion.apply(variables, (LEVEL,), SOUND, True, rngs={"dropout": key})[0]

    plain = fusion.apply(variables, (LEVEL,), SOUND, False)[0]
    assert plain.shape == (2, 4, 3, 5, 32)
    assert np.abs(run(keys[0]) - plain).max() > 0.01 and np.abs(run(keys[0]) - run(keys[1])).max() > 0.01
    np.testing.assert_array_equal(run(keys[0]), run(keys[0]))


def test_transformer_positions_tell_equal_tokens_apart():
    flat = np.ones_like(LEVEL)
    for positions in (True, False):
        out, _, _ = fused("transformer", flat, positions=positions)
        spread = np.ptp(out.reshape(2, 60, -1), axis=1).max()
        assert bool(spread > 0.01) is positions


@pytest.mark.parametrize("name", NAMES)
def test_without_tokens_the_step_is_the_identity(name):
    fusion = part(name)
    pyramid = (*FINER, LEVEL)
    out, variables = fusion.init_with_output(jax.random.key(0), pyramid, None)
    assert all(after is before for after, before in zip(out, pyramid, strict=True)) and not variables


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("concatenation", {"audio_time": "first"}, "fusion.audio_time 'first' is not one of resampled, mean"),
        ("cross_modal", {"residual": "X"}, "fusion.residual 'X' is not one of X_V, O_V"),
        ("cross_modal", {"restore": "cubic"}, "fusion.restore 'cubic' is not one of linear, trilinear"),
        ("cross_modal", {"heads": 3}, "16 channels does not divide into 3 heads"),
        ("transformer", {"heads": 0}, "fusion.heads must be a whole number from 1 to 64; got 0"),
    ],
)
def test_wrong_fields_are_refused(name, fields, message):
    with pytest.raises(AvsalError, match=message):
        fused(name, **fields)
