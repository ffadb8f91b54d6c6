"""Rules as methods: motion energy and spectral residual, by plain formulas and where something is to find."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation import baselines
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.gaze_grid import GazeGrid
from avsal_jax.evaluation.protocols import find_protocol
from avsal_jax.testing import fake_data
from avsal_jax.testing.fake_gaze import fake_clips, write_hevc_gaze


def plain_spectral_residual(light):
    """Hou and Zhang 2007, step by step, without the last blur; `light` is 64 wide."""
    spectrum = np.fft.fft2(light)
    amplitude, phase = np.log(np.abs(spectrum) + 1e-9), np.angle(spectrum)
    padded = np.pad(amplitude, 1, mode="edge")
    height, width = light.shape
    mean = sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
    return np.abs(np.fft.ifft2(np.exp(amplitude - mean) * (np.cos(phase) + 1j * np.sin(phase)))) ** 2


def test_spectral_residual_by_the_equations():
    light = np.random.default_rng(0).random((40, 64)).astype(np.float32)
    y, x = np.arange(-10, 11)[:, None], np.arange(-10, 11)[None, :]
    kernel = np.exp(-(y**2 + x**2) / (2 * 2.5**2))
    kernel /= kernel.sum()
    padded = np.pad(plain_spectral_residual(light.astype(np.float64)), 10)
    expected = [[(padded[i : i + 21, j : j + 21] * kernel).sum() for j in range(64)] for i in range(40)]
    np.testing.assert_allclose(baselines.spectral_residual(light), expected, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (150, 128)])
def test_spectral_residual_finds_what_is_unlike_the_rest(size):
    y, x = np.mgrid[: size[0], : size[1]] + 0.0
    light = (0.5 + 0.4 * np.sin(x / 2)).astype(np.float32)
    odd = np.hypot(y - 0.3 * size[0], x - 0.7 * size[1]) < 6
    light[odd] = (0.5 + 0.4 * np.sin(y / 2))[odd]
    saliency = baselines.spectral_residual(light)
    assert saliency.shape == (round(64 * size[0] / size[1]), 64)
    row, column = np.unravel_index(saliency.argmax(), saliency.shape)
    assert abs(row / saliency.shape[0] - 0.3) < 0.1 and abs(column / 64 - 0.7) < 0.1
    assert np.isfinite(baselines.spectral_residual(np.zeros((64, 96), np.float32))).all()


@pytest.fixture
def moving(tmp_path):
    """A video of 300x500 in which a square goes right, 20 pixels a frame, and a video of one frame."""
    frames = np.full((4, 300, 500, 3), 90, np.uint8)
    for index in range(4):
        frames[index, 100:140, 60 + 20 * index : 100 + 20 * index] = 250
    videos = [fake_data.fake_video(name, count, seed=1) for name, count in (("first", 4), ("short", 1))]
    fake_data.write_stavis(tmp_path, "DIEM", videos, {"test": ("first", "short")})
    for path in (tmp_path / "video_frames" / "DIEM" / "first").iterdir():
        Image.fromarray(frames[int(path.stem[-5:]) - 1]).save(path)
    return tmp_path


def test_motion_energy_lies_where_something_moved(moving):
    entries = {entry.name: entry for entry in open_dataset("diem", moving, "test")}
    source = baselines.motion_energy_maps()
    maps = list(source.maps(entries["first"], find_protocol("dhf1k")))
    assert [m.shape for m in maps] == [(300, 500)] * 4
    assert np.abs(maps[0].astype(int) - maps[1]).max() == 0  # the first has that of the second
    for index in (1, 2, 3):  # the square covered [40 + 20i, 80 + 20i) before, and [60 + 20i, 100 + 20i) now
        row, column = np.unravel_index(maps[index].argmax(), (300, 500))
        assert 100 <= row < 140 and 40 + 20 * index <= column < 100 + 20 * index
        assert maps[index][250:].max() == 0
    (still,) = source.maps(entries["short"], find_protocol("dhf1k"))
    assert still.max() == 0


@pytest.mark.parametrize("rule", [baselines.motion_energy_maps, baselines.spectral_residual_maps])
def test_on_a_grid_the_frames_that_are_scored_have_the_maps_that_all_frames_have(tmp_path, rule):
    root = write_hevc_gaze(tmp_path / "hevc", fake_clips()[:3])
    (entry,) = open_dataset("hevc_gaze", root, fold=4)
    protocol = find_protocol("gaze")
    every_frame = dataclasses.replace(protocol, grid=_EveryFrame())
    maps, expected = (list(rule().maps(entry, choice)) for choice in (protocol, every_frame))
    scored = protocol.scored_indices(entry)
    assert len(maps) == len(expected) == entry.frames
    assert [index for index, saliency in enumerate(maps) if saliency is not None] == scored != []
    for index in scored:
        np.testing.assert_array_equal(maps[index], expected[index])


class _EveryFrame(GazeGrid):
    def frames(self, entry):
        return list(range(entry.frames))


@pytest.mark.parametrize(
    ("name", "label"), [("motion", "motion energy"), ("spectral_residual", "spectral residual")]
)
def test_rules_are_scored_by_name(moving, tmp_path, name, label):
    summary = evaluate(Request("diem", moving, model=name, metrics=("cc",)), tmp_path / "out")
    assert summary["method"] == label and summary["videos"] == 2
