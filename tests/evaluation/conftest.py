"""The data root and the saved maps that the tests of `avsal evaluate` share."""

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from PIL import Image

from avsal_jax.testing import fake_data
from avsal_jax.testing.fake_gaze import fake_clips, fake_photographs, write_eye_mat, write_hevc_gaze
from tests.evaluation.sets import NAMES, PHOTOGRAPHS


@pytest.fixture(scope="session")
def videos():
    """Long enough for the STAViS protocol, which leaves out the first eight frames."""
    return (
        fake_data.fake_video(NAMES[0], 14, (36, 52), seed=1),
        fake_data.fake_video(NAMES[1], 13, (40, 64), 29.9997, black=(2, 10), seed=2),
        fake_data.fake_video(NAMES[2], 12, (48, 40), listed_frames=13, seed=3),
    )


@pytest.fixture(scope="session")
def root(tmp_path_factory, videos):
    lists = {"test": NAMES, "train": NAMES[:2]}
    return fake_data.write_stavis(tmp_path_factory.mktemp("data"), "DIEM", videos, lists)


@pytest.fixture(scope="session")
def predictions(tmp_path_factory, videos):
    """Saved maps of a method: random, at the size of the truth, so that nothing is resized."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    for video in videos:
        (folder / video.name).mkdir()
        for index in range(len(video.frames)):
            smooth = scipy.ndimage.gaussian_filter(rng.random(video.densities.shape[1:]), 3)
            grey = np.uint8(255 * (smooth - smooth.min()) / (smooth.max() - smooth.min()))
            Image.fromarray(grey).save(folder / video.name / f"img_{index + 1:05d}.png")
    return folder


@pytest.fixture(scope="module")
def osie(tmp_path_factory):
    return write_eye_mat(tmp_path_factory.mktemp("data") / "osie", fake_photographs(PHOTOGRAPHS))


@pytest.fixture(scope="module")
def hevc(tmp_path_factory):
    return write_hevc_gaze(tmp_path_factory.mktemp("data") / "hevc", fake_clips())
