"""The fitted camera against known motions of pictures that SciPy samples from larger ones.

Errors are distances in pixels between fitted and true source positions, the largest of the four corners.
"""

import re

import av
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from avsal_jax.ops.camera_motion import fit_affine_camera, motion_channels, motion_residual, warped

HEIGHT, WIDTH = 56, 96
OVERSAMPLING = 4
IDENTITY = np.eye(2, 3)
# Measured: at most 0.05 pixels. The causes are bilinear samples and the fixed number of steps.
TOLERANCE_PIXELS = 0.2


def camera(scale=1.0, degrees=0.0, shift=(0.0, 0.0)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([scale * turn, shift])


CAMERAS = {
    "pan 0.3": camera(shift=(0.2, 0.22)),
    "pan 1": camera(shift=(-0.6, 0.8)),
    "pan 3": camera(shift=(1.0, 2.83)),
    "pan 6": camera(shift=(2.0, -5.66)),
    "tilt 6": camera(shift=(5.0, 3.3)),
    "zoom 2 %": camera(scale=1.02),
    "zoom 5 %": camera(scale=0.95),
    "rotation 1": camera(degrees=1),
    "rotation 3": camera(degrees=-3),
    "all": camera(scale=1.03, degrees=2, shift=(1.5, -3)),
    "all again": camera(scale=0.96, degrees=-1.5, shift=(-2, 4)),
}


def texture(height, width, *deviations, seed=0):
    """Returns a random texture in [0, 1]: equal parts of noise blurred by each deviation."""
    rng = np.random.default_rng(seed)
    parts = [ndimage.gaussian_filter(rng.standard_normal((height, width)), d) for d in deviations]
    total = sum(part / part.std() for part in parts)
    return np.clip(0.5 + 0.15 * total / total.std(), 0, 1)


@pytest.fixture(scope="module")
def scenes(clip_path):
    """Two scenes with a margin, `OVERSAMPLING` times finer than the pictures of them."""
    size = (OVERSAMPLING * HEIGHT + 200, OVERSAMPLING * WIDTH + 200)
    frame = first_frame(clip_path)
    film = ndimage.zoom(frame, (size[0] / frame.shape[0], size[1] / frame.shape[1]), order=1)
    return {"texture": texture(*size, 6, 16, 40), "film": film}


def first_frame(path):
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gray")
    return frame / 255


def view(scene, affine=IDENTITY, height=HEIGHT, width=WIDTH):
    """Returns a picture that shows, at position p from its centre, the scene at affine p."""
    k = OVERSAMPLING
    rows, columns = ((np.arange(n * k) + 0.5) / k - n / 2 for n in (height, width))
    p = np.stack([*np.meshgrid(rows, columns, indexing="ij"), np.ones((height * k, width * k))])
    centre = (np.array(scene.shape) - 1) / 2
    fine = ndimage.map_coordinates(
        scene, k * np.tensordot(affine, p, 1) + centre[:, None, None], order=1, mode="nearest"
    )
    return fine.reshape(height, k, width, k).mean((1, 3)).astype(np.float32)


def with_patch(before, after):
    """Puts a thing of 13 % of the area into both pictures; it moves by (-4, 5) pixels for any camera."""
    patch = texture(22, 32, 2, 5, seed=9)
    before, after = before.copy(), after.copy()
    before[20:42, 30:62] = patch
    after[16:38, 35:67] = patch
    return before, after


MOVED = np.zeros((HEIGHT, WIDTH), bool)
MOVED[16:42, 30:67] = True  # the patch, before or after


def corner_error(fitted, affine, height=HEIGHT, width=WIDTH):
    corners = np.array([[y, x, 1] for y in (-height / 2, height / 2) for x in (-width / 2, width / 2)]).T
    return np.linalg.norm((np.asarray(fitted) - affine) @ corners, axis=0).max()


fit = jax.jit(fit_affine_camera)
channels_of = jax.jit(motion_channels)


@jax.jit
def channels_and_residuals(now, earlier):
    return motion_channels(now, earlier), motion_residual(earlier, jnp.stack([now] * len(earlier)))


@pytest.fixture(scope="module")
def pairs(scenes):
    """Pictures before [cases, h, w] and after, with their cases."""
    cases = [(scene, name) for scene in scenes for name in CAMERAS]
    before = np.stack([view(scenes[scene]) for scene, _ in cases])
    after = np.stack([view(scenes[scene], CAMERAS[name]) for scene, name in cases])
    return cases, before, after


def test_known_motions_are_recovered(pairs):
    cases, before, after = pairs
    for case, fitted in zip(cases, fit(before, after), strict=True):
        assert corner_error(fitted, CAMERAS[case[1]]) < TOLERANCE_PIXELS, case


def test_something_that_moves_by_itself_does_not_move_the_camera_and_is_in_the_residual(pairs):
    cases, before, after = pairs
    before, after = map(np.stack, zip(*map(with_patch, before, after), strict=True))
    fits, residuals = jax.jit(lambda b, a: (fit_affine_camera(b, a), motion_residual(b, a)))(before, after)
    for case, fitted, residual in zip(cases, fits, residuals, strict=True):
        assert corner_error(fitted, CAMERAS[case[1]]) < TOLERANCE_PIXELS, case
        # Measured: factors of 7 to 46; without removal of the camera 1.4 to 15.
        assert residual[MOVED].mean() > 2.5 * residual[~MOVED].mean(), case


def test_only_the_thing_moves_before_a_static_camera(scenes):
    before, after = with_patch(view(scenes["film"]), view(scenes["film"]))
    np.testing.assert_allclose(fit(before, after), IDENTITY, atol=0.01)
    channels, _ = channels_and_residuals(after, np.stack([before, after]))
    for channel in np.moveaxis(np.asarray(channels), -1, 0)[:2]:
        assert channel[MOVED].mean() > 10 * channel[~MOVED].mean()


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 0), (0.7, 0.2), (0.4, 0.1), (1.3, 0)])
def test_a_change_of_brightness_does_not_move_the_camera(scenes, gain, offset):
    for name in ("all", "pan 0.3"):
        before, after = view(scenes["film"]), view(scenes["film"], CAMERAS[name])
        fitted = fit(before, np.clip(gain * after + offset, 0, 1))
        assert corner_error(fitted, CAMERAS[name]) < TOLERANCE_PIXELS, name
    assert corner_error(fit(before, gain * before + offset), IDENTITY) < TOLERANCE_PIXELS


