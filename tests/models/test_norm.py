"""Running statistics of batch norm: Flax's rule, and torch's."""

import jax
import numpy as np
import pytest

from avsal_jax.models.layers import Norm, Runtime

MOMENTUM = 0.9  # of Flax; torch calls it 0.1
RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(3, 2, (8, 1, 1, 3, 5)).astype(np.float32) for _ in range(3)]  # 24 values of a channel


def running(runtime, train=True):
    """Returns running mean and variance after the batches, and the last output."""
    norm = Norm(momentum=MOMENTUM, runtime=runtime)
    variables = norm.init(jax.random.key(0), BATCHES[0], True)
    for batch in BATCHES:
        y, changes = norm.apply(variables, batch, train, mutable="batch_stats")
        variables = variables | changes
    stats = variables["batch_stats"]["batch"]
    return np.asarray(stats["mean"]), np.asarray(stats["var"]), np.asarray(y)


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_running_variance_by_hand(unbiased):
    mean, variance = np.zeros(5), np.ones(5)
    for batch in BATCHES:
        values = batch.reshape(-1, 5)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * values.mean(0)
        variance = MOMENTUM * variance + (1 - MOMENTUM) * values.var(0, ddof=int(unbiased))
    result = running(Runtime(unbiased_variance=unbiased))
    np.testing.assert_allclose(result[0], mean, rtol=1e-5)
    np.testing.assert_allclose(result[1], variance, rtol=1e-5)
    np.testing.assert_array_equal(result[2], running(Runtime())[2])  # outputs in training are the same


def test_the_running_variance_is_that_of_torch():
    torch = pytest.importorskip("torch")
    norm = torch.nn.BatchNorm1d(5, momentum=1 - MOMENTUM)
    for batch in BATCHES:
        norm(torch.from_numpy(batch.reshape(-1, 5)))
    _, variance, _ = running(Runtime(unbiased_variance=True))
    np.testing.assert_allclose(variance, norm.running_var.numpy(), rtol=1e-5)
    assert np.abs(running(Runtime())[1] / norm.running_var.numpy() - 1).max() > 0.02


@pytest.mark.parametrize(("runtime", "train"), [(Runtime(frozen_norm=True), True), (Runtime(), False)])
def test_statistics_that_are_frozen_do_not_move(runtime, train):
    runtime = Runtime(frozen_norm=runtime.frozen_norm, unbiased_variance=True)
    mean, variance, _ = running(runtime, train)
    assert (mean == 0).all() and (variance == 1).all()
