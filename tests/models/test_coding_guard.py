"""Predictive coding with kernels that are too large: what the printed rule does, and the bounded step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.models.fusion.predictive_coding import PredictiveCoding, rate_limit
from avsal_jax.models.initial import fresh_variables
from avsal_jax.ops.convolution import conv_transpose3d
from avsal_jax.ops.predictive_coding import Coding, map_norm

SIZE, CHANNELS = (2, 4, 6), 8


def stage(coding, top_down=1.0, seed=0):
    """A picture, the module with fresh weights, whose top-down kernels are multiplied, and its result."""
    rng = np.random.default_rng(seed)
    vision = rng.standard_normal((1, *SIZE, CHANNELS)).astype(np.float32)
    sound = rng.standard_normal((1, 1, CHANNELS)).astype(np.float32)
    module = PredictiveCoding(coding)
    params = fresh_variables(lambda key: module.init(key, vision, sound), seed)["params"]
    params = {
        name: {**kernel, "projection": top_down * kernel["projection"]} if name.startswith("down") else kernel
        for name, kernel in params.items()
    }
    apply = jax.jit(functools.partial(module.apply, mutable="intermediates"))
    result, state = apply({"params": params}, vision, sound)
    return vision, params, np.asarray(result), state["intermediates"]


def largest(result, vision):
    return np.abs(result).max() / np.abs(vision).max()


@pytest.mark.parametrize("order", ["top_down", "simultaneous"])
@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_bounded_step_keeps_activities_of_the_size_of_the_picture(order, refresh, seed):
    """20 iterations with kernels of three times their start: the printed rule leaves every bound."""
    coding = Coding(iterations=20, order=order, refresh=refresh)
    vision, params, printed, _ = stage(coding, top_down=3.0, seed=seed)
    assert not largest(printed, vision) < 1e4
    limit = rate_limit(params, coding)
    assert limit.value == 0.1 > limit.bound and "fusion.coding.step=bounded" in limit.advice
    vision, _, bounded, features = stage(dataclasses.replace(coding, step="bounded"), top_down=3.0, seed=seed)
    assert largest(bounded, vision) < 10
    errors = np.asarray(features["coding_square"][0][0])
    assert errors[-1].sum() < errors[0].sum()


@pytest.mark.parametrize("order", ["top_down", "simultaneous"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_within_the_bound_it_is_the_printed_rule(order, reduction):
    coding = Coding(iterations=20, order=order, reduction=reduction, rate=0.05)
    vision, params, printed, _ = stage(coding, top_down=0.3)
    limit = rate_limit(params, coding)
    assert limit.value < limit.bound
    _, _, bounded, _ = stage(dataclasses.replace(coding, step="bounded"), top_down=0.3)
    np.testing.assert_allclose(bounded, printed, rtol=0, atol=1e-6 * np.abs(printed).max())
    assert np.abs(printed - vision).max() > (1e-3 if reduction == "sum" else 1e-6)


def test_the_norm_is_the_largest_singular_value():
    """Against NumPy, on the dense matrix of a convolution with a bias."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 3, 2, 3)).astype(np.float32)

    def function(mu):
        return conv_transpose3d(mu, kernel, padding=(1, 1, 1)) + 5.0

    shape = (1, 2, 3, 4, 2)
    basis = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
    columns = jax.vmap(lambda x: function(x) - function(jnp.zeros(shape)))(basis)
    exact = np.linalg.svd(np.asarray(columns).reshape(len(basis), -1))[1].max()
    estimate = float(map_norm(function, jnp.zeros(shape), iterations=12))
    assert 0.9 * exact < estimate <= exact * (1 + 1e-5)
    assert float(map_norm(function, jnp.zeros(shape), iterations=200)) == pytest.approx(exact, rel=1e-3)


def test_the_bound_is_that_of_the_module():
    """1 / (1 + s^2), by hand: the topmost activity has no error of its own, so 1 / s^2."""
    bounds = Coding(layers=2).rate_bounds([2.0, 3.0, 4.0], [10, 20, 30])
    np.testing.assert_allclose(bounds, [1 / 5, 1 / 10, 1 / 16])
    halves = Coding(layers=2, order="simultaneous").rate_bounds([2.0, 3.0, 4.0], [10, 20, 30])
    np.testing.assert_allclose(halves, np.array(bounds) / 2)
    means = Coding(layers=1, reduction="mean").rate_bounds([2.0, 3.0], [10, 20])
    np.testing.assert_allclose(means, [1 / (1 / 20 + 4 / 10), 20 / 9])


def test_a_fusion_without_coding_has_no_limit():
    assert CASPNetFusion(coding=None).limits({}) == {}


def test_squares_fall_while_relative_errors_may_rise():
    coding = Coding(iterations=5, refresh=False)
    _, _, _, features = stage(coding, top_down=0.3)
    square, relative, norm = (
        np.asarray(features[f"coding_{name}"][0][0]) for name in ("square", "error", "norm")
    )
    np.testing.assert_allclose(square, relative * np.square(norm).sum(-1, keepdims=True), rtol=1e-5)
    assert (np.diff(square.sum(-1)) < 0).all()
