"""Pictures of any size as the network takes them; maps without the padding."""

import types

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, InputSpec
from avsal_jax.data.prepared.pipeline import clip_batches
from avsal_jax.media.fitting import fitted_frame, fitted_map, picture_box
from avsal_jax.spec.input import SIGNED
from avsal_jax.testing.models import probe_model

PAD = {"fit": "pad", "height": 64, "width": 96}


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 96), (0, 0, 64, 96)),
        ((640, 960), (0, 0, 64, 96)),
        ((100, 100), (0, 16, 64, 64)),
        ((30, 90), (16, 0, 32, 96)),
        ((1, 5000), (31, 0, 1, 96)),
        ((5000, 1), (0, 47, 64, 1)),
    ],
)
def test_a_padded_picture_keeps_its_aspect(size, box):
    assert picture_box(size, InputSpec(**PAD)) == box
    assert picture_box(size, InputSpec(height=64, width=96)) == (0, 0, 64, 96)


def test_padding_is_the_mean_colour():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    frame = fitted_frame(image, InputSpec(**PAD))
    np.testing.assert_array_equal(frame[:, 16:80], np.asarray(Image.fromarray(image).resize((64, 64), 2)))
    assert (frame[:, :16] == [124, 116, 104]).all() and (frame[:, 80:] == [124, 116, 104]).all()
    assert (fitted_frame(image, InputSpec(**PAD, pixels=SIGNED))[0, 0] == 128).all()
    np.testing.assert_array_equal(fitted_map(frame[..., 0], (40, 40), InputSpec(**PAD)), frame[:, 16:80, 0])


def test_the_filter_is_the_one_of_the_input():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for resize, number in (("pil_bilinear", 2), ("pil_bicubic", 3)):
        frame = fitted_frame(image, InputSpec(height=64, width=96, resize=resize))
        np.testing.assert_array_equal(frame, np.asarray(Image.fromarray(image).resize((96, 64), number)))


def test_maps_show_the_picture_alone():
    """The probe's map is the luminance of the frame: of padding it shows the padding's."""
    model = probe_model(fit="pad")
    dark, bright = np.zeros((9, 50, 50, 3), np.uint8), np.full((9, 50, 50, 3), 255, np.uint8)
    for frames, low, high in ((dark, 0, 0.1), (bright, 0.9, 1)):
        maps = model.predict_frames(frames, fps=25)
        assert maps.shape == (9, 64, 64)
        assert low <= maps[:, :, 8:-8].min() and maps[:, :, 8:-8].max() <= high


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "pad"}, "prepared pictures have fit 'stretch', but this network needs 'pad'"),
        ({"resize": "pil_bicubic"}, "prepared pictures have resize 'pil_bilinear', but this network needs"),
    ],
)
def test_training_takes_pictures_as_they_were_prepared(settings, message):
    with pytest.raises(AvsalError, match=message):
        clip_batches([object()], InputSpec(height=64, width=96, **settings), batch=1)


ASPECT = InputSpec(fit="aspect")
# Rows and columns of 32 pixels, of 75 to 91 in all, and no more than 3.2 times as long as wide.
SIZES = [
    (5, 15),
    (5, 16),
    (6, 13),
    (6, 14),
    (6, 15),
    (7, 11),
    (7, 12),
    (7, 13),
    (8, 10),
    (8, 11),
    (9, 9),
    (9, 10),
]


def test_sizes_of_nearly_one_area_by_hand():
    expected = {*SIZES, *((columns, rows) for rows, columns in SIZES)}
    assert {(height // 32, width // 32) for height, width in ASPECT.sizes} == expected
    assert len(ASPECT.sizes) == len(expected) and all(h % 32 == w % 32 == 0 for h, w in ASPECT.sizes)
    assert ASPECT.sizes[0] == (224, 384)
    assert InputSpec(fit="aspect", height=64, width=96).sizes == ((64, 96), (96, 64))
    assert InputSpec(fit="aspect", height=32, width=160).sizes == ((32, 160),)  # too long, but its own
    assert InputSpec(fit="pad").sizes == InputSpec().sizes == ((224, 384),)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((1080, 1920), (224, 384)),
        ((1920, 1080), (384, 224)),
        ((480, 640), (256, 352)),
        ((640, 480), (352, 256)),
        ((500, 500), (288, 288)),
        ((600, 900), (224, 352)),
        ((1000, 2350), (192, 448)),
        ((1, 5000), (160, 512)),
        ((5000, 1), (512, 160)),
    ],
)
def test_the_size_for_a_picture_by_hand(picture, size):
    spec = ASPECT.for_picture(*picture)
    assert (spec.height, spec.width, spec.fit) == (*size, "stretch")
    assert spec.for_picture(5000, 1) is spec
    image = np.random.default_rng(0).integers(0, 256, (*picture, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted_frame(image, ASPECT), expected)
    assert fitted_map(np.zeros(size), picture, ASPECT).shape == size


def test_equally_near_sizes_are_chosen_by_their_order():
    spec = InputSpec(fit="aspect", height=96, width=64)
    assert spec.for_picture(77, 77) == InputSpec(height=96, width=64)
    assert InputSpec().for_picture(77, 77) == InputSpec()


def test_the_distortion_is_as_documented():
    """Against all sizes one after the other, over pictures from 1:3.2 to 3.2:1."""
    worst = 0.0
    for width in np.geomspace(1000 / 3.2, 1000 * 3.2, 200).round().astype(int):
        aspect = width / 1000
        changes = [max(c / r / aspect, aspect * r / c) for r, c in SIZES + [s[::-1] for s in SIZES]]
        spec = ASPECT.for_picture(1000, int(width))
        assert max(spec.width / spec.height / aspect, aspect * spec.height / spec.width) == min(changes)
        worst = max(worst, min(changes))
    assert 1.09 < worst < 1.096


def prepared_video(height, width):
    shards = types.SimpleNamespace(size=(height, width), folder="prepared/mine")
    return types.SimpleNamespace(frames=20, fps=25.0, black=np.zeros(20, bool), shards=shards)


def test_training_with_aspects_is_at_the_size_of_the_prepared_set():
    spec = InputSpec(frames=4, height=96, width=64, fit="aspect")
    batches = clip_batches([prepared_video(96, 64)], spec, batch=1)
    assert batches.element_spec["frames"].shape == (1, 4, 96, 64, 3)
    with pytest.raises(
        AvsalError, match="--size 96x64, or set model.height=64 and model.width=96 for this run"
    ):
        clip_batches([prepared_video(64, 96)], spec, batch=1)
    with pytest.raises(AvsalError, match="--size 96x64$"):
        clip_batches([prepared_video(96, 96)], spec, batch=1)
    with pytest.raises(AvsalError, match="prepared at 64x96, the model takes 96x64"):  # of two sizes
        clip_batches([prepared_video(96, 64), prepared_video(64, 96)], spec, batch=1)
