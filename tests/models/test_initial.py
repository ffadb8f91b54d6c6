"""What parameters start with: as their modules state, for both starts."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from avsal_jax.models.initial import Constant, Weights, fresh_variables
from avsal_jax.models.layers import Conv3D, ConvTranspose3D, Linear, Norm
from tests import needs


class Layers(nn.Module):
    """One of each, on [1, 2, 3, 4, 50]."""

    def setup(self):
        self.conv = Conv3D(300, (1, 3, 3), use_bias=True)
        self.transposed = ConvTranspose3D(300, (1, 4, 4), (1, 2, 2), (0, 1, 1))
        self.before_relu = Linear(300, relu=True)
        self.affine = Linear(300)
        self.norm = Norm()
        self.plain = nn.Dense(7)

    def __call__(self, x):
        outputs = (self.conv(x), self.transposed(x), self.before_relu(x), self.norm(x, False), self.plain(x))
        return outputs, self.affine(x)


def init(key):
    return Layers().init(key, np.zeros((1, 2, 3, 4, 50), np.float32))


def test_our_start_is_that_of_he():
    params = fresh_variables(init, 0)["params"]
    for name, leaf, gain, fan_in in (
        ("conv", "kernel", 2, 450),
        ("transposed", "kernel", 2, 800),
        ("before_relu", "kernel", 2, 50),
        ("affine", "projection", 1, 50),
    ):
        np.testing.assert_allclose(params[name][leaf].var(), gain / fan_in, rtol=0.05, err_msg=name)
    assert not params["conv"]["bias"].any() and (params["norm"]["batch"]["scale"] == 1).all()


@pytest.mark.parametrize(
    ("name", "leaf", "fan_in"),
    [("conv", "kernel", 450), ("conv", "bias", 450), ("transposed", "kernel", 300 * 16),
     ("before_relu", "kernel", 50), ("affine", "projection", 50), ("affine", "bias", 50)],
)  # fmt: skip
def test_the_public_start_is_torchs_uniform_distribution(name, leaf, fan_in):
    """torch.nn: kaiming_uniform_(a=sqrt(5)) is uniform in +-1 / sqrt(fan_in), and so are biases."""
    values = fresh_variables(init, 0, "torch")["params"][name][leaf]
    bound = 1 / np.sqrt(fan_in)
    assert np.abs(values).max() <= bound
    np.testing.assert_allclose(values.var(), bound**2 / 3, rtol=0.25)


def test_the_public_start_is_that_of_pytorch_layers():
    torch = needs.torch()
    torch.manual_seed(0)
    for layer, fan_in in ((torch.nn.Conv3d(50, 300, (1, 3, 3)), 450), (torch.nn.Linear(50, 300), 50),
                          (torch.nn.ConvTranspose3d(50, 300, (1, 4, 4)), 4800)):  # fmt: skip
        for values in layer.parameters():
            bound = 1 / np.sqrt(fan_in)
            largest = np.abs(values.detach().numpy()).max()
            assert 0.9 * bound < largest <= bound * (1 + 1e-6)  # float32 rounds the bound up or down


def test_parameters_of_flax_layers_are_drawn_by_flax():
    params = fresh_variables(init, 3)["params"]["plain"]
    expected = init(jax.random.key(3))["params"]["plain"]
    for name, values in params.items():
        np.testing.assert_array_equal(values, expected[name])


def test_a_seed_and_a_path_decide():
    first, repeat, other = (fresh_variables(init, seed)["params"]["conv"]["kernel"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, repeat)
    assert not np.array_equal(first, other)


def test_initializers_work_in_flax_too():
    key = jax.random.key(0)
    np.testing.assert_allclose(Weights(2.0)(key, (100, 300)).var(), 2 / 100, rtol=0.05)
    assert (Constant(1.0)(key, (3,)) == 1).all()
    assert init(key)["params"]["conv"]["kernel"].var() > 0
