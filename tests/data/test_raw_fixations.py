"""Observers apart: DIEM's event files and Coutrot's databases, against positions known beforehand."""

import numpy as np
import pytest
import scipy.io

from avsal_jax import AvsalError
from avsal_jax.data.sets.raw_fixations import coutrot_clips, diem_observers
from avsal_jax.testing import fake_data

WIDTH, HEIGHT = 1024, 576


def test_the_screen_offset_of_a_line_of_diem(tmp_path):
    # Screen 1280x960: the corner of a 1024x576 movie is at (128, 192).
    path = tmp_path / "diem1.txt"
    path.write_text("3\t138.50\t199.25\t900.0\t1\t140.50\t201.25\t900.0\t1\n")
    (observer,) = diem_observers([path], WIDTH, HEIGHT)
    assert observer.name == "diem1"
    assert observer.at(2) == (8, 11)  # the mean of both eyes is (139.5, 200.25)
    assert observer.at(1) is None and observer.at(3) is None
    assert observer.frames.dtype == observer.points.dtype == np.int32


def test_only_fixations_inside_the_movie_count(tmp_path):
    folder = fake_data.write_diem_events(
        tmp_path / "event_data",
        [
            [
                (1, (10, 20, 1), (14, 24, 1)),
                (2, (10, 20, 2), (30.9, 40.9, 1)),  # the left eye moves
                (3, (10, 20, 2), (12, 20, 0)),
                (4, (10, 20, -1), (12, 20, -1)),
                (5, (-3, 20, 1), (-3, 20, 1)),  # left of the movie, on the screen
                (6, (WIDTH, 20, 1), (WIDTH, 20, 1)),  # just outside
                (7, (WIDTH - 0.5, HEIGHT - 0.5, 1), (0, 0, 0)),
                (8, (0, 0, 1), (0, 0, 1)),
            ],
            [(2, (5, 6, 1), (5, 6, 1)), (2, (50, 60, 1), (50, 60, 1))],
        ],
        WIDTH,
        HEIGHT,
    )
    first, second = diem_observers(folder, WIDTH, HEIGHT)
    assert first.frames.tolist() == [0, 1, 6, 7]
    assert first.points.tolist() == [[22, 12], [40, 30], [HEIGHT - 1, WIDTH - 1], [0, 0]]
    assert (first.outside, second.outside) == (2, 0)
    assert (second.frames.tolist(), second.points.tolist()) == ([1], [[6, 5]])
    assert second.name == "diem2s1_movie"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("1 2 3\n", "is not a DIEM event file: its lines have 9 numbers"),
        ("1 2 3 4 5 6 7 8 x\n", "is not a DIEM event file"),
        ("0 2 3 4 1 6 7 8 1\n", "has an invalid frame number; frames are numbered from 1"),
        ("1.5 2 3 4 1 6 7 8 1\n", "has an invalid frame number"),
        ("nan 2 3 4 1 6 7 8 1\n", "has an invalid frame number"),
        ("é", "is not a DIEM event file"),
    ],
)
def test_damaged_event_files(tmp_path, text, pattern):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AvsalError, match=pattern):
        diem_observers(tmp_path, WIDTH, HEIGHT)


def test_missing_event_files(tmp_path):
    with pytest.raises(AvsalError, match="there is no folder .*nowhere of DIEM event files"):
        diem_observers(tmp_path / "nowhere", WIDTH, HEIGHT)
    with pytest.raises(AvsalError, match=r"there are no event files \(.txt\) in"):
        diem_observers(tmp_path, WIDTH, HEIGHT)
    with pytest.raises(AvsalError, match="no event file was named"):
        diem_observers([], WIDTH, HEIGHT)
    with pytest.raises(AvsalError, match="cannot read .*x.txt: No such file"):
        diem_observers([tmp_path / "x.txt"], WIDTH, HEIGHT)
    with pytest.raises(AvsalError, match="a movie of 1920x1080 was not shown on DIEM's screen"):
        diem_observers(tmp_path, 1920, 1080)
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(AvsalError, match="large.txt is too large to be a DIEM event file"):
        diem_observers([large], WIDTH, HEIGHT)


