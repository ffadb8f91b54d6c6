"""Windows that share temporal layers: the same maps as whole windows, and the products that this saves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import Clip
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.windows import window
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.models.time_steps import SlidingWindows, TimeStep, levels_of
from avsal_jax.testing.models import tiny_stored
from tests.tools import load_tool

# Mixed blocks: input channels; widths of branch 0 | branch 1 reduce, out | branch 2 reduce, out | branch 3.
STAGE_2 = ((192, 64, 96, 128, 16, 32, 32), (256, 128, 128, 192, 32, 96, 64))
STAGE_3 = (
    (480, 192, 96, 208, 16, 48, 64),
    (512, 160, 112, 224, 24, 64, 64),
    (512, 128, 128, 256, 24, 64, 64),
    (512, 112, 144, 288, 32, 64, 64),
    (528, 256, 160, 320, 32, 128, 128),
)
STAGE_4 = ((832, 256, 160, 320, 32, 128, 128), (832, 384, 192, 384, 48, 128, 128))


@functools.cache
def model_of(frames, label_frame):
    return Model(tiny_stored(frames=frames, visual_encoder="s3d", label_frame=label_frame))


def whole_windows(model, frames):
    """Every window on its unshared, through the network's ordinary call."""
    spec, count = model.spec, len(frames)
    clips = [frames[window(i, count, spec.frames, spec.label_frame)] for i in range(count)]
    return np.concatenate([model(Clip(clip[None])).saliency for clip in clips])


@pytest.mark.parametrize("label_frame", ["last", "middle"])
@pytest.mark.parametrize("batch", [1, 8])
def test_maps_equal_those_of_whole_windows(label_frame, batch):
    model = model_of(16, label_frame)
    for count in (1, 15, 16, 17, 30, 31, 50):
        frames = np.random.default_rng(count).integers(0, 256, (count, 64, 96, 3), np.uint8)
        indices, maps = zip(*model.iter_frames(frames, batch), strict=True)
        assert list(indices) == list(range(count))
        expected = whole_windows(model, frames)
        np.testing.assert_allclose(np.stack(maps), expected, rtol=0, atol=1e-6 * expected.max())
        if count > 1:  # a shift by one frame would show
            assert np.abs(expected[1:] - expected[:-1]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("label_frame", ["last", "middle"])
@pytest.mark.parametrize("batch", [1, 8])
def test_maps_of_the_full_clip_length_equal_those_of_whole_windows(label_frame, batch):
    model = model_of(32, label_frame)
    for count in (32, 62, 100):
        frames = np.random.default_rng(count).integers(0, 256, (count, 64, 96, 3), np.uint8)
        maps = np.stack([saliency for _, saliency in model.iter_frames(frames, batch)])
        expected = whole_windows(model, frames)
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6 * expected.max())


def depends_on_zeros(steps, number, output, frames):
    """Whether an output of a step depends on zeros before or after the frames, by plain recursion."""
    if number == 0:
        return not 0 <= output < frames
    kernel, stride = steps[number - 1]
    inputs = range(output * stride - kernel // 2, output * stride + kernel // 2 + 1)
    counts = [frames]
    for _, other in steps[: number - 1]:
        counts.append((counts[-1] - 1) // other + 1)
    return any(not 0 <= i < counts[-1] or depends_on_zeros(steps, number - 1, i, frames) for i in inputs)


@pytest.mark.parametrize("frames", [8, 16, 32, 48])
def test_every_output_that_depends_on_no_zeros_is_shared(frames):
    steps = ((7, 2), (3, 1), (3, 1), (3, 1))
    levels = levels_of(frames, tuple(TimeStep(*step) for step in steps))
    for level in levels[1:]:
        dependent = [t for t in range(level.count) if depends_on_zeros(steps, level.number, t, frames)]
        assert list(level.unshared) == dependent
    if frames == 32:
        assert [len(level.unshared) for level in levels] == [0, 3, 5, 7, 9]
        assert [level.lag for level in levels] == [0, 3, 5, 7, 9]


def mixed(widths, over_time=True):
    """Multiply-adds of a Mixed block for one frame and pixel: in single frames, and over time."""
    channels, b0, r1, b1, r2, b2, b3 = widths
    single = channels * (b0 + r1 + r2) + 9 * (r1 * b1 + r2 * b2)
    return single, 3 * (b1 * b1 + b2 * b2) + channels * b3


def expected_products(height, width):
    """Multiply-adds of S3D for each new frame and for each window of 32 frames, by hand."""
    pixels = [height * width // 4**level for level in range(6)]
    first, second = (mixed(widths) for widths in STAGE_2)
    stem = 49 * 3 * 64 * pixels[1]
    steps = [  # of one output
        7 * 64 * 64 * pixels[1] + (64 * 64 + 9 * 64 * 192) * pixels[2],
        3 * 192 * 192 * pixels[2] + first[0] * pixels[3],
        (first[1] + second[0]) * pixels[3],
        second[1] * pixels[3],
    ]
    rest = (
        8 * sum(sum(mixed(w)) for w in STAGE_3) * pixels[4]
        + 4 * sum(sum(mixed(w)) for w in STAGE_4) * pixels[5]
    )
    unshared = sum(count * step for count, step in zip((3, 5, 7, 9), steps, strict=True))
    all_products = 32 * stem + 16 * sum(steps) + rest
    return stem + sum(steps), unshared + rest, all_products


def test_multiply_adds_per_map_are_those_of_the_arithmetic():
    measure = load_tool("measure")
    network = build(resolve("vinet", {"frames": 32, "height": 224, "width": 384}))
    variables, windows = abstract_variables(network), SlidingWindows(network, 8)
    rings, number = windows.rings(variables), jax.ShapeDtypeStruct((), jnp.int32)
    frame, clip = (jax.ShapeDtypeStruct((*n, 224, 384, 3), jnp.uint8) for n in ((1,), (1, 32)))

    def encoded(variables, rings, starts):
        levels = windows.window_levels(variables, rings, starts)
        return network.apply(variables, levels, method=lambda net, x: net.visual_encoder.from_levels(x))

    def encoder(variables, clip):
        return network.apply(variables, clip / 255, method=lambda net, x: net.visual_encoder(x))

    starts = jax.ShapeDtypeStruct((1,), jnp.int32)
    new_frame, window_products, direct = expected_products(224, 384)
    assert measure.matrix_flops(windows.push, variables, rings, frame, number, number) == 2 * new_frame
    assert measure.matrix_flops(encoded, variables, rings, starts) == 2 * window_products
    assert measure.matrix_flops(encoder, variables, clip) == 2 * direct
    assert 2 * (direct - new_frame - window_products) > 66e9


def test_the_rings_hold_a_window_whatever_the_length_of_the_video():
    network = build(resolve("vinet", {"frames": 32, "height": 224, "width": 384}))
    rings = SlidingWindows(network, 3).rings(abstract_variables(network))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(rings))
    assert size < 600e6
    # Shared outputs are 2 frames apart: 13, 11, 9 and 7 of 16.
    assert [jax.tree.leaves(ring)[0].shape[0] for ring in rings] == [35, 28, 24, 20, 16]