def degenerate_pairs(scenes):
    film, other = view(scenes["film"]), view(scenes["texture"])
    black, grey = np.zeros_like(film), np.full_like(film, 0.5)
    dot, moved_dot = grey.copy(), grey.copy()
    dot[20, 30] = moved_dot[21, 30] = 1
    noise = np.random.default_rng(0).random((2, HEIGHT, WIDTH)).astype(np.float32)
    stripes = np.tile((np.arange(WIDTH) % 8 < 1).astype(np.float32), (HEIGHT, 1))
    return {
        "constant": (grey, grey),
        "black to white": (black, black + 1),
        "to black": (film, black),
        "from black": (black, film),
        "a dot appears": (grey, dot),
        "a dot moves": (dot, moved_dot),
        "noise": tuple(noise),
        "cut": (film, other),
        "cut back": (other, film),
        "stripes": (stripes, np.roll(stripes, 2, axis=1)),
        "far beyond the bounds": (film, np.roll(film, 48, axis=1)),
    }


def test_pictures_without_a_common_motion_give_finite_and_bounded_results(scenes):
    cases = degenerate_pairs(scenes)
    before, after = map(np.stack, zip(*cases.values(), strict=True))
    channels = channels_of(after, before[:, None])
    assert np.isfinite(channels).all() and channels.min() >= 0
    bounds = np.array([[0.25, 0.25, HEIGHT / 4], [0.25, 0.25, WIDTH / 4]])
    for name, fitted in zip(cases, fit(before, after), strict=True):
        assert np.isfinite(fitted).all() and (np.abs(fitted - IDENTITY) < bounds).all(), name
        if name in ("constant", "black to white", "to black", "from black", "noise"):
            np.testing.assert_array_equal(fitted, IDENTITY, err_msg=name)


def test_channels_of_equal_pictures_are_zero(scenes):
    for now in (view(scenes["film"]), view(scenes["texture"]), np.ones((HEIGHT, WIDTH), np.float32)):
        channels, residuals = channels_and_residuals(now, np.stack([now, now]))
        assert channels.shape == (HEIGHT, WIDTH, 4) and residuals.shape == (2, HEIGHT, WIDTH)
        np.testing.assert_array_equal(channels, 0)


def test_channels_follow_their_formulas(scenes):
    now, near = with_patch(view(scenes["film"]), view(scenes["film"], CAMERAS["pan 3"]))
    earlier = np.stack([near, view(scenes["film"], CAMERAS["all"])])
    channels, residuals = channels_and_residuals(now, earlier)
    kernel = np.exp(-0.5 * np.arange(-6, 7) ** 2)
    blurred = np.asarray(residuals, np.float64)
    for axis in (1, 2):  # zeros outside, divided by the sum of the weights inside
        weights = ndimage.convolve1d(np.ones_like(blurred), kernel, axis=axis, mode="constant")
        blurred = ndimage.convolve1d(blurred, kernel, axis=axis, mode="constant") / weights
    relative = blurred / (blurred.mean((1, 2), keepdims=True) + 0.004)
    for lag in (0, 1):
        # Residuals up to 1 are off by 1e-7 in float32, and by fifty times that after division by 0.02.
        np.testing.assert_allclose(channels[..., 2 * lag], np.log1p(blurred[lag] / 0.02), atol=3e-5)
        np.testing.assert_allclose(channels[..., 2 * lag + 1], np.log1p(relative[lag]), atol=3e-5)


