"""Resizing, blur and pixel normalisation against OpenCV's results and formulas worked by hand."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avsal_jax.ops.blur import gaussian_blur, gaussian_kernel
from avsal_jax.ops.pixels import normalize_pixels
from avsal_jax.ops.resize import resize_linear
from avsal_jax.pictures import grey_png, resize_map, to_grey
from avsal_jax.spec.input import SIGNED, Pixels


@pytest.fixture(scope="module")
def opencv(tests_dir):
    return json.loads((tests_dir / "golden" / "opencv.json").read_text())


def test_blur_equals_opencv(opencv):
    image = np.array(opencv["image"], np.float32)
    for case in opencv["kernel"]:
        np.testing.assert_allclose(
            gaussian_kernel(case["size"], case["sigma"]), case["result"], atol=1e-7, err_msg=str(case)
        )
    for case in opencv["blur"]:
        result = gaussian_blur(jnp.asarray(image), case["size"], case["sigma"])
        np.testing.assert_allclose(result, case["result"], atol=1e-6)


def test_a_kernel_of_one_tap_changes_nothing():
    assert gaussian_kernel(1).tolist() == [1.0]


def test_both_resizes_equal_opencv(opencv):
    image = np.array(opencv["image"], np.float32)
    for case in opencv["resize"]:
        expected, size = case["result"], (case["height"], case["width"])
        # Positions of some tens are off by 1e-6 in float32, and grey levels of neighbours differ by up to 1.
        np.testing.assert_allclose(resize_map(image, *size), expected, atol=5e-6)
        result = resize_linear(jnp.asarray(image)[..., None], size)[..., 0]
        np.testing.assert_allclose(result, expected, atol=5e-6)


def interpolated(row, positions):
    return np.interp(positions, np.arange(len(row)), row)


@pytest.mark.parametrize("new", [1, 3, 6, 10, 13])
def test_align_corners_by_hand(new):
    row = np.array([0.0, 3.0, 1.0, 4.0, 2.0])
    positions = np.zeros(1) if new == 1 else np.arange(new) * 4 / (new - 1)
    result = resize_linear(jnp.asarray(row, jnp.float32)[:, None], (new,), align_corners=True)[:, 0]
    # In float32 a position up to 4 is off by 2.4e-7, and the row's slope is 3.
    np.testing.assert_allclose(result, interpolated(row, positions), atol=5e-6)


@pytest.mark.parametrize("new", [1, 3, 5, 10, 13])
def test_half_pixel_centres_by_hand(new):
    row = np.array([0.0, 3.0, 1.0, 4.0, 2.0])
    positions = np.clip((np.arange(new) + 0.5) * 5 / new - 0.5, 0, 4)
    result = resize_linear(jnp.asarray(row, jnp.float32)[:, None], (new,))[:, 0]
    np.testing.assert_allclose(result, interpolated(row, positions), atol=5e-6)  # as above


def test_doubling_by_shifts_equals_the_general_resize_and_its_gradient():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 5, 7, 2)), jnp.float32)

    def general(v):
        return jax.image.resize(v, (2, 6, 10, 14, 2), "linear", antialias=False)

    np.testing.assert_allclose(resize_linear(x, (6, 10, 14)), general(x), atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda v: (resize_linear(v, (6, 10, 14)) ** 2).sum()))(x),
        jax.jit(jax.grad(lambda v: (general(v) ** 2).sum()))(x),
        atol=1e-4,
    )


def test_pixels_are_normalised_by_mean_deviation_and_scale():
    frames = np.array([[0, 128, 255]], np.uint8)
    np.testing.assert_allclose(normalize_pixels(frames, SIGNED), [[-1, 1 / 255, 1]], atol=1e-6)
    imagenet = [[-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]]
    np.testing.assert_allclose(normalize_pixels(frames, Pixels()), imagenet, atol=1e-6)
    other = Pixels(mean=(1, 2, 3), deviation=(2, 4, 8), scale=0.5)
    np.testing.assert_allclose(normalize_pixels(frames, other), [[-1 / 2, 254 / 4, 507 / 8]], atol=1e-6)


def test_blur_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="odd"):
        gaussian_kernel(4)
    with pytest.raises(ValueError, match="too small"):
        gaussian_blur(jnp.ones((4, 30)), 11)


def test_grey_stretches_each_map_and_blackens_constant_ones():
    grey = to_grey(np.array([[0.2, 0.3], [0.4, 0.6]]))
    np.testing.assert_array_equal(grey, [[0, 64], [128, 255]])
    assert not to_grey(np.full((3, 4), 0.7)).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (37, 53), (224, 384)])
def test_a_grey_png_has_the_pixels_that_other_programs_read(size):
    rng = np.random.default_rng(0)
    for image in (
        rng.integers(0, 256, size, np.uint8),
        np.zeros(size, np.uint8),
        np.full(size, 255, np.uint8),
    ):
        with Image.open(io.BytesIO(grey_png(image))) as picture:
            assert picture.mode == "L"
            np.testing.assert_array_equal(np.asarray(picture), image)
