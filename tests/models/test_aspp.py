"""Atrous pyramid pooling: rates that fit small maps, shapes, and what the fields mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.layers import Runtime
from avsal_jax.models.necks.aspp import ASPP, AtrousPyramidPooling, fitted_rates
from avsal_jax.models.slots import build_part

LEVELS = ((4, 8, 12, 6), (4, 4, 6, 8), (2, 2, 3, 10), (1, 1, 2, 12))  # T, H, W, C


def variables_of(module, *inputs):
    return fresh_variables(lambda key: module.init(key, *inputs), 0)


@pytest.mark.parametrize(
    ("size", "rates"),
    [
        ((7, 12), (1, 2, 3)),
        ((14, 24), (2, 4, 6)),
        ((28, 48), (4, 9, 13)),
        ((56, 96), (6, 12, 18)),
        ((2, 3), (1, 1, 1)),
    ],
)
def test_rates_shrink_with_the_map(size, rates):
    assert fitted_rates((6, 12, 18), size) == rates


def taps_that_learn(fit):
    """Which of the nine taps of each rate get a gradient on a 7x12 map."""
    module = AtrousPyramidPooling(3, 2, fit=fit)
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 12, 4)).astype(np.float32)
    variables = variables_of(module, x)

    def loss(params):
        return (module.apply({**variables, "params": params}, x) ** 3).sum()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    taps = [gradient[f"atrous{i}"]["conv"]["kernel"] for i in (1, 2, 3)]
    return [int((np.abs(tap).sum((0, 3, 4)) > 0).sum()) for tap in taps]


def test_on_small_maps_every_tap_learns_and_without_fitting_most_do_not():
    assert taps_that_learn(True) == [9, 9, 9]
    assert taps_that_learn(False) == [9, 1, 1]  # rate 6 still meets the map's edges, 12 and 18 only padding


def test_every_level_gets_the_same_channels():
    pyramid = tuple(np.ones((2, *shape), np.float32) for shape in LEVELS)
    module = ASPP(channels=8, branch_channels=4, width=0.5)
    variables = variables_of(module, pyramid)
    out = jax.jit(module.apply)(variables, pyramid)
    assert [level.shape for level in out] == [(2, *shape[:3], 4) for shape in LEVELS]
    assert set(variables["params"]) == {"level1", "level2", "level3", "level4"}
    assert variables["params"]["level1"]["projection"]["conv"]["kernel"].shape == (1, 1, 1, 10, 4)


def test_rates_temporal_kernels_and_the_pooled_branch_are_fields():
    x = jnp.ones((1, 3, 4, 4, 5))
    for fields, channels, kernel in (
        ({}, 10, (1, 3, 3, 5, 2)),
        ({"time": 3}, 10, (3, 3, 3, 5, 2)),
        ({"rates": (2,), "pooling": False}, 4, (1, 3, 3, 5, 2)),
    ):
        params = variables_of(AtrousPyramidPooling(3, 2, **fields), x)["params"]
        assert params["projection"]["conv"]["kernel"].shape == (1, 1, 1, channels, 3)
        assert params["atrous1"]["conv"]["kernel"].shape == kernel


def test_one_rate_is_a_dilated_convolution_and_the_mean_is_of_the_whole_clip():
    x = np.zeros((1, 3, 9, 9, 1), np.float32)
    x[0, 1, 4, 4] = 1
    module = AtrousPyramidPooling(1, 1, rates=(2,), pooling=False)
    variables = variables_of(module, x)
    variables["params"]["point"]["conv"]["kernel"][:] = 0
    variables["params"]["atrous1"]["conv"]["kernel"][:] = np.arange(1, 10).reshape(1, 3, 3, 1, 1)
    variables["params"]["projection"]["conv"]["kernel"][:] = 1
    out = np.asarray(module.apply(variables, x))[0, :, :, :, 0] * (1 + 1e-3)  # two norms of variance 1
    expected = np.zeros((3, 9, 9))
    for number, (i, j) in enumerate(np.ndindex(3, 3)):
        expected[1, 4 - 2 * (i - 1), 4 - 2 * (j - 1)] = number + 1
    np.testing.assert_allclose(out, expected, atol=1e-5)
    pooling = AtrousPyramidPooling(1, 1, rates=(1,))
    near = variables_of(pooling, x)
    for name in ("point", "atrous1"):
        near["params"][name]["conv"]["kernel"][:] = 0
    for name in ("pooled", "projection"):
        near["params"][name]["conv"]["kernel"][:] = 1
    np.testing.assert_allclose(pooling.apply(near, x), np.full(x.shape, 1 / x.size / (1 + 1e-3)), rtol=1e-5)


def test_remat_changes_nothing():
    pyramid = tuple(np.ones((1, *shape), np.float32) for shape in LEVELS)
    plain, remat = (ASPP(channels=4, branch_channels=2, runtime=Runtime(remat=r)) for r in (False, True))
    variables = variables_of(plain, pyramid)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, variables_of(remat, pyramid))
    results = [jax.jit(module.apply)(variables, pyramid) for module in (plain, remat)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def neck(**fields):
    return build_part("neck", {"name": "aspp", **fields}, Runtime())


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0, 2), "neck.rates must be a whole number from 1 to 1000; got 0"),
        ((2, -3), "neck.rates must be a whole number from 1 to 1000; got -3"),
        ((1001,), "neck.rates must be a whole number from 1 to 1000; got 1001"),
        ((2.5,), "neck.rates must be a whole number from 1 to 1000; got 2.5"),
        (("6", "12"), "neck.rates must be a whole number from 1 to 1000; got '6'"),
        ("6-12-18", "neck.rates must be a tuple.*; got '6-12-18'"),
        (4, "neck.rates must be a tuple.*; got 4"),
    ],
    ids=str,
)
def test_rates_are_a_tuple_of_numbers_in_range(rates, message):
    assert neck(rates=[6, 12, 18]) == neck(rates=(6, 12, 18)) and neck(rates=(4,)).rates == (4,)
    with pytest.raises(AvsalError, match=message):
        neck(rates=rates)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rates": ()}, r"neck.rates names at least one dilation, as \(6, 12, 18\); got \(\)"),
        ({"temporal": 2}, "neck.temporal must be an odd number of frames; got 2"),
    ],
)
def test_fields_that_make_no_pooling_are_refused(fields, message):
    with pytest.raises(AvsalError, match=message):
        jax.eval_shape(ASPP(**fields).init, jax.random.key(0), (jnp.ones((1, 2, 2, 2, 2)),))
