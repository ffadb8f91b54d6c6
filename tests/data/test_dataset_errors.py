"""What can be wrong with a root, a list or a file: one clear line each, and the other videos still open."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.truth import mat_files
from avsal_jax.data.truth.mat_files import mat_map, mat_shape
from avsal_jax.data.truth.truth_files import read_fixation_map
from avsal_jax.testing import fake_data

NAMES = ("first_52x36", "second_64x40", "third_40x48")


@pytest.fixture
def root(tmp_path):
    lists = {"test_1": NAMES, "train_1": NAMES[:1]}
    return fake_data.write_stavis(tmp_path / "root", "AVAD", fake_data.fake_videos(NAMES), lists)


def refused(pattern, name, *arguments, **options):
    with pytest.raises(AvsalError, match=pattern) as error:
        open_dataset(name, *arguments, **options)
    assert "\n" not in str(error.value)


def test_wrong_names_splits_and_folds(root):
    refused(r"'DIEM' .* there are .*dhf1k, .*, and .* dhf1k:NAME, gaze:NAME and stavis:NAME", "DIEM", root)
    refused("'tased:x' is not a data set", "tased:x", root)
    refused(r"data set 'stavis:../x': '../x' is not a name", "stavis:../x", root)
    refused("data set 'dhf1k:': '' is not a name", "dhf1k:", root)
    refused("avad has no split 'val'; it has train, test", "avad", root, "val", fold=1)
    refused("avad has no split 'Test'", "avad", root, "Test", fold=1)
    refused("avad has the folds 1, 2, 3; no fold was given", "avad", root)
    refused("avad has the folds 1, 2, 3; got 4", "avad", root, fold=4)
    refused("diem has the folds 1, 2, 3; got 0", "diem", root, fold=0)
    refused("ave has no folds; leave the fold 1 out", "ave", root, fold=1)
    refused("dhf1k has no folds", "dhf1k", root, fold=2)
    refused("folds are numbered from 1; got 0", "stavis:AVAD", root, fold=0)


def test_wrong_roots(root, tmp_path):
    refused(
        "there is no folder .*nowhere; the root is where avad was unpacked",
        "avad",
        tmp_path / "nowhere",
        fold=1,
    )
    refused(
        "is not a root in the packaging of STAViS: it has no folder video_frames", "avad", tmp_path, fold=1
    )
    refused(
        "has no etmd: there is no folder video_frames/ETMD_av; video_frames holds AVAD", "etmd", root, fold=1
    )
    refused("has no diem: there is no folder video_frames/DIEM", "ave", root)
    refused("has no folder train or training: videos are searched in", "hollywood2", root, "train")
    refused("has no folder test or testing", "dhf1k", root)
    (tmp_path / "test").mkdir()
    refused("there is no video of the split test in .*test", "ucf", tmp_path)
    (tmp_path / "annotation").mkdir()
    refused("there is no video of the split val in .*annotation or frames", "dhf1k", tmp_path, "val")
    (root / "video_frames" / "AVAD").rename(root / "x")
    (root / "video_frames" / "AVAD").mkdir()
    refused("none of the 3 videos of avad in .* can be used; first_52x36: no images in", "avad", root, fold=1)


def test_lists_that_lead_nowhere(root):
    refused("avad needs its list .*AVAD_list_test_3_fps.txt: unpack fold_lists.tar.gz", "avad", root, fold=3)
    (root / "fold_lists" / "AVAD_list_test_2_fps.txt").write_text("\n \n")
    refused("the list .*AVAD_list_test_2_fps.txt names no video", "avad", root, fold=2)
    refused("cannot read the list .*none.txt: No such file", "avad", root, list_file=root / "none.txt")
    refused("cannot read the list .*: Is a directory", "avad", root, list_file=root)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "the list .* names no video"),
        (
            "first_52x36\n../secret",
            r"list.txt, line 2: '../secret' is not a name of a video; names hold no '/'",
        ),
        ("\n/etc/passwd\n", "list.txt, line 2: '/etc/passwd' is not a name"),
        ("avad ..", "list.txt, line 1: '..' is not a name"),
        ("avad C:\\x", "is not a name of a video"),
        (".. 5 25.0", "list.txt, line 1: '..' is not a name"),
        ("a\x00b", r"'a\\x00b' is not a name"),
        ("a\x1b[31mb", r"'a\\x1b\[31mb' is not a name"),
        ("../x clip1", "list.txt, clip1: '../x' is not a data set"),
        ("ave clip1", "ave is made of several sets; write `set video`, as in `diem clip1`"),
        ("ucf clip1", "ucf clip1 is not in the packaging of avad; open it by itself"),
        ("a b c d", "line 1 has 4 words; a list has `video`, `set video` or `video frames fps`"),
        ("a 5 fast", "line 1: '5 fast' is not a number of frames and a rate, as in `385 24.99975`"),
        ("a 0 25", "'0 25' is not a number of frames"),
        ("a 5 nan", "'5 nan' is not a number of frames"),
        ("a 5 inf", "'5 inf' is not a number of frames"),
        ("a 99999999999 25", "is not a number of frames"),
        ("summe_video", "the rate of avad summe_video is not known: .*write `video frames fps` in your list"),
    ],
)
def test_damaged_lists(root, tmp_path, text, pattern):
    path = tmp_path / "list.txt"
    path.write_text(text)
    refused(pattern, "avad", root, list_file=path)


def test_lists_that_are_no_text(root, tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00")
    refused("list.txt is not a list of videos: it is not UTF-8 text", "avad", root, list_file=path)
    with path.open("wb") as file:
        file.truncate(17_000_000)
    refused("list.txt is too large to be a list of videos", "avad", root, list_file=path)
    refused("zero is too large to be a list", "avad", root, list_file="/dev/zero")  # states no size


def test_a_fold_list_that_climbs_or_is_damaged(root):
    path = root / "fold_lists" / "AVAD_list_test_1_fps.txt"
    path.write_text(f"{NAMES[0]} 6 24.99975\n../../x 5 25\n")
    refused("AVAD_list_test_1_fps.txt, line 2: '../../x' is not a name", "avad", root, fold=1)
    path.write_text(f"{NAMES[0]} 6\n")
    refused("line 1 has 2 words; a fold list has `name frames fps` per line", "avad", root, fold=1)


def test_bad_files_lose_only_their_frame(root):
    truth = root / "annotations" / "AVAD" / NAMES[0]
    (truth / "fixMap_00002.mat").write_bytes(b"no mat file at all")
    scipy.io.savemat(truth / "fixMap_00003.mat", {"fixMap": np.eye(3)})
    (truth / "maps" / "eyeMap_00002.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "video_frames" / "AVAD" / NAMES[0] / "img_00004.jpg").write_text("text")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8) + np.uint8([255, 0, 0])).save(
        truth / "maps" / "eyeMap_00005.jpg"
    )
    entries = open_dataset("avad", root, fold=1)
    assert [(e.name, e.frames) for e in entries] == [(NAMES[0], 6), (NAMES[1], 7), (NAMES[2], 5)]
    for read, pattern in (
        (lambda: entries[0].truth(1).fixations, "fixMap_00002.mat is n.* MATLAB file that can be read"),
        (lambda: entries[0].truth(1).size, "fixMap_00002.mat is n.* MATLAB file that can be read"),
        (
            lambda: entries[0].truth(2).fixations,
            "fixMap_00003.mat has no variable eyeMap; it holds fixMap",
        ),
        (lambda: entries[0].truth(1).density, "eyeMap_00002.jpg is n.* image that can be read"),
        (lambda: entries[0].frame(3), "img_00004.jpg is not an image that can be read"),
        (
            lambda: entries[0].truth(4).density,
            r"eyeMap_00005.jpg is a coloured picture \(mode RGB, .* maps are grey",
        ),
    ):
        with pytest.raises(AvsalError, match=pattern) as error:
            read()
        assert "\n" not in str(error.value)
    assert entries[0].frame(0).shape == entries[0].frame(5).shape == (36, 52, 3)
    assert entries[0].truth(0).density.any() and len(entries[0].truth(5).fixations.points)
    for index in (6, -1):
        with pytest.raises(IndexError, match=f"avad first_52x36 has frames 0 to 5, not {index}"):
            entries[0].frame(index)


def test_what_disagrees_is_noted(root):
    truth, frames = root / "annotations" / "AVAD", root / "video_frames" / "AVAD"
    (truth / NAMES[0] / "maps" / "eyeMap_00003.jpg").unlink()
    (frames / NAMES[1] / "img_00001.jpg").unlink()
    (frames / NAMES[1] / "._img_00002.jpg").write_text("what a Mac leaves behind")
    (frames / NAMES[1] / "thumb_1.jpg").write_text("")
    (root / "video_audio" / "AVAD" / NAMES[1] / f"{NAMES[1]}.wav").unlink()
    for path in (truth / NAMES[2]).glob("fixMap*"):
        path.unlink()
    first, second, third = open_dataset("avad", root, fold=1)
    assert (
        first.frames == 6
        and first.without_truth == 1
        and first.notes
        == (
            "1 of the density maps from 1 to 6 are missing",
            "6 frames in the list, 6 images, 5 density maps, 6 fixation maps: 5 are used",
        )
    )
    with pytest.raises(AvsalError, match="there is no file .*eyeMap_00003.jpg"):
        first.truth(2).density.any()
    assert first.truth(3).density.any() and first.sound is not None
    assert (
        second.frames == 7
        and second.sound is None
        and second.notes
        == (
            f"1 files in {frames / NAMES[1]} are named unlike img_00002.jpg: not used",
            "1 of 7 images are missing (first img_00001.jpg): no network can be run, only saved maps "
            "can be scored",
            f"no sound: there is no file {root / 'video_audio' / 'AVAD' / NAMES[1] / NAMES[1]}.wav",
        )
    )
    with pytest.raises(AvsalError, match="there is no file .*img_00001.jpg"):
        second.frame(0)
    assert second.frame_name(1) == "img_00002.jpg"
    assert third.frames == 5 and third.notes[0] == f"no fixation maps in {truth / NAMES[2]}"
    assert not len(third.truth(0).fixations.points)
    assert third.truth(0).size == (48, 40)


def test_names_that_differ_in_two_numbers_are_refused(root):
    """Of `f1_t40.jpg`, `f2_t80.jpg` ... each name is a form of its own; one of them is not the video."""
    frames = root / "video_frames" / "AVAD" / NAMES[0]
    for number, path in enumerate(sorted(frames.iterdir()), 1):
        path.rename(frames / f"f{number}_t{40 * number}.jpg")
    first, second, _ = open_dataset("avad", root, fold=1)
    assert first.frames == 0 and second.frames > 0
    assert any("differ in more than the number of the frame: 1 are like f" in note for note in first.notes)


def test_maps_in_matlab_files(tmp_path):
    path = tmp_path / "a.mat"
    mask = np.zeros((5, 9))
    mask[[0, 4, 2], [8, 0, 3]] = (1, 1, np.nan)
    for array in (mask, scipy.sparse.csc_matrix(np.nan_to_num(mask))):
        scipy.io.savemat(path, {"eyeMap": array, "other": "text"})
        assert read_fixation_map(path, "eyeMap").fixations.points.tolist() == [[0, 8], [4, 0]]
        assert mat_shape(path, "eyeMap") == (5, 9)
    with pytest.raises(AvsalError, match=r"other in .* is not a map: char of shape"):
        mat_map(path, "other")
    with pytest.raises(AvsalError, match="there is no file"):
        mat_map(tmp_path / "none.mat", "eyeMap")
    for array in (np.zeros((3, 3, 3)), np.array([{}], object)):
        scipy.io.savemat(path, {"eyeMap": array})
        with pytest.raises(AvsalError, match="eyeMap in .* is not a map"):
            mat_map(path, "eyeMap")
    scipy.io.savemat(path, {"eyeMap": np.zeros((0, 4))})
    with pytest.raises(AvsalError, match=r"has shape \(0, 4\); sides are 1 to 10000"):
        mat_shape(path, "eyeMap")


@pytest.mark.parametrize("packed", [False, True])
def test_a_sparse_map_with_a_wrong_index_is_refused(tmp_path, packed):
    """The indices of a sparse matrix are addresses: wrong ones ended the process."""
    path = tmp_path / "a.mat"
    values = np.zeros((9, 7))
    values[range(2, 9), range(7)] = 1
    scipy.io.savemat(path, {"eyeMap": scipy.sparse.csc_matrix(values)}, do_compression=packed)
    content = path.read_bytes()
    np.testing.assert_array_equal(read_fixation_map(path, "eyeMap").fixations.points, np.argwhere(values))
    inside = zlib.decompress(content[136:]) if packed else content
    rows, columns = struct.pack("<7i", *range(2, 9)), struct.pack("<8i", *range(8))
    for right, wrong in (
        (rows, struct.pack("<7i", *range(2, 8), 1_000_000_000)),
        (rows, struct.pack("<7i", *range(2, 8), -1_000_000_000)),
        (columns, struct.pack("<8i", *range(7), 1_000_000_000)),
        (columns, struct.pack("<8i", 0, 1, 1_000_000, 3, 4, 5, 6, 7)),
    ):
        assert right in inside
        changed = inside.replace(right, wrong, 1)
        if packed:
            element = zlib.compress(changed)
            changed = content[:128] + struct.pack("<II", 15, len(element)) + element
        path.write_bytes(changed)
        with pytest.raises(AvsalError, match="a.mat is not a MATLAB file that can be read"):
            read_fixation_map(path, "eyeMap")


def test_numbers_of_an_unknown_type_are_refused(tmp_path):
    """A type that the format does not have ended the process, also under a header that is damaged."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"eyeMap": np.eye(5, dtype=np.uint8)})
    content = buffer.getvalue()
    tag = struct.pack("<II", 2, 25)  # miUINT8, 25 bytes
    for kind in (0, 99):
        for header in (content[:124], content[:124] + b"\x07\x01IM"):
            damaged = header + content[len(header) :].replace(tag, struct.pack("<II", kind, 25), 1)
            (tmp_path / "a.mat").write_bytes(damaged)
            with pytest.raises(AvsalError, match="a.mat is not a MATLAB file that can be read"):
                read_fixation_map(tmp_path / "a.mat", "eyeMap")


