"""Metrics against six public programs (tests/golden/metric_golden.json), by hand, and under jit."""

import functools
import json
import math
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from avsal_jax import metrics
from avsal_jax.errors import AvsalError

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = ["smooth", "uint8", "anti", "signed", "constant", "zero", "perfect", "sparse", "empty_fix", "one_fix"]
CASES += ["dense", "few_other", "lowres"]
pytestmark = pytest.mark.usefixtures("optimised")
MIT, PYSALIENCY = "MIT_matlab_octave7.3", "pysaliency"


@functools.cache
def oracle(name):
    return json.loads((GOLDEN / "metric_golden.json").read_text())["oracles"][name]["values"]


@functools.cache
def arrays():
    with np.load(GOLDEN / "metric_golden_inputs.npz") as stored:
        return dict(stored)


def case(name):
    """prediction, density, fixations, other-map"""
    return [arrays()[f"{name}.{part}"] for part in ("pred", "gt", "fix", "oth")]


def negatives(name):
    n = np.count_nonzero(case(name)[2])
    return arrays()[f"{name}.neg_uniform"], arrays()[f"{name}.neg_shuffled"][:, :n]


def check(value, expected, atol=1e-9):
    assert isinstance(value, np.float64)
    np.testing.assert_allclose(value, float(expected), rtol=0, atol=atol, equal_nan=True)


def test_the_golden_file_has_all_cases():
    assert set(oracle(MIT)) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_mit_metrics(name):
    p, g, f, other = case(name)
    uniform, shuffled = negatives(name)
    # imfilter(other, fspecial("gaussian", 13, 2), "replicate"), as the file says
    baseline = scipy.ndimage.gaussian_filter(other.astype(float), 2, mode="nearest", radius=6)
    expected = oracle(MIT)[name]
    check(metrics.cc(p, g), expected["CC"])
    check(metrics.sim(p, g), expected["SIM"])
    check(metrics.nss(p, f), expected["NSS"])
    check(metrics.kl(p, g), expected["KL"])
    check(metrics.information_gain(p, f, baseline), expected["IG_vs_other"])
    check(metrics.auc_judd(p, f), expected["AUC_Judd_nojitter"])
    check(metrics.auc_borji(p, f, uniform), expected["AUC_Borji_given"])
    check(metrics.auc_borji(p, f, uniform, step=0.001), expected["AUC_Borji_given_step001"])
    check(metrics.auc_shuffled(p, f, shuffled), expected["AUC_shuffled_given"])
    check(metrics.auc_shuffled(p, f, shuffled, step=0.001), expected["AUC_shuffled_given_step001"])


@pytest.mark.parametrize("name", CASES)
def test_mit_metrics_that_draw(name):
    p, _, f, other = case(name)
    expected = oracle(MIT)[name]

    def near(value, key):
        spread = float(expected[f"{key}_std"])
        check(value, expected[f"{key}_mean"], 1e-9 + (0 if math.isnan(spread) else 4 * spread))

    near(metrics.auc_judd(p, f, jitter=0), "AUC_Judd_jitter")
    near(metrics.auc_borji(p, f, metrics.sample_uniform_negatives(f, 1)), "AUC_Borji_100")
    near(metrics.auc_shuffled(p, f, metrics.sample_shuffled_negatives(f, other, 2)), "AUC_shuffled_100")


def test_noise_reaches_up_to_1e_7():
    """The noise of two pixels decides against a difference of 3% less than theirs, and not of 3% more."""
    fixated, other = sorted(np.random.default_rng(0).random(2))[::-1]
    assert np.random.default_rng(0).random(2)[0] == fixated
    for share, expected in ((0.97, 1.0), (1.03, 0.5)):
        p = np.array([[0.0, share * (fixated - other) * 1e-7]])
        check(metrics.auc_judd(p, np.array([[1, 0]]), jitter=0), expected)


@pytest.mark.parametrize("name", CASES)
def test_after_the_blur_of_stavis(name):
    """postprocessMap.m: over its maximum, 0 to 255, stretched, Gaussian sigma 2; a constant becomes noise."""
    p, g, f, _ = case(name)
    with np.errstate(invalid="ignore"):
        p = np.maximum(p, 0) / p.max()
        p = (p - p.min()) / (p.max() - p.min()) if np.ptp(p) > 0 else p
    p = scipy.ndimage.gaussian_filter(p, 2, mode="reflect", radius=6)
    expected = oracle(MIT)[name]
    noise = name == "constant"
    check(metrics.cc(p, g), math.nan if noise else expected["STAViS_post_CC"])
    check(metrics.sim(p, g), expected["STAViS_post_SIM"])
    check(metrics.nss(p, f), math.nan if noise else expected["STAViS_post_NSS"])
    check(metrics.auc_judd(p, f), expected["STAViS_post_AUC_Judd_nojitter"])