def test_warping_equals_scipy(scenes):
    picture = view(scenes["film"])
    affine = np.round(CAMERAS["all"] * 2**15) / 2**15  # as `warped` does
    result, inside = jax.jit(warped)(picture, affine)
    rows, columns = np.indices(picture.shape)
    p = np.stack([rows - (HEIGHT - 1) / 2, columns - (WIDTH - 1) / 2, np.ones_like(picture)])
    source = np.tensordot(affine, p, 1) + np.array([(HEIGHT - 1) / 2, (WIDTH - 1) / 2])[:, None, None]
    expected = ndimage.map_coordinates(picture, source, order=1, mode="nearest")
    # Values are off by 1e-7 in float32; positions are exact.
    np.testing.assert_allclose(result, expected, atol=3e-5)
    limits = np.array([HEIGHT - 1, WIDTH - 1])[:, None, None]
    np.testing.assert_array_equal(inside, ((source >= 0) & (source <= limits)).all(0))
    assert 0.7 < inside.mean() < 0.95
    residual = jax.jit(motion_residual)(picture, view(scenes["film"], CAMERAS["pan 6"]))
    assert not np.asarray(residual)[2:-2, :5].any()  # the camera pans to the left by 5.66 pixels
    assert (np.asarray(residual)[3:-3, 7:] > 0).mean() > 0.9


def test_leading_axes_and_vmap_agree_with_single_pictures(pairs):
    _, before, after = (x[:4] for x in pairs)
    single = np.stack([fit(b, a) for b, a in zip(before, after, strict=True)])
    # Sums of a thousand terms in another order; positions of 0.001 pixels matter to no test.
    np.testing.assert_allclose(fit(before, after), single, atol=1e-3)
    np.testing.assert_allclose(jax.jit(jax.vmap(fit_affine_camera))(before, after), single, atol=1e-3)
    folded = fit(before.reshape(2, 2, HEIGHT, WIDTH), after.reshape(2, 2, HEIGHT, WIDTH))
    np.testing.assert_allclose(folded.reshape(4, 2, 3), single, atol=1e-3)


@pytest.mark.parametrize("size", [(72, 72), (40, 128), (57, 99)])
def test_other_sizes_have_the_same_accuracy(size):
    scene = texture(*(OVERSAMPLING * n + 200 for n in size), 6, 16, 40)
    before = view(scene, height=size[0], width=size[1])
    for name in ("pan 3", "all"):
        after = view(scene, CAMERAS[name], *size)
        assert corner_error(fit(before, after), CAMERAS[name], *size) < TOLERANCE_PIXELS, name


@pytest.mark.parametrize("size", [(4, 5), (16, 24)])
def test_small_pictures_give_finite_results(size):
    before, after = texture(*size, 1), texture(*size, 1, seed=1)
    channels = channels_of(after, np.stack([before, after]))
    assert channels.shape == (*size, 4) and np.isfinite(channels).all()
    np.testing.assert_array_equal(channels[..., 2:], 0)


def test_the_gradient_is_zero(scenes):
    now, earlier = view(scenes["film"]), view(scenes["film"], CAMERAS["pan 1"])[None]
    gradients = jax.jit(jax.grad(lambda n, e: motion_channels(n, e).sum(), argnums=(0, 1)))(now, earlier)
    assert not any(np.asarray(g).any() for g in gradients)


def test_channels_lower_for_every_platform_without_custom_calls():
    picture = jax.ShapeDtypeStruct((2, HEIGHT, WIDTH), jnp.float32)
    earlier = jax.ShapeDtypeStruct((2, 2, HEIGHT, WIDTH), jnp.float32)
    exported = jax.export.export(jax.jit(motion_channels), platforms=["cpu", "cuda", "tpu"])(picture, earlier)
    text = exported.mlir_module()
    assert not re.findall(r"stablehlo\.custom_call @(\w+)", text)
    assert "f64" not in text
    assert "HIGHEST" in text and "DEFAULT" not in text  # else a TPU multiplies in bfloat16


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="equal shape"):
        fit_affine_camera(jnp.zeros((8, 8)), jnp.zeros((8, 9)))
    with pytest.raises(ValueError, match="at least 4 pixels"):
        motion_channels(jnp.zeros((8, 3)), jnp.zeros((2, 8, 3)))
