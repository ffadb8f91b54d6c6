"""CASP-Net's fusion: its modules against loops, what sound changes, and what each field means."""

import functools
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.fusion.casp_net import AudioVisualInteraction, CASPNetFusion
from avsal_jax.models.fusion.predictive_coding import PredictiveCoding
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.layers import Runtime
from avsal_jax.models.slots import build_part
from avsal_jax.ops.predictive_coding import Coding

DOUBLE = Runtime(dtype=jnp.float64)


def variables_of(module, *inputs):
    """Initial values of the package, with biases that are not zero; a leaf depends on its path alone."""
    params = fresh_variables(lambda key: module.init(key, *inputs), 0)["params"]

    def fill(path, leaf):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return leaf + (0.1 * rng.standard_normal(leaf.shape, np.float32) if path[-1].key == "bias" else 0)

    return {"params": jax.tree_util.tree_map_with_path(fill, params)}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def linear_map(params, x):
    """x W + b entry by entry, [N, I] -> [N, O]."""
    weights, bias = np.asarray(params["projection"]), np.asarray(params["bias"])
    out = np.zeros((len(x), weights.shape[1]))
    for n, o in np.ndindex(*out.shape):
        out[n, o] = bias[o] + sum(x[n, i] * weights[i, o] for i in range(x.shape[1]))
    return out


def phi(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2))) + 0.2