DEFINED = [name for name in CASES if name not in ("zero", "constant", "empty_fix", "lowres")]


@pytest.mark.parametrize("name", DEFINED)
def test_options_give_what_other_programs_give(name):
    p, g, f, _ = case(name)
    expected = oracle(PYSALIENCY)[name]
    check(metrics.nss(p, f, ddof=0), expected["NSS"])
    check(metrics.nss(p, f, ddof=0), oracle("herrlich10_via_DiffSal")[name]["NSS"])
    check(metrics.nss(p, f), oracle("unisal")[name]["NSS_torch_std_ddof1"])
    check(metrics.nss(p, f), oracle("vinet_loss")[name]["NSS"])
    check(metrics.sim(p, g, min_max=False), expected["SIM"])
    check(metrics.sim(p, g, min_max=False), oracle("unisal")[name]["SIM_of_sum_normalised"])
    check(metrics.sim(p, g), oracle("herrlich10_via_DiffSal")[name]["SIM"])
    check(metrics.kl(p, g, shift=True, eps=2.2204e-16), expected["KL_MIT"])
    check(metrics.auc_judd(p, f, rule="distinct"), expected["AUC_unfixated_fixthresholds"])
    check(metrics.auc_judd(p, f, rule="rank"), expected["AUC_uniform_allthresholds"])
    if name != "uint8":  # their rounding to four digits is worse where fixations tie
        check(metrics.auc_judd(p, f, rule="distinct"), oracle("unisal")[name]["AUC_Judd"], 5e-5)


@pytest.mark.parametrize("name", ["constant", "zero"])
def test_options_on_constant_maps(name):
    p, g, f, _ = case(name)
    for rule, key in (("distinct", "AUC_unfixated_fixthresholds"), ("rank", "AUC_uniform_allthresholds")):
        check(metrics.auc_judd(p, f, rule=rule), oracle(PYSALIENCY)[name][key])
    if name == "constant":
        check(metrics.sim(p, g, min_max=False), oracle(PYSALIENCY)[name]["SIM"])


def test_thresholds_are_those_of_matlab_to_the_last_bit():
    """0:.1:1 holds 1 - 4 x .1 = .6, and 3 x .1 > .3: of two 8-bit-like levels one counts and one does not."""
    p = np.zeros((2, 5))
    p[0] = [1, 153 / 255, 0.3, 0.3, 0]
    f = np.zeros((2, 5), np.uint8)
    f[0, 1] = 1
    # hit .6 and miss 1: both pass 0 to .6; the miss alone .7 to 1
    check(metrics.auc_shuffled(p, f, np.array([[[0, 0]]])), 0)
    # hit .6, misses 1 and .6: at .6 all pass, above one of two: area under (0,0) (.5,0) (1,1)
    check(metrics.auc_shuffled(p, f, np.array([[[0, 0], [0, 1]]])), 0.25)
    f[0, 0] = 1
    # hits 1 and .6, misses .3 and .6: (0,0) (0,.5) (.5,1) (1,1), the last but one from the threshold .6 on
    check(metrics.auc_shuffled(p, f, np.array([[[0, 2], [0, 1]]])), 0.875)
    # hits 1 and .3, misses .3 and 0: .3 is below 3 x .1, so it passes .2 only: (.5,1) after (0,.5)
    f[0] = [1, 0, 1, 0, 0]
    check(metrics.auc_shuffled(p, f, np.array([[[0, 3], [0, 4]]])), 0.875)
    # hits 1 and .6 against .6000000000000001 = 6 x .1, which numpy and Octave have as the threshold
    p[1, 0] = 6 * 0.1
    f[0] = [1, 1, 0, 0, 0]
    check(metrics.auc_shuffled(p, f, np.array([[[1, 0]]])), 0.75)


