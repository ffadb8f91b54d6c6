"""Convolutions of single frames: both lowerings of the depthwise form, the plain form, and the rule SAME."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from avsal_jax.ops.convolution import conv2d
from avsal_jax.ops.depthwise import depthwise_conv2d, same_padding

# kernel, stride, size; pads are SAME unless the case has its own.
CASES = {
    "k3 s1 even": (3, 1, (8, 10), None),
    "k3 s2 even": (3, 2, (8, 10), None),
    "k3 s2 odd": (3, 2, (9, 7), None),
    "k5 s1 odd": (5, 1, (7, 9), None),
    "k5 s2 even": (5, 2, (6, 8), None),
    "k5 s2 odd": (5, 2, (9, 11), None),
    "k5 s2 small": (5, 2, (1, 2), None),
    "k3 s3": (3, 3, (8, 7), ((1, 2), (0, 1))),
    "k2 s3, taps that meet no output": (2, 3, (7, 9), ((0, 0), (0, 0))),
    "more pads than taps": (3, 2, (5, 6), ((4, 5), (3, 0))),
}


def setting(case):
    kernel, stride, size, pads = CASES[case]
    pads = pads or tuple(same_padding(n, kernel, stride) for n in size)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((2, *size, 6)), jnp.float32)
    taps = jnp.asarray(rng.standard_normal((kernel, kernel, 6)), jnp.float32)
    return x, taps, (stride, stride), pads


def reference(x, kernel, stride, pads):
    """Each channel by a convolution of its own."""
    layers = [
        lax.conv_general_dilated(
            x[..., c : c + 1],
            kernel[:, :, None, c : c + 1],
            stride,
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        for c in range(x.shape[-1])
    ]
    return jnp.concatenate(layers, -1)


def value_and_gradients(function, x, kernel):
    def loss(x, kernel):
        y = function(x, kernel)
        weight = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return (y * weight).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, kernel)
    return y, *gradients


def close(result, expected, tolerance=1e-5):
    for a, b in zip(result, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("case", CASES)
def test_both_lowerings_have_the_same_value_and_gradients(case):
    x, kernel, stride, pads = setting(case)
    folded, direct = (
        value_and_gradients(
            functools.partial(depthwise_conv2d, stride=stride, padding=pads, lowering=lowering), x, kernel
        )
        for lowering in ("folded", "direct")
    )
    close(folded, direct)


@pytest.mark.parametrize("lowering", ["auto", "direct"])
def test_each_channel_has_a_convolution_of_its_own(lowering):
    x, kernel, stride, pads = setting("k3 s2 odd")
    function = functools.partial(depthwise_conv2d, stride=stride, padding=pads, lowering=lowering)
    expected = value_and_gradients(functools.partial(reference, stride=stride, pads=pads), x, kernel)
    close(value_and_gradients(function, x, kernel), expected)


def test_second_derivatives_and_leading_axes():
    x, kernel, stride, pads = setting("k3 s2 odd")

    def curvature(function):
        def inner(k):
            return jax.grad(lambda x: (function(x, k) ** 3).sum())(x).sum()

        return jax.jit(jax.grad(inner))(kernel)

    by_slices = functools.partial(depthwise_conv2d, stride=stride, padding=pads, lowering="folded")
    close([curvature(by_slices)], [curvature(lambda x, k: reference(x, k, stride, pads))])
    clips = jnp.stack([x, 2 * x])
    single, joined, mapped = jax.jit(
        lambda: (
            by_slices(x, kernel),
            by_slices(clips, kernel),
            jax.vmap(by_slices, (0, None))(clips, kernel),
        )
    )()
    close([joined[1], mapped], [2 * single, joined])


def test_short_floats_are_added_up_in_float32():
    x, kernel, stride, pads = setting("k5 s1 odd")
    exact = reference(
        *(v.astype(jnp.bfloat16).astype(jnp.float32) for v in (x, kernel)), stride=stride, pads=pads
    )
    short = depthwise_conv2d(
        x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), stride=stride, padding=pads, lowering="folded"
    )
    assert short.dtype == jnp.bfloat16
    np.testing.assert_array_equal(short, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("lowering", "platform", "grouped"),
    [("auto", "cpu", 0), ("auto", "cuda", 3), ("auto", "tpu", 3), ("folded", "tpu", 0), ("direct", "cpu", 3)],
)
def test_what_each_platform_is_given(lowering, platform, grouped):
    """Forward and both gradients are grouped convolutions, or none is."""
    x, kernel, stride, pads = setting("k3 s2 odd")

    def loss(x, kernel):
        return (depthwise_conv2d(x, kernel, stride=stride, padding=pads, lowering=lowering) ** 2).sum()

    exported = jax.export.export(jax.jit(jax.grad(loss, (0, 1))), platforms=[platform])(x, kernel)
    assert len(re.findall(r"stablehlo\.convolution", exported.mlir_module())) == grouped


@pytest.mark.parametrize(
    ("size", "stride", "pads"), [(1, 1, (0, 0)), (1, 2, (0, 0)), (3, 2, (0, 1)), (5, 1, (2, 2))]
)
def test_plain_convolutions_of_frames(size, stride, pads):
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.standard_normal((2, 3, 6, 7, 4)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((size, size, 4, 5)), jnp.float32)
    expected = lax.conv_general_dilated(
        x.reshape(6, 6, 7, 4),
        kernel,
        (stride, stride),
        (pads, pads),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    result = conv2d(x, kernel, stride=(stride, stride), padding=(pads, pads))
    close([result], [expected.reshape(2, 3, *expected.shape[1:])])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 3, 2, (0, 1)), (225, 3, 2, (1, 1)), (28, 5, 2, (1, 2)), (29, 5, 2, (2, 2)), (7, 5, 1, (2, 2)),
     (1, 3, 2, (1, 1)), (8, 1, 2, (0, 0)), (9, 2, 3, (0, 0))],
)  # fmt: skip
def test_same_padding_is_tensorflows(size, kernel, stride, pads):
    assert same_padding(size, kernel, stride) == pads
    (low, high), (w_low, w_high) = lax.padtype_to_pads(
        (size, size), (kernel, kernel), (stride, stride), "SAME"
    )
    assert (low, high) == (w_low, w_high) == pads


def test_wrong_arguments_are_refused():
    x, kernel, *_ = setting("k3 s1 even")
    with pytest.raises(ValueError, match=r"kernel \[kh,kw,C\]; got \(2, 8, 10, 5\), \(3, 3, 6\)"):
        depthwise_conv2d(x[..., :5], kernel)
    with pytest.raises(ValueError, match="'fast' is not one of auto, folded, direct"):
        depthwise_conv2d(x, kernel, lowering="fast")
    with pytest.raises(ValueError, match=r"\(3, 3\) is larger than the padded frame \(2, 10\)"):
        depthwise_conv2d(x[:, :2], kernel)
    with pytest.raises(ValueError, match=r"kernel \[kh,kw,I,O\]; got"):
        conv2d(x, kernel)
