"""Every lowering equals one 3-D convolution by XLA, in value and in both gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from avsal_jax.ops.convolution import conv3d, conv_transpose3d

# kernel, stride, padding, dilation; the input is [2, 6, 9, 11, 3] unless the case says otherwise.
CASES = {
    "pointwise": ((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    "spatial 7 stride 2": ((1, 7, 7), (1, 2, 2), (0, 3, 3), (1, 1, 1)),
    "spatial 3": ((1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
    "spatial dilated": ((1, 3, 3), (1, 1, 1), (0, 2, 2), (1, 2, 2)),
    "spatial, time skipped": ((1, 3, 3), (2, 1, 1), (0, 1, 1), (1, 1, 1)),
    "temporal 7 stride 2": ((7, 1, 1), (2, 1, 1), (3, 0, 0), (1, 1, 1)),
    "temporal 3": ((3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1)),
    "temporal, stride = kernel": ((3, 1, 1), (3, 1, 1), (0, 0, 0), (1, 1, 1)),
    "temporal, stride = kernel, padded": ((3, 1, 1), (3, 1, 1), (1, 0, 0), (1, 1, 1)),
    "temporal, shorter than its stride": ((2, 1, 1), (3, 1, 1), ((1, 2), 0, 0), (1, 1, 1)),
    "temporal, even, asymmetric pads": ((4, 1, 1), (2, 1, 1), ((2, 0), 0, 0), (1, 1, 1)),
    "pointwise, time skipped": ((1, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1)),
    "temporal, spatial stride": ((3, 1, 1), (1, 2, 2), (1, 0, 0), (1, 1, 1)),
    "pointwise, spatial pad": ((1, 1, 1), (1, 1, 1), (0, 1, 2), (1, 1, 1)),
    "full 3": ((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "full, stride = kernel in time": ((3, 3, 3), (3, 1, 1), (0, 1, 1), (1, 1, 1)),
    "full, even kernel": ((2, 4, 3), (2, 2, 1), (0, 1, 1), (1, 1, 1)),
    "full, dilated, strided": ((3, 3, 3), (2, 2, 2), (1, 3, 2), (1, 3, 2)),
    "asymmetric pads": ((2, 3, 3), (1, 1, 1), ((1, 0), (0, 2), (1, 1)), (1, 1, 1)),
}


def reference(x, kernel, stride, padding, dilation):
    pads = [(p, p) if isinstance(p, int) else p for p in padding]
    return lax.conv_general_dilated(
        x, kernel, stride, pads, rhs_dilation=dilation, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def arrays(kernel_size, channels=(3, 5)):
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.standard_normal((2, 6, 9, 11, channels[0])), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((*kernel_size, *channels)), jnp.float32)
    return x, kernel


def close(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def value_and_gradients(conv, size):
    """Returns the result for the arrays of a case, and both gradients of its weighted sum, by one program."""

    def loss(x, kernel):
        y = conv(x, kernel)
        weight = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return (y * weight).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(*arrays(size))
    return y, *gradients


@functools.cache
def expected(case):
    size, *geometry = CASES[case]
    return value_and_gradients(lambda x, k: reference(x, k, *geometry), size)


@pytest.mark.parametrize("lowering", ["auto", "folded", "direct"])
@pytest.mark.parametrize("case", CASES)
def test_conv3d_equals_xla_in_value_and_gradients(case, lowering):
    size, stride, padding, dilation = CASES[case]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "lowering": lowering}
    result = value_and_gradients(lambda x, k: conv3d(x, k, **settings), size)
    for output, reference_output in zip(result, expected(case), strict=True):
        close(output, reference_output)


WIDE_CASES = {
    "spatial": ((1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
    "spatial, strided": ((1, 5, 4), (2, 3, 2), (0, 2, 1), (1, 1, 1)),
    "spatial, dilated": ((1, 2, 3), (1, 2, 1), (0, 2, 2), (1, 3, 2)),
    "full": ((3, 2, 3), (2, 1, 2), (1, 1, 0), (1, 1, 1)),
}


@pytest.mark.parametrize("channels", [(63, 2), (64, 2)], ids=["narrow", "wide"])
@pytest.mark.parametrize("case", WIDE_CASES)
def test_kernel_gradient_on_both_sides_of_the_width_where_its_form_changes(case, channels):
    size, stride, padding, dilation = WIDE_CASES[case]
    x, kernel = arrays(size, channels)

    def gradient(conv):
        return jax.jit(jax.grad(lambda k: (conv(x, k) ** 2).sum()))(kernel)

    result = gradient(lambda x, k: conv3d(x, k, stride=stride, padding=padding, dilation=dilation))
    close(result, gradient(lambda x, k: reference(x, k, stride, padding, dilation)))


def test_second_derivatives():
    """Unrolled inference differentiates through gradients, so the custom rule must be differentiable."""
    x, kernel = arrays((3, 3, 3), (2, 2))

    def curvature(conv):
        def inner(k):
            return jax.grad(lambda x: (conv(x, k) ** 3).sum())(x).sum()

        return jax.jit(jax.grad(inner))(kernel)

    close(
        curvature(lambda x, k: conv3d(x, k, padding=(1, 1, 1))),
        curvature(lambda x, k: reference(x, k, (1, 1, 1), (1, 1, 1), (1, 1, 1))),
    )


def test_vmap_over_clips():
    x, kernel = arrays((3, 3, 3))
    clips = jnp.stack([x, 2 * x])
    result = jax.jit(jax.vmap(lambda clip: conv3d(clip, kernel, padding=(1, 1, 1))))(clips)
    close(result[1], 2 * conv3d(x, kernel, padding=(1, 1, 1)))


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 3), (1, 1, 1)])
@pytest.mark.parametrize("size", [(1, 4, 4), (3, 3, 4)])
def test_transposed_convolution_is_the_transpose_of_the_convolution(size, stride):
    padding = (0 if size[0] == 1 else 1, 1, 1)
    rng = np.random.default_rng(5)
    x = jnp.asarray(rng.standard_normal((2, 4, 5, 7, 3)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((*size, 3, 2)), jnp.float32)
    result = jax.jit(lambda: conv_transpose3d(x, kernel, stride=stride, padding=padding))()
    assert result.shape[1:4] == tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[1:4], stride, padding, size, strict=True)
    )
    # Its adjoint: the gradient of a convolution from the output's shape with the same kernel.
    back = jnp.swapaxes(kernel, 3, 4)

    def adjoint(shape):
        _, pull = jax.vjp(lambda y: reference(y, back, stride, padding, (1, 1, 1)), jnp.zeros(shape))
        return pull(x)[0]

    close(result, jax.jit(adjoint, static_argnums=0)(result.shape))


def test_wrong_arguments_are_told():
    x, kernel = arrays((3, 3, 3))
    with pytest.raises(ValueError, match="got"):
        conv3d(x[..., :2], kernel)
    with pytest.raises(ValueError, match="space only"):
        conv3d(x, kernel, dilation=(2, 1, 1))
    with pytest.raises(ValueError, match="'fast' is not one of"):
        conv3d(x, kernel, lowering="fast")