def random_maps(shape, rate=0.005):
    rng = np.random.default_rng(0)
    f = rng.random(shape) < rate
    g = scipy.ndimage.gaussian_filter(f.astype(float), (*[0] * (len(shape) - 2), 8, 8))
    return g + 0.3 * g.max() * rng.random(shape), g, f


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_jitted_float32_agrees_with_float64(dtype):
    p, g, f = random_maps((3, 224, 384))
    p, g = (np.rint(m / m.max() * 255) if dtype == np.uint8 else m for m in (p, g))
    p, g = p.astype(dtype), g.astype(dtype)
    for run, truth in (
        (metrics.cc, g),
        (metrics.sim, g),
        (functools.partial(metrics.sim, min_max=False), g),
        (metrics.kl, g),
        (functools.partial(metrics.kl, shift=True), g),
        (metrics.nss, f),
        (functools.partial(metrics.nss, ddof=0), f),
    ):
        value = jax.jit(run)(jnp.asarray(p), jnp.asarray(truth))
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, run(p, truth), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name != "lowres"])
def test_jax_has_the_edge_cases_of_matlab(name):
    p, g, f, _ = case(name)
    expected = oracle(MIT)[name]
    for run, truth, key in (
        (metrics.cc, g, "CC"),
        (metrics.sim, g, "SIM"),
        (metrics.nss, f, "NSS"),
        (metrics.kl, g, "KL"),
    ):
        value = jax.jit(run)(jnp.asarray(p), jnp.asarray(truth))
        np.testing.assert_allclose(value, float(expected[key]), rtol=1e-4, atol=1e-4, equal_nan=True)


def test_constant_up_to_the_rounding_of_its_type():
    rng = np.random.default_rng(0)
    _, g, f, _ = case("smooth")
    for dtype in (np.float64, np.float32, np.float16):
        p = (0.3 * (1 + 4 * np.finfo(dtype).eps * rng.random(g.shape))).astype(dtype)
        assert np.ptp(p) > 0
        assert np.isnan(
            [metrics.cc(p, g), metrics.sim(p, g), metrics.nss(p, f), metrics.auc_judd(p, f)]
        ).all()
        assert np.isnan(metrics.cc(jnp.asarray(p, jnp.bfloat16), jnp.asarray(g)))
    p = 0.3 * (1 + 1e-9 * g)  # far above the rounding of float64
    assert metrics.cc(p, g) == pytest.approx(1, abs=1e-6)
    assert metrics.cc(1e-20 * g, g) == pytest.approx(1)
    assert np.isnan(metrics.cc(1e9 * (1 + 4e-16 * rng.random(g.shape)), g))


