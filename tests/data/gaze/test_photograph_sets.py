"""Photographs with gaze as their authors packed them: what is read, what is missing or damaged."""

import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.gaze.photograph_sets import read_eye_mat, read_sun_scenes
from avsal_jax.testing.fake_gaze import (
    eye_record,
    fake_photographs,
    write_cells,
    write_eye_mat,
    write_sun_scenes,
)

PHOTOGRAPHS = fake_photographs(("1001", "1002", "1010"))
TABLE = "data/eye/fixations.mat"
EMPTY_CELL = np.zeros((0, 0))


def rows_of(table) -> np.ndarray:
    return np.stack([table.observer, table.x, table.y, table.start, table.duration], 1)


@pytest.fixture
def osie(tmp_path):
    return write_eye_mat(tmp_path / "osie", PHOTOGRAPHS)


@pytest.fixture
def scenes(tmp_path):
    return write_sun_scenes(tmp_path / "scenes", PHOTOGRAPHS)


def rewrite(root, *records):
    write_cells(root / TABLE, records)
    return read_eye_mat(root)


def test_pictures_and_rows_of_osie(osie):
    gaze_set = read_eye_mat(osie)
    assert gaze_set.notes == ()
    assert [stimulus.name for stimulus in gaze_set.stimuli] == ["1001", "1002", "1010"]
    for stimulus, truth in zip(gaze_set.stimuli, PHOTOGRAPHS, strict=True):
        assert not stimulus.is_video and stimulus.notes == ()
        assert stimulus.path == osie / "data" / "stimuli" / f"{truth.name}.jpg"
        assert stimulus.fixations.size == truth.size
        assert len(stimulus.fixations.observers) == truth.observers
        rows = rows_of(stimulus.fixations)
        assert np.isnan(rows[:, 3]).all()  # the files state no start
        np.testing.assert_allclose(rows[:, [0, 1, 2, 4]], truth.rows[:, [0, 1, 2, 4]])


def test_pictures_and_rows_of_scenes(scenes):
    gaze_set = read_sun_scenes(scenes)
    assert gaze_set.notes == ("1 empty cells, of observers who did not see a picture",)
    for number, (stimulus, truth) in enumerate(zip(gaze_set.stimuli, PHOTOGRAPHS, strict=True)):
        expected = truth.rows
        if not number:  # whose second observer's cell is empty: the later ones move up
            expected = expected[expected[:, 0] != 1]
            expected = np.concatenate(
                [np.maximum(expected[:, :1] - (expected[:, :1] > 1), 0), expected[:, 1:]], 1
            )
        assert len(stimulus.fixations.observers) == truth.observers - (not number)
        np.testing.assert_allclose(rows_of(stimulus.fixations), expected)


def test_a_missing_picture_is_noted(osie):
    (osie / "data/stimuli/1002.jpg").unlink()
    gaze_set = read_eye_mat(osie)
    assert [stimulus.path is None for stimulus in gaze_set.stimuli] == [False, True, False]
    assert gaze_set.stimuli[1].notes == ("there is no picture 1002.jpg",)


def test_a_picture_that_cannot_be_read_is_noted(osie, scenes):
    for root, read in ((osie, read_eye_mat), (scenes, read_sun_scenes)):
        (root / "data/stimuli/1002.jpg").write_bytes(b"\xff\xd8\xff")
        gaze_set = read(root)
        assert gaze_set.stimuli[1].path is None
        assert "image that can be read" in gaze_set.stimuli[1].notes[0]
        assert not any("have no row" in note for note in gaze_set.notes)


def test_pictures_without_a_row_are_counted(osie):
    shutil.copy(osie / "data/stimuli/1002.jpg", osie / "data/stimuli/2000.jpg")
    (osie / "data/stimuli/notes.txt").write_text("x")
    assert read_eye_mat(osie).notes == ("1 pictures have no row in fixations.mat: they are left out",)


def test_scenes_need_all_pictures_since_only_order_names_them(scenes):
    (scenes / "data/stimuli/1002.jpg").unlink()
    with pytest.raises(AvsalError, match="has 3 rows, but .*stimuli has 2 pictures: .*so all must be there"):
        read_sun_scenes(scenes)


