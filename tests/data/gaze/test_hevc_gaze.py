"""Gaze on the HEVC sequences: clips and rows that fit, and those that do not; damaged tables."""

import dataclasses
import sys

import h5py
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.data.gaze.hevc_gaze import read_hevc_gaze
from avsal_jax.testing.fake_gaze import FIELDS, fake_clips, write_database, write_hevc_gaze

CLIPS = fake_clips()
BAD_ROWS = [
    (np.nan, 1, 0, 100, 5, 5),
    (1, 1, 0, 0, 5, 5),
    (9, 1, 0, 100, 5, 5),  # there are eight observers
    (1, 8, 0, 100, 5, 5),  # and seven clips
    (1.5, 1, 0, 100, 5, 5),
    (0, 1, 0, 100, 5, 5),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Columns in a different order from the repository's."""
    return write_hevc_gaze(tmp_path_factory.mktemp("hevc") / "set", CLIPS, fields=FIELDS[::-1])


@pytest.fixture
def root(written, tmp_path):
    """A root with the same clips and a table of its own."""
    (tmp_path / "videos").symlink_to(written / "videos")
    write_database(tmp_path / "video_database.mat", CLIPS)
    return tmp_path


def test_clips_and_rows(written):
    gaze_set = read_hevc_gaze(written)
    assert gaze_set.notes == ()
    stimuli = {stimulus.name: stimulus for stimulus in gaze_set.stimuli}
    assert list(stimuli) == sorted(clip.name for clip in CLIPS)
    for clip in CLIPS:
        stimulus, table = stimuli[clip.name], stimuli[clip.name].fixations
        assert stimulus.is_video and (stimulus.path is None) == (clip.file is None)
        assert table.observers == tuple(f"person {number}" for number in range(1, 9))
        assert table.size == clip.size
        rows = np.stack([table.observer, table.x, table.y, table.start, table.duration], 1)
        np.testing.assert_allclose(rows, clip.rows, atol=1e-9)


def test_what_does_not_fit_is_noted(written):
    notes = {stimulus.name: stimulus.notes for stimulus in read_hevc_gaze(written).stimuli}
    rows = len(next(clip for clip in CLIPS if clip.name == "Kimono").rows)
    assert {name: lines for name, lines in notes.items() if lines} == {
        "Johnny": ("it has 64x48 pixels, the table says 128x96: positions are scaled",),
        "Kimono": (f"there is no clip of it in videos/; its {rows} rows are left out",),
        "Tennis": ("it has 48 frames, the table says 50",),
    }


def test_damaged_rows_are_counted(root):
    write_database(root / "video_database.mat", CLIPS, more_rows=BAD_ROWS)
    gaze_set = read_hevc_gaze(root)
    total = sum(len(clip.rows) for clip in CLIPS) + 6
    assert gaze_set.notes == (f"6 of {total} rows are damaged: they are left out",)
    assert sum(len(stimulus.fixations) for stimulus in gaze_set.stimuli) == total - 6


def test_a_damaged_clip_leaves_the_others(written, tmp_path):
    (tmp_path / "videos").mkdir()
    for path in (written / "videos").iterdir():
        (tmp_path / "videos" / path.name).write_bytes(path.read_bytes())
    content = (tmp_path / "videos" / "Traffic.avi").read_bytes()
    (tmp_path / "videos" / "Traffic.avi").write_bytes(content[:100])
    (tmp_path / "videos" / "Tennis.avi").unlink()
    (tmp_path / "videos" / "basketballdrill.avi").write_bytes(content)
    (tmp_path / "videos" / "Other.avi").write_bytes(content)
    write_database(tmp_path / "video_database.mat", CLIPS)
    gaze_set = read_hevc_gaze(tmp_path)
    stimuli = {stimulus.name: stimulus for stimulus in gaze_set.stimuli}
    assert {name for name, stimulus in stimuli.items() if stimulus.path is None} == {
        "Traffic",
        "Tennis",
        "Kimono",
    }
    assert "Traffic.avi" in stimuli["Traffic"].notes[0]
    assert gaze_set.notes == ("2 files in videos/ are not read: Other.avi, basketballdrill.avi",)


def change(key, edit):
    def damage(path):
        with h5py.File(path, "r+") as file:
            edit(file["video_database"], key)

    return damage


def remove(group, key):
    del group[key]


def replace(values):
    def edit(group, key):
        del group[key]
        group[key] = values

    return edit


def set_value(value):
    def edit(group, key):
        group[key][0, 0] = value

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "there is no .*: the root is a clone of remega/video_database"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "cannot be read"),
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"), "cannot be read"),
        (change("fixdata", remove), "cannot be read"),
        (change("fixdata", replace(np.zeros((3, 5)))), "fixdata has shape .3, 5. for 6 columns"),
        (change("fixdata", replace(np.zeros((6, 5), "S3"))), "fixdata has 30 values of type"),
        (change("fixdata_fields", remove), "cannot be read"),
        (change("fixdata_fields", replace(np.zeros((1, 6)))), "cannot be read"),
        (change("videos_info/size", replace(np.zeros((2, 3)))), "does not state frames, rate and size"),
        (change("videos_info/size", set_value(np.nan)), "sizes of videos are numbers above 0"),
        (change("videos_info/size", set_value(1e9)), "says that .* has 1000000000x"),
        (change("videos_info/framerate_fps", set_value(0)), "are numbers above 0"),
        (change("videos_info/frames", set_value(np.inf)), "are numbers above 0"),
    ],
)
def test_tables_that_cannot_be_read(root, damage, words):
    damage(root / "video_database.mat")
    with pytest.raises(AvsalError, match=words) as caught:
        read_hevc_gaze(root)
    assert "video_database.mat" in str(caught.value)


def test_a_column_that_is_missing(root):
    fields = ["Other" if field == "Timestamp" else field for field in FIELDS]
    with h5py.File(root / "video_database.mat", "r+") as file:
        reference = file["video_database/fixdata_fields"][0, FIELDS.index("Timestamp")]
        name = file[reference].name
        del file[name]
        letters = file.create_dataset(name, data=np.frombuffer("Other".encode("utf-16-le"), "<u2")[:, None])
        file["video_database/fixdata_fields"][0, FIELDS.index("Timestamp")] = letters.ref
    with pytest.raises(AvsalError, match=f"has no column Timestamp; it has {', '.join(fields)}"):
        read_hevc_gaze(root)


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".."])
def test_names_that_lead_elsewhere_are_refused(root, name):
    clips = [dataclasses.replace(CLIPS[0], name=name), *CLIPS[1:]]
    write_database(root / "video_database.mat", clips)
    with pytest.raises(AvsalError, match="video 1: .* name of a video"):
        read_hevc_gaze(root)


def test_a_clip_named_twice_is_refused(root):
    write_database(root / "video_database.mat", [*CLIPS, CLIPS[0]])
    with pytest.raises(AvsalError, match="names the video BasketballDrill twice"):
        read_hevc_gaze(root)


def test_a_root_without_clips(root):
    (root / "videos").unlink()
    with pytest.raises(AvsalError, match="has none of the 7 clips that video_database.mat names; Basketball"):
        read_hevc_gaze(root)


def test_h5py_that_is_not_installed(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(AvsalError, match=r"h5py reads: pip install 'avsal-jax\[gaze\]'"):
        read_hevc_gaze(root)