def test_a_batch_equals_its_frames_and_inputs_are_unchanged():
    p, g, f = random_maps((2, 3, 18, 25), rate=0.02)
    low = p[..., ::2, ::3].copy()
    before = [m.copy() for m in (p, g, low)]
    samples = [[metrics.sample_uniform_negatives(m, 7, splits=4) for m in row] for row in f]
    longest = max(m.shape[1] for row in samples for m in row)
    padded = np.array(
        [
            [np.pad(m, ((0, 0), (0, longest - m.shape[1]), (0, 0)), constant_values=-1) for m in r]
            for r in samples
        ]
    )
    for maps in (p, low):
        for run, *truth in (
            (metrics.cc, g),
            (metrics.sim, g),
            (metrics.kl, g),
            (metrics.nss, f),
            (metrics.auc_judd, f),
            (metrics.information_gain, f, p),
            (metrics.auc_borji, f, padded),
            (metrics.auc_shuffled, f, padded),
        ):
            scores = run(maps, *truth)
            assert scores.shape == (2, 3) and scores.dtype == np.float64 and np.isfinite(scores).all()
            for i in np.ndindex(2, 3):
                assert scores[i] == run(maps[i], *(t[i] for t in truth))
    assert metrics.auc_borji(p[0, 0], f[0, 0], samples[0][0]) == metrics.auc_borji(
        p[0, 0], f[0, 0], padded[0, 0]
    )
    for now, then in zip((p, g, low), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_maps_with_nan_or_infinities_have_no_value():
    p, g, f, _ = case("smooth")
    uniform, _ = negatives("smooth")
    for bad in (np.nan, np.inf):
        q = p.copy()
        q[3, 4] = bad
        values = [metrics.cc(q, g), metrics.sim(q, g), metrics.kl(q, g), metrics.nss(q, f)]
        values += [
            metrics.auc_judd(q, f),
            metrics.auc_borji(q, f, uniform),
            metrics.information_gain(q, f, p),
        ]
        if bad == np.inf:  # KL sees a map that is inf/inf there too
            assert np.isnan(values[2])
        assert np.isnan(values).all()


def test_imresize():
    # By hand, from MATLAB's documented algorithm: half of a ramp is a ramp inside; constants are unchanged.
    ramp = np.broadcast_to(np.arange(16.0), (4, 16))
    np.testing.assert_allclose(metrics.imresize(ramp, 4, 8)[0, 2:6], 2 * np.arange(2, 6) + 0.5, atol=1e-12)
    np.testing.assert_allclose(metrics.imresize(np.full((3, 5), 0.7), 7, 2), 0.7, atol=1e-15)
    # Pillow's bicubic filter is the same, but for the edges
    p = case("smooth")[0]
    expected = np.asarray(Image.fromarray(p.astype(np.float32)).resize((13, 9), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(metrics.imresize(p, 9, 13)[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-6)
    # an impulse, doubled: cubic kernel with a = -.5 at distances .25, .75, 1.25, 1.75
    impulse = np.zeros((1, 9))
    impulse[0, 4] = 1
    near = [0.8671875, 0.2265625, -0.0703125, -0.0234375]
    np.testing.assert_allclose(metrics.imresize(impulse, 1, 18)[0, 9:13], near, atol=1e-15)
    assert metrics.imresize(np.zeros((2, 3, 4), np.uint8), 5, 6).shape == (2, 5, 6)
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(metrics.imresize(image, 3, 4), image)


def test_negatives_are_drawn_as_in_matlab():
    f, other = np.zeros((6, 9)), np.zeros((6, 9))
    f[2, 3:6] = 1
    other[4, :8] = 1
    uniform = metrics.sample_uniform_negatives(f, np.random.default_rng(0))
    assert uniform.shape == (100, 3, 2)
    assert set(map(tuple, uniform.reshape(-1, 2).tolist())) == set(np.ndindex(6, 9))
    shuffled = metrics.sample_shuffled_negatives(f, other, np.random.default_rng(0))
    assert shuffled.shape == (100, 3, 2)
    assert all(len(set(map(tuple, split.tolist()))) == 3 for split in shuffled)
    assert set(map(tuple, shuffled.reshape(-1, 2).tolist())) == set(map(tuple, np.argwhere(other).tolist()))
    assert metrics.sample_shuffled_negatives(other, f, 0, splits=5).shape == (5, 3, 2)
    empty = metrics.sample_shuffled_negatives(f, 0 * f, 0)
    assert empty.shape == (100, 0, 2)
    assert np.isnan(metrics.auc_shuffled(np.arange(54.0).reshape(6, 9), f, empty))


def test_numpy_needs_no_jax():
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "import numpy as np; from avsal_jax import metrics as m\n"
        "p = np.arange(12.0).reshape(3, 4); f = p > 9; n = m.sample_uniform_negatives(f, 0)\n"
        "print(m.cc(p, p), m.auc_judd(p, f) > .9, m.auc_borji(p, f, n) > .5, m.kl(p, p) < 1e-9)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    value, *rest = process.stdout.split()
    assert float(value) == pytest.approx(1) and rest == ["True"] * 3


A = np.zeros((4, 5))
F = np.eye(4, 5)
N = np.zeros((3, 2, 2), int)
MISTAKES = {
    "density must be maps .* got shape .5,.": lambda: metrics.cc(A, A[0]),
    "prediction must be maps .* got shape .0, 5.": lambda: metrics.cc(A[:0], A),
    "prediction must hold real numbers .* complex128": lambda: metrics.sim(A + 1j, A),
    "prediction .2, 4, 5. and density .4, 5. must have the same axes": lambda: metrics.kl(
        np.stack([A, A]), A
    ),
    "must have the same shape .resize": lambda: metrics.cc(jnp.zeros((4, 4)), jnp.zeros((4, 5))),
    "density must hold real numbers .* complex64": lambda: metrics.cc(jnp.asarray(A), jnp.asarray(A) * 1j),
    "prediction is traced by jax": lambda: jax.jit(lambda p: metrics.auc_judd(p, F))(jnp.asarray(A)),
    "give the fixation map": lambda: metrics.nss(A, F * 0.5),
    "ddof of nss must be 0 or 1; got 2": lambda: metrics.nss(A, F, ddof=2),
    "eps of kl must be a positive number": lambda: metrics.kl(A, A, eps=0),
    "baseline .4, 5. and fixations .2, 4, 5. must have the same axes": lambda: metrics.information_gain(
        np.zeros((2, 4, 5)), np.zeros((2, 4, 5)), A
    ),
    "rule 'best' of auc_judd is not one of mit, distinct, rank": lambda: metrics.auc_judd(A, F, rule="best"),
    "need a numpy Generator or a seed from 0 on; got -1": lambda: metrics.auc_judd(A, F, jitter=-1),
    "step of the thresholds must be from 0.0001 to 1; got 0": lambda: metrics.auc_borji(A, F, N, step=0),
    "negatives must be integers .splits, N, 2.; got float64": lambda: metrics.auc_borji(A, F, N * 0.5),
    "negatives must be integers .2, splits, N, 2.; got int64 .3, 2, 2.": lambda: metrics.auc_borji(
        np.stack([A, A]), np.stack([F, F]), N
    ),
    "inside the map of 4x5; got .0, 5.": lambda: metrics.auc_shuffled(A, F, N + np.array([0, 5])),
    "inside the map of 4x5; got .-1, 0.": lambda: metrics.auc_shuffled(A, F, N + np.array([-1, 0])),
    "one map .H, W. at a time": lambda: metrics.sample_uniform_negatives(np.stack([F, F]), 0),
    "splits must be a whole number from 1 to 100000; got 0": lambda: metrics.sample_uniform_negatives(
        F, 0, splits=0
    ),
    "fixations .4, 5. and other .4, 4. must have": lambda: metrics.sample_shuffled_negatives(F, F[:, :4], 0),
    "height must be a whole number from 1 to 16384; got 0": lambda: metrics.imresize(A, 0, 5),
    "width must be a whole number from 1 to 16384; got 2.5": lambda: metrics.imresize(A, 4, 2.5),
    "a mean takes real numbers; got <U1": lambda: metrics.MeanState().add("a"),
    "finite numbers and NaN": lambda: metrics.MeanState().add([1, np.inf]),
    "a stored mean has the fields dropped, shift": lambda: metrics.MeanState.from_json({"total": "1"}),
    "shift of a stored mean must be from 0 to 1074": lambda: metrics.MeanState.from_json(stored(shift=10**9)),
    "weight of a stored mean must be": lambda: metrics.MeanState.from_json(stored(weight=True)),
    "total of a stored mean must be hexadecimal": lambda: metrics.MeanState.from_json(stored(total="1e999x")),
}


def stored(**changes):
    return metrics.MeanState().add([0.5]).to_json() | changes


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_clear_line(message):
    with pytest.raises(AvsalError, match=message) as caught:
        MISTAKES[message]()
    assert "\n" not in str(caught.value)


def test_means_do_not_depend_on_grouping():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(3000) * 10.0 ** rng.integers(-18, 18, 3000)
    values[::50] = np.nan
    reference = metrics.MeanState().add(values)
    finite = values[~np.isnan(values)]
    assert (reference.weight, reference.dropped) == (2940, 60)
    assert reference.mean() == pytest.approx(math.fsum(finite) / 2940, rel=1e-15)
    parts = metrics.MeanState()
    for piece in np.array_split(rng.permutation(values), 17):
        state = metrics.MeanState().add(piece)
        parts = metrics.MeanState.from_json(json.loads(json.dumps(state.to_json()))).merge(parts)
    assert parts == reference and parts.mean() == reference.mean()
    one_by_one = functools.reduce(metrics.MeanState.add, values[::-1], metrics.MeanState())
    assert one_by_one == reference
    assert np.add.reduce(finite) != np.add.reduce(finite[::-1])  # plain sums do depend on it


def test_means_of_little_and_of_nothing():
    assert math.isnan(metrics.MeanState().mean())
    assert math.isnan(metrics.MeanState().add([np.nan, np.nan]).mean())
    assert metrics.MeanState().add(np.float32(0.25)).add([[0.5], [0.75]]).mean() == 0.5
    assert metrics.MeanState().add([0.1] * 10).mean() == 0.1
    tiny = metrics.MeanState().add([5e-324, 1e308, -1e308])
    assert metrics.MeanState.from_json(tiny.to_json()) == tiny and tiny.total == 5e-324