def test_version_7_3_is_told_what_to_do(tmp_path):
    path = tmp_path / "a.mat"
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: now".ljust(124)
    path.write_bytes(text + struct.pack("<H", 0x0200) + b"IM" + bytes(384) + b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(AvsalError, match="is a MATLAB 7.3 file, which is not read; .* save it with -v7"):
        mat_map(path, "eyeMap")


def test_absurd_sizes_are_refused_from_the_header(tmp_path):
    """A header may claim anything: here 40,000 x 40,000 doubles, 12.8 GB, in a small file."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"eyeMap": np.zeros((3, 5))})
    blob = buffer.getvalue()
    for rows, columns in ((40_000, 40_000), (3, 10_001)):
        changed = blob.replace(struct.pack("<ii", 3, 5), struct.pack("<ii", rows, columns), 1)
        path = tmp_path / "large.mat"
        path.write_bytes(changed)
        with pytest.raises(AvsalError, match=rf"has shape \({rows}, {columns}\); sides are 1 to 10000"):
            mat_map(path, "eyeMap")
    path.write_bytes(blob.replace(struct.pack("<ii", 3, 5), struct.pack("<ii", 30, 50), 1))
    with pytest.raises(AvsalError, match="large.mat is not a MATLAB file that can be read"):
        mat_map(path, "eyeMap")
    other = io.BytesIO()
    scipy.io.savemat(other, {"eyeMap": np.zeros((2, 4))})
    path.write_bytes(blob + other.getvalue()[128:])  # two variables of one name
    with pytest.raises(AvsalError, match=r"is damaged: eyeMap has shape \(3, 5\), its header says \(2, 4\)"):
        mat_map(path, "eyeMap")
    for cut in (130, 150, 200, len(blob) - 8):
        path.write_bytes(blob[:cut])
        with pytest.raises(AvsalError, match="large.mat"):
            mat_map(path, "eyeMap")


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mat_files, "_MAX_BYTES", 200_000)
    path = tmp_path / "bomb.mat"
    packed = zlib.compress(bytes(2_000_000), 9)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(AvsalError, match="bomb.mat is too large: unpacked, it has more than 200000 bytes"):
        mat_map(path, "eyeMap")
    scipy.io.savemat(path, {"eyeMap": np.eye(90)}, do_compression=True)  # 64,800 bytes: allowed
    assert mat_map(path, "eyeMap").sum() == 90
    scipy.io.savemat(path, {"eyeMap": np.eye(400)})
    with pytest.raises(AvsalError, match="bomb.mat is too large: [0-9]+ bytes; 200000 are read"):
        mat_map(path, "eyeMap")