@pytest.mark.parametrize(("database", "condition"), [(1, "OriginalSounds"), (2, "AudioVisual")])
def test_a_coutrot_database(tmp_path, database, condition):
    nan = np.nan
    data = np.array([  # x, then y: frames x observers
        [[10.9, nan], [719.5, 3.0], [720.0, 5.0]],
        [[20.1, nan], [575.5, nan], [10.0, 6.0]],
    ])  # fmt: skip
    alone = np.array([[[4.0], [5.0]], [[6.0], [7.0]]])
    clips = {"clip_1": (25.0, 720, 576, data), "clip_12": (24.5, 640, 480, alone)}
    path = fake_data.write_coutrot(tmp_path / "a.mat", clips, database, condition)
    result = coutrot_clips(path)
    assert list(result) == ["clip1", "clip12"]
    clip = result["clip1"]
    assert (clip.fps, clip.width, clip.height, clip.frames) == (25.0, 720, 576, 3)
    first, second = clip.observers
    assert [first.at(i) for i in range(3)] == [(20, 10), (575, 719), None] and first.outside == 1
    assert [second.at(i) for i in range(3)] == [None, None, (6, 5)] and second.outside == 0
    other = result["clip12"]
    assert other.fps == 24.5 and [o.points.tolist() for o in other.observers] == [[[6, 4], [7, 5]]]
    with pytest.raises(AvsalError, match=f"has no condition 'Silence'; it has {condition}"):
        coutrot_clips(path, "Silence")


def test_positions_after_the_last_frame_are_left_out(tmp_path):
    info = {"fps": 25, "vidwidth": 64, "vidheight": 48, "nframe": 2}
    clip = {"info": info, "data": np.full((2, 5, 3), 7.0)}
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"Coutrot_Database1": {"FacesSounds": {"clip_2": clip}}})
    clip = coutrot_clips(path, "FacesSounds")["clip2"]
    assert clip.frames == 2 and [o.frames.tolist() for o in clip.observers] == [[0, 1]] * 3


@pytest.mark.parametrize(
    ("clip", "pattern"),
    [
        ({"info": {"fps": 25}, "data": np.ones((2, 3, 2))}, "clip_1 in .* does not say its vidwidth"),
        ({"info": "text", "data": np.ones((2, 3, 2))}, "clip_1.info is not a structure"),
        ({"data": np.ones((2, 3, 2))}, "clip_1.info is not a structure"),
        (np.ones(3), "clip_1 is not a structure"),
        ({"info": None, "data": np.ones((3, 4, 2))}, r"has `data` of shape \(3, 4, 2\); it is 2 x frames x"),
        ({"info": None, "data": "text"}, "clip_1 in .* has no positions: `data` is 2 x frames x observers"),
        ({"info": None}, "clip_1 in .* has no positions"),
        ({"info": -1, "data": np.ones((2, 3, 2))}, "clip_1 in .* has nframe -1"),
    ],
)
def test_damaged_databases(tmp_path, clip, pattern):
    if isinstance(clip, dict) and clip.get("info") in (None, -1) and "info" in clip:
        clip["info"] = {"fps": 25, "vidwidth": 64, "vidheight": 48, "nframe": clip["info"] or 3}
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"Coutrot_Database1": {"OriginalSounds": {"clip_1": clip}}})
    with pytest.raises(AvsalError, match=pattern):
        coutrot_clips(path)


def test_files_that_are_no_database(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": 1})
    with pytest.raises(AvsalError, match="holds neither Coutrot_Database1 nor Coutrot_Database2"):
        coutrot_clips(path)
    scipy.io.savemat(path, {"Coutrot_Database2": 1})
    with pytest.raises(AvsalError, match="is not a Coutrot database: Coutrot_Database2 is not a structure"):
        coutrot_clips(path)
    with pytest.raises(AvsalError, match="there is no file"):
        coutrot_clips(tmp_path / "none.mat")