def literal(kind, params, picture, sound, values="vision", divisor=1):
    """Equations 1 and 4 as printed: sound duplicated to every visual token, L x L similarities."""
    tokens = picture.reshape(-1, picture.shape[-1])
    length, (t, h, w, _) = len(tokens), picture.shape
    audio = linear_map(params["audio"], sound)
    tiled = np.stack([audio[(i // (h * w)) * len(audio) // t] for i in range(length)])
    q, k = linear_map(params["query"], tokens), linear_map(params["key"], tiled)
    v = linear_map(params["value"], tiled if values == "audio" else tokens)
    similarity = np.zeros((length, length))
    for i, j in np.ndindex(length, length):
        if kind == "linear":
            similarity[i, j] = sum(phi(a) * phi(b) for a, b in zip(q[i], k[j], strict=True)) / divisor
        else:
            similarity[i, j] = math.exp(float(q[i] @ k[j]) / length)
    if kind == "quadratic":
        similarity /= similarity.sum(1, keepdims=True)
    return picture + linear_map(params["output"], similarity @ v).reshape(picture.shape)


@pytest.mark.parametrize("count", [1, 2], ids=["one sound", "one per time step"])
@pytest.mark.parametrize("values", ["vision", "audio"])
@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_the_interaction_equals_the_literal_equations(kind, values, count):
    picture, sound = draw(2, 2, 2, 3, 4), draw(2, count, 3, seed=1)
    for normalizer, divisor in (("none", 1), ("tokens", 12), ("elements", 48)):
        with jax.enable_x64(True):
            module = AudioVisualInteraction(kind, normalizer, values, runtime=DOUBLE)
            variables = variables_of(module, picture, sound)
            output = np.asarray(jax.jit(module.apply)(variables, picture, sound))
        assert output.dtype == np.float64
        for b in range(2):
            expected = literal(kind, variables["params"], picture[b], sound[b], values, divisor)
            np.testing.assert_allclose(output[b], expected, atol=1e-10)


def test_the_bilinear_interaction_and_no_residual():
    picture, sound = draw(1, 2, 2, 1, 4), draw(1, 1, 3, seed=1)
    with jax.enable_x64(True):
        module = AudioVisualInteraction("bilinear", residual=False, runtime=DOUBLE)
        variables = variables_of(module, picture, sound)
        output = np.asarray(module.apply(variables, picture, sound))
    kernel, bias = variables["params"]["projection"], variables["params"]["bias"]
    assert kernel.shape == (4, 3, 4)
    expected = np.zeros_like(picture) + bias
    for t, h, c, a, o in np.ndindex(2, 2, 4, 3, 4):
        expected[0, t, h, 0, o] += picture[0, t, h, 0, c] * kernel[c, a, o] * sound[0, 0, a]
    np.testing.assert_allclose(output, expected, atol=1e-10)


def convolved(x, kernel, bias):
    """3x3x3 cross-correlation with a frame of zeros, by loops."""
    out = np.zeros((*x.shape[:3], kernel.shape[-1])) + np.asarray(bias)
    for t, h, w, i, j, k in np.ndindex(*x.shape[:3], 3, 3, 3):
        at = (t + i - 1, h + j - 1, w + k - 1)
        if all(0 <= p < n for p, n in zip(at, x.shape, strict=False)):
            out[t, h, w] += x[at] @ np.asarray(kernel[i, j, k])
    return out


def spread(x, kernel, bias):
    """The transposed convolution: every place adds its kernel to the places around it."""
    out = np.zeros((*x.shape[:3], kernel.shape[-1])) + np.asarray(bias)
    for t, h, w, i, j, k in np.ndindex(*x.shape[:3], 3, 3, 3):
        at = (t + i - 1, h + j - 1, w + k - 1)
        if all(0 <= p < n for p, n in zip(at, x.shape, strict=False)):
            out[at] += x[t, h, w] @ np.asarray(kernel[i, j, k])
    return out


@pytest.mark.parametrize("target", ["tiled", "pooled"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_coding_uses_convolutions_up_and_transposed_ones_down(target, count):
    picture, sound = draw(1, 2, 2, 3, 4), draw(1, count, 3, seed=1)
    with jax.enable_x64(True):
        module = PredictiveCoding(Coding(target=target, iterations=1), DOUBLE)
        variables = variables_of(module, picture, sound)
        _, state = jax.jit(functools.partial(module.apply, mutable=["intermediates"]))(
            variables, picture, sound
        )
        features = {k: np.asarray(v[0]) for k, v in state["intermediates"].items()}
    weights = {k: tuple(v.values()) for k, v in variables["params"].items()}
    weights = {k: sorted(v, key=np.ndim, reverse=True) for k, v in weights.items()}
    mu = [picture[0]]
    for name in ("up1", "up2"):
        mu.append(np.maximum(convolved(mu[-1], *weights[name]), 0))
    prediction = spread(mu[0], *weights["down0"])  # [T, H, W, 3]
    if target == "pooled":
        errors = [sound[0] - prediction.reshape(count, -1, 3).mean(1)]
    else:
        errors = [np.repeat(sound[0], 2 // count, 0)[:, None, None] - prediction]
    unheard = errors[0]
    errors += [mu[i] - spread(mu[i + 1], *weights[f"down{i + 1}"]) for i in (0, 1)]
    norm = sum((m**2).sum() for m in mu)
    expected = [(e**2).sum() / norm for e in errors]
    np.testing.assert_allclose(features["coding_error"][0, 0], expected, rtol=1e-10)
    np.testing.assert_allclose(features["coding_norm"][0, 0], [np.sqrt((m**2).sum()) for m in mu], rtol=1e-10)
    np.testing.assert_array_equal(features["coding_activity"][0, 0], picture[0])
    if target == "pooled":
        unheard = np.repeat(unheard[:, None], prediction.size // unheard.size, 1).reshape(prediction.shape)
        unheard = unheard * count / np.prod(prediction.shape[:3])

    def turned(error, name):
        """The gradient of a prediction with respect to what predicts, times `error`."""
        return convolved(error, np.swapaxes(weights[name][0], 3, 4), 0)

    # One iteration from the top down, each by its own error and the one below it.
    mu[2] = mu[2] + 0.2 * turned(errors[2], "down2")
    mu[1] = mu[1] - 0.2 * (mu[1] - spread(mu[2], *weights["down2"])) + 0.2 * turned(errors[1], "down1")
    mu[0] = mu[0] - 0.2 * (mu[0] - spread(mu[1], *weights["down1"])) + 0.2 * turned(unheard, "down0")
    np.testing.assert_allclose(features["coding_activity"][0, 1], mu[0], rtol=1e-9, atol=1e-10)


SIZES = ((4, 4, 6), (4, 2, 3), (2, 2, 2), (2, 1, 2))  # T, H, W of stages 1 to 4
PYRAMID = tuple(draw(2, *size, 8, seed=i).astype(np.float32) for i, size in enumerate(SIZES))
TOKENS = draw(2, 4, 5, seed=9).astype(np.float32)


@functools.cache
def built(**fields):
    """Returns the parameters of a fusion, and it compiled."""
    module = CASPNetFusion(**fields)
    variables = variables_of(module, PYRAMID, TOKENS)
    run = jax.jit(functools.partial(module.apply, mutable=["intermediates"]))
    return variables["params"], lambda tokens: run(variables, PYRAMID, tokens)


def fused(tokens=TOKENS, **fields):
    """Returns the pyramid that the fusion gives, what it records, and its parameters."""
    params, run = built(**fields)
    levels, state = run(tokens)
    recorded = state["intermediates"]
    return levels, {**recorded, **recorded.get("coding", {})}, params


def difference(a, b):
    return [float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True)]


def test_shapes_are_kept_and_features_recorded():
    levels, recorded, params = fused()
    assert [level.shape for level in levels] == [level.shape for level in PYRAMID]
    assert min(difference(levels, PYRAMID)) > 0.01
    np.testing.assert_array_equal(recorded["fused"][0], levels[3].reshape(2, 4, 8))
    assert recorded["coding_activity"][0].shape == (2, 4, *levels[3].shape[1:])
    np.testing.assert_array_equal(recorded["coding_activity"][0][:, 0], PYRAMID[3])
    assert recorded["coding_error"][0].shape == recorded["coding_norm"][0].shape == (2, 4, 3)
    assert set(params) == {"coding", *(f"interaction{stage}" for stage in (1, 2, 3, 4))}
    assert all(params[f"interaction{stage}"]["audio"]["projection"].shape == (5, 8) for stage in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("stages", "changed"), [((2,), [2]), ((4,), [4]), ((2, 3, 4), [2, 3, 4]), ((4, 1), [1, 4])]
)
def test_stages_that_are_not_chosen_pass(stages, changed):
    levels, recorded, params = fused(stages=stages, coding=None)
    moved = difference(levels, PYRAMID)
    assert [stage for stage in (1, 2, 3, 4) if moved[stage - 1] > 0] == changed
    assert set(params) == {f"interaction{stage}" for stage in changed}
    coarsest = PYRAMID[max(changed) - 1]
    assert recorded["fused"][0].shape == (2, math.prod(coarsest.shape[1:4]), 8)


def test_without_sound_the_pyramid_comes_back():
    module = CASPNetFusion()
    out, state = module.apply(variables_of(module, PYRAMID, TOKENS), PYRAMID, None, mutable=["intermediates"])
    assert all(a is b for a, b in zip(out, PYRAMID, strict=True)) and not state


HEARS = {
    "linear": True,
    "quadratic": False,  # with one key every weight is 1 / L
    "quadratic, resampled": True,
    "linear, resampled": True,
    "quadratic, audio": True,
    "bilinear": True,
}


@pytest.mark.parametrize("variant", HEARS)
def test_what_sound_changes_in_each_interaction(variant):
    kind, _, rest = variant.partition(", ")
    fields = {"resampled": {"audio_time": "resampled"}, "audio": {"values": "audio"}, "": {}}[rest]
    run = functools.partial(fused, interaction=kind, coding=None, **fields)
    with jax.default_matmul_precision("highest"):
        changes = difference(run()[0], run(tokens=50 * TOKENS[:, ::-1])[0])
    assert (min(changes) > 1e-5) if HEARS[variant] else (max(changes) == 0)


def test_order_of_time_matters_to_resampled_sound_alone():
    reversed_sound = TOKENS[:, ::-1]
    assert max(difference(fused(coding=None)[0], fused(tokens=reversed_sound, coding=None)[0])) < 1e-5
    settings = {"audio_time": "resampled", "coding": None}
    changes = difference(*(fused(tokens=x, **settings)[0] for x in (TOKENS, reversed_sound)))
    assert min(changes) > 1e-4


def test_the_number_of_iterations_leaves_the_parameters_alone():
    runs = {n: fused(coding=Coding(iterations=n)) for n in (0, 1, 5)}
    shapes = [jax.tree.map(np.shape, params) for _, _, params in runs.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    plain, _, _ = fused(coding=None)
    np.testing.assert_array_equal(runs[0][0][3], plain[3])
    trace = runs[5][1]["coding_activity"][0]
    assert trace.shape[1] == 6
    np.testing.assert_array_equal(trace[:, 1], runs[1][1]["coding_activity"][0][:, 1])
    assert np.abs(np.diff(trace, axis=1)).max((0, 2, 3, 4, 5)).min() > 1e-4


def test_coding_comes_before_or_after_the_interaction():
    before, after = fused()[0], fused(sequence="interaction_first")[0]
    assert difference(before, after)[:3] == [0, 0, 0] and difference(before, after)[3] > 1e-4
    _, recorded, _ = fused(sequence="interaction_first")
    plain, _, _ = fused(coding=None)
    np.testing.assert_allclose(recorded["coding_activity"][0][:, 0], plain[3], rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", 1),
        ("rate", 0.02),
        ("update", "own"),
        ("order", "simultaneous"),
        ("refresh", False),
        ("reduction", "mean"),
        ("target", "pooled"),
    ],
)
def test_the_fields_of_the_coding_reach_it(field, value):
    coding = Coding(**{field: value})
    levels, _, params = fused(interaction="none", coding=coding)
    usual, _, _ = fused(interaction="none")
    assert difference(levels, usual)[3] > 1e-4
    sound = TOKENS.mean(1, keepdims=True)
    expected = jax.jit(PredictiveCoding(coding).apply)({"params": params["coding"]}, PYRAMID[3], sound)
    np.testing.assert_allclose(levels[3], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", ["none", "sound", "inference"])
def test_every_parameter_of_the_coding_learns_with_the_defaults(stop):
    module = CASPNetFusion(interaction="none", coding=Coding(stop_gradient=stop))
    variables = variables_of(module, PYRAMID, TOKENS)

    def loss(params, tokens):
        return (module.apply({"params": params}, PYRAMID, tokens)[3] ** 3).sum()

    by_params, by_sound = jax.jit(jax.grad(loss, (0, 1)))(variables["params"], TOKENS)
    slopes = [float(jnp.abs(g).max()) for g in jax.tree.leaves(by_params)]
    assert len(slopes) == 10  # weights and biases of two maps up and three down
    assert (max(slopes) == 0) if stop == "inference" else (min(slopes) > 1e-4)
    assert (np.abs(by_sound).max() > 1e-4) == (stop == "none")


def test_bfloat16_stays_close():
    exact, close = (fused(runtime=Runtime(dtype=dtype))[0] for dtype in (jnp.float32, jnp.bfloat16))
    for a, b in zip(exact, close, strict=True):
        assert np.abs(a - b.astype(np.float32)).max() < 0.05 * np.abs(a).max()


def fusion(**fields):
    return build_part("fusion", {"name": "casp_net", **fields}, Runtime())


@pytest.mark.parametrize("field", ["interaction", "values", "audio_time", "sequence", "normalizer"])
def test_unknown_choices_are_refused(field):
    with pytest.raises(AvsalError, match=f"CASPNetFusion.{field} 'else' is not one of "):
        fused(**{field: "else"}, coding=None)
    with pytest.raises(AvsalError, match=f"fusion.{field} 'else' is not one of "):
        fusion(**{field: "else"}, coding=None)


@pytest.mark.parametrize("field", ["update", "order", "reduction", "stop_gradient", "target"])
def test_unknown_choices_of_the_coding_are_refused(field):
    with pytest.raises(AvsalError, match=f"coding.{field} 'else' is not one of "):
        Coding(**{field: "else"})
    with pytest.raises(AvsalError, match=f"fusion.coding.{field} 'else' is not one of "):
        fusion(coding={field: "else"})


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((5,), "fusion.stages must be a whole number from 1 to 4; got 5"),
        ((0,), "fusion.stages must be a whole number from 1 to 4; got 0"),
        ((-1,), "fusion.stages must be a whole number from 1 to 4; got -1"),
        ((1, 2, 3, 5), "fusion.stages must be a whole number from 1 to 4; got 5"),
        ((1, 2, 3, 4, 5), "fusion.stages must be a whole number from 1 to 4; got 5"),
        ((1, 1), r"fusion.stages names each stage once, as \(1, 2\); got \(1, 1\)"),
        ((), r"fusion.stages .*; got \(\)"),
        (34, "fusion.stages must be a tuple.*; got 34"),
        ("34", "fusion.stages must be a tuple.*; got '34'"),
    ],
    ids=str,
)
def test_stages_are_a_tuple_of_numbers_from_1_to_4_each_once(stages, message):
    with pytest.raises(AvsalError, match=message):
        variables_of(fusion(stages=stages), PYRAMID, TOKENS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 0}, "coding.layers must be a whole number from 1 to 8; got 0"),
        ({"iterations": 101}, "coding.iterations must be a whole number from 0 to 100; got 101"),
        ({"iterations": -1}, "coding.iterations must be a whole number from 0 to 100; got -1"),
    ],
)
def test_numbers_of_the_coding_have_ranges(fields, message):
    with pytest.raises(AvsalError, match=message):
        Coding(**fields)
    with pytest.raises(AvsalError, match=f"fusion.{message}"):
        fusion(coding=fields)


def test_the_coding_is_nested_data_or_none():
    assert fusion(coding={"iterations": 5}).coding == Coding(iterations=5)
    assert fusion(coding=None).coding is fusion(coding="none").coding is None
    with pytest.raises(AvsalError, match="fusion.coding has no field 'iteration' .did you mean 'iterations'"):
        fusion(coding={"iteration": 5})
