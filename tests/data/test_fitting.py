"""Pictures of any size as the network takes them; maps without the padding."""

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, InputSpec
from avsal_jax.data.fitting import fitted_frame, fitted_map, picture_box
from avsal_jax.data.pipeline import clip_batches
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
        ({"fit": "pad"}, "prepared pictures have fit 'stretch', and this network takes 'pad'"),
        ({"resize": "pil_bicubic"}, "prepared pictures have resize 'pil_bilinear', and this network takes"),
    ],
)
def test_training_takes_pictures_as_they_were_prepared(settings, message):
    with pytest.raises(AvsalError, match=message):
        clip_batches([object()], InputSpec(height=64, width=96, **settings), batch=1)
