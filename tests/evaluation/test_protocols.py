"""What protocols do with maps and points, by hand."""

import types

import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.data.truth.fixation_maps import rescale_points
from avsal_jax.evaluation.protocols import (
    VideoOthers,
    find_protocol,
    generator,
    protocol_for,
)
from avsal_jax.metrics import fixation_map
from avsal_jax.registry import table


def test_a_stored_map_is_scored_in_grey_levels():
    stored = np.uint8([[0, 51], [102, 255]])
    for name in ("vinet", "dhf1k"):
        assert find_protocol(name).score_map(stored).tolist() == [[0.0, 0.2], [0.4, 1.0]]
        fine = np.array([[0.1, 0.7]])
        assert find_protocol(name).score_map(fine).tolist() == fine.tolist()


@pytest.mark.parametrize("ground", [0, 100])
def test_stavis_stretches_a_map_and_blurs_it(ground):
    """A single bright pixel becomes the Gaussian of 13 taps, whatever the grey around it."""
    stored = np.full((21, 21), ground, np.uint8)
    stored[10, 10] = 200
    taps = np.exp(-(np.arange(-6.0, 7.0) ** 2) / (2 * 2.0**2))
    expected = np.zeros((21, 21))
    expected[4:17, 4:17] = np.outer(taps, taps) / taps.sum() ** 2
    np.testing.assert_allclose(find_protocol("stavis").score_map(stored), expected, atol=1e-12)


def test_stavis_leaves_maps_of_one_value():
    assert not find_protocol("stavis").score_map(np.zeros((9, 9), np.uint8)).any()
    np.testing.assert_allclose(find_protocol("stavis").score_map(np.full((9, 9), 7, np.uint8)), 255.0)


@pytest.mark.parametrize("name", ["stavis", "vinet", "dhf1k"])
def test_every_protocol_can_store_maps_as_public_vinet_does(name):
    """A single bright pixel becomes the Gaussian of 11 taps, stretched with 1e-5, half a level up."""
    bright = np.zeros((21, 21), np.float32)
    bright[10, 10] = 1
    taps = np.exp(-(np.arange(-5.0, 6.0) ** 2) / (2 * 2.0**2))
    gaussian = np.zeros((21, 21))
    gaussian[5:16, 5:16] = np.outer(taps, taps) / taps.sum() ** 2
    blurred = np.clip(np.round(gaussian / (gaussian.max() + 1e-5) * 255 + 0.5), 0, 255)
    entry, protocol = types.SimpleNamespace(frame_size=(21, 21)), find_protocol(name)
    stored = protocol.with_postprocess("vinet").store(bright, entry)
    assert stored.dtype == np.uint8 and np.abs(stored - blurred).max() <= 1
    sharp = protocol.with_postprocess("none").store(bright, entry)
    assert sharp[10, 10] == 255 and sharp.sum() == 255
    with pytest.raises(AvsalError, match="unknown postprocess 'mine'; use one of none, vinet"):
        protocol.with_postprocess("mine")


def test_which_maps_are_stored_at_the_size_of_the_frame():
    ramp = np.linspace(0.0, 1.0, 12).reshape(3, 4)
    entry = types.SimpleNamespace(frame_size=(6, 8))
    sizes = {name: protocol.store(ramp, entry).shape for name, protocol in table("protocol").items()}
    assert sizes == {"stavis": (3, 4), "vinet": (6, 8), "dhf1k": (6, 8), "gaze": (72, 96)}


def test_the_first_frame_and_the_mean_of_each():
    rows = {
        name: (protocol.first_frame, protocol.negatives, protocol.average)
        for name, protocol in table("protocol").items()
    }
    assert rows == {
        "stavis": (9, "video", "videos"),
        "vinet": (1, "video", "videos"),
        "dhf1k": (1, "set", "frames"),
        "gaze": (1, "stimuli", "videos"),
    }
    assert [protocol_for(None, name).name for name in ("dhf1k", "ucf", "diem")] == ["dhf1k", "dhf1k", "vinet"]
    assert {protocol_for(None, name).name for name in ("osie", "hevc_gaze", "gaze:mine")} == {"gaze"}
    assert protocol_for("stavis", "dhf1k").name == "stavis"


def test_points_become_maps_and_move_with_the_size():
    points = np.array([[0, 0], [1, 3]])
    assert fixation_map(points, (2, 4)).astype(int).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert rescale_points(points, (2, 4), (4, 8)).tolist() == [[1, 1], [3, 7]]  # centres at 0.5, 1.5 and 3.5
    assert rescale_points(points, (2, 4), (1, 2)).tolist() == [[0, 0], [0, 1]]
    assert rescale_points(points, (2, 4), (2, 4)).tolist() == points.tolist()


def test_the_others_are_all_but_those_of_the_frame():
    other_fixations = VideoOthers((2, 3), [np.array([[0, 0], [1, 1]]), np.array([[1, 2]])])
    assert other_fixations.map(np.array([[1, 1]])).astype(int).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert other_fixations.map(np.zeros((0, 2), int)).sum() == 3  # the union is unchanged


def test_random_numbers_depend_on_each_of_four_things():
    key = (0, "video", 1, "noise")
    draws = [
        generator(*key[:i], other, *key[i + 1 :]).random()
        for i, other in enumerate((1, "other", 2, "negatives"))
    ]
    assert len({generator(*key).random(), *draws}) == 5
    assert generator(*key).random() == generator(*key).random()