def test_damaged_cells_are_counted(osie):
    good, second, third = map(eye_record, PHOTOGRAPHS)
    second["subjects"][0, 0]["fix_x"] = second["subjects"][0, 0]["fix_x"][:-1]
    second["subjects"][1, 0] = EMPTY_CELL
    second["subjects"][2, 0]["fix_y"] = "text"
    del second["subjects"][3, 0]["fix_duration"]
    third["subjects"][0, 0]["fix_x"][0] = np.nan
    third["subjects"][1, 0]["fix_duration"][1] = np.inf
    third["subjects"][2, 0] = {"fix_x": EMPTY_CELL, "fix_y": EMPTY_CELL, "fix_duration": EMPTY_CELL}
    gaze_set = rewrite(osie, good, second, third, EMPTY_CELL, {"img": 7.0, "subjects": EMPTY_CELL})
    assert [len(stimulus.fixations.observers) for stimulus in gaze_set.stimuli] == [4, 4, 4]
    assert len(gaze_set.stimuli[1].fixations) == 0
    expected = (PHOTOGRAPHS[2].rows[:, 0] != 2).sum() - 2
    assert len(gaze_set.stimuli[2].fixations) == expected
    assert set(gaze_set.notes) == {
        "4 observers without columns of one length",
        "2 fixations with a number that is not finite",
        "1 observers without a fixation",
        "2 cells without a picture's name and its observers",
    }


def test_damaged_scenes_are_counted(scenes):
    path = scenes / "data/tidy/fixations.mat"
    cells = scipy.io.loadmat(path)["fixations"]
    cells[1, 0] = cells[1, 0][:, :3]
    cells[1, 1] = cells[1, 1] * 1j
    cells[2, 0][0, 2] = np.nan
    scipy.io.savemat(path, {"fixations": cells})
    assert set(read_sun_scenes(scenes).notes) == {
        "1 empty cells, of observers who did not see a picture",
        "2 cells without the columns y, x, start, duration",
        "1 fixations with a number that is not finite",
    }


@pytest.mark.parametrize("name", ["../../x.jpg", "a/b.jpg", "..", "c:x.jpg", "a\x01b.jpg", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(osie, name):
    Image.new("RGB", (8, 8)).save(osie / "x.jpg")
    record = {**eye_record(PHOTOGRAPHS[0]), "img": name}
    with pytest.raises(AvsalError, match="fixations.mat, cell 1: "):
        rewrite(osie, record)


def test_a_picture_named_twice_is_refused(osie):
    record = eye_record(PHOTOGRAPHS[0])
    with pytest.raises(AvsalError, match="names the picture 1001 twice"):
        rewrite(osie, record, record)


def save(path, **content):
    scipy.io.savemat(path, content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "there is no file"),
        (lambda path: path.write_bytes(b""), "MATLAB file that can be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "MATLAB file that can be read"),
        (lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"), "MATLAB 7.3"),
        (lambda path: save(path, other=1), "has no variable fixations"),
        (lambda path: save(path, fixations=np.eye(3)), "fixations is not a cell array"),
        (lambda path: save(path, fixations="text"), "fixations is not a cell array"),
    ],
)
@pytest.mark.parametrize("name", ["osie", "scenes"])
def test_tables_that_cannot_be_read(request, name, damage, words):
    root = request.getfixturevalue(name)
    read, folder = {"osie": (read_eye_mat, "eye"), "scenes": (read_sun_scenes, "tidy")}[name]
    path = root / "data" / folder / "fixations.mat"
    damage(path)
    with pytest.raises(AvsalError, match=words) as caught:
        read(root)
    assert str(path) in str(caught.value)


def test_a_root_that_is_not_a_clone(tmp_path):
    for read in (read_eye_mat, read_sun_scenes):
        with pytest.raises(AvsalError, match="has no folder data/stimuli: the root is a clone"):
            read(tmp_path)


def test_a_table_that_is_a_device_is_refused(osie):
    (osie / TABLE).unlink()
    (osie / TABLE).symlink_to("/dev/zero")  # reading it would never end
    with pytest.raises(AvsalError, match="fixations.mat is not a file"):
        read_eye_mat(osie)
