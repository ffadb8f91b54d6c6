"""Atrous pyramid pooling: rates that fit small maps, shapes, and what the fields mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.layers import Runtime
from avsal_jax.models.necks.aspp import ASPP, AtrousPyramidPooling, fitted_rates, parse_rates
from avsal_jax.models.network import initial_values

LEVELS = ((4, 8, 12, 6), (4, 4, 6, 8), (2, 2, 3, 10), (1, 1, 2, 12))  # T, H, W, C


def variables_of(module, *inputs):
    abstract = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))
    return initial_values({name: abstract[name] for name in ("params", "batch_stats")}, 0)


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
    plain, kept = (ASPP(channels=4, branch_channels=2, runtime=Runtime(remat=r)) for r in (False, True))
    variables = variables_of(plain, pyramid)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, variables_of(kept, pyramid))
    for a, b in zip(plain.apply(variables, pyramid), kept.apply(variables, pyramid), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_is_no_rate_is_told():
    assert parse_rates("6-12-18") == (6, 12, 18) and parse_rates(4) == (4,)
    for wrong in ("6,12", "0-2", "", "2--3", "-4", "1001"):
        with pytest.raises(AvsalError, match="whole numbers from 1 to 1000 joined by '-', as 6-12-18; got"):
            parse_rates(wrong)
    with pytest.raises(AvsalError, match="neck.temporal must be an odd number of frames; got 2"):
        jax.eval_shape(ASPP(temporal=2).init, jax.random.key(0), (jnp.ones((1, 2, 2, 2, 2)),))
