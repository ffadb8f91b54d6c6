"""Each packaging read back, against what was written and against other libraries' readers."""

import csv
import pickle
import re
import wave

import av
import matplotlib.image
import numpy as np
import pytest

from avsal_jax.data.sets.datasets import find_dataset, open_dataset
from avsal_jax.testing import fake_data

DIEM_NAMES = ("BBC_life_in_cold_blood_1278x710", "DIY_SOS_1280x712", "advert_bbc4_library_1024x576")


def decoded(path):
    """An image as FFmpeg decodes it."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def agrees(entry, video, exact):
    """Compares all that an entry reads with what was written; `exact` where the files lose nothing."""
    assert entry.name == video.name
    for index in range(entry.frames):
        frame, density = entry.frame(index), entry.truth(index).density
        assert frame.dtype == np.uint8 and density.dtype == np.float64
        height, width = video.densities.shape[1:]
        assert frame.shape == (height, width, 3) and density.shape == (height, width)
        tolerance = 0 if exact else 4  # grey levels that JPEG loses
        assert np.abs(frame.astype(int) - video.frames[index]).max() <= tolerance
        assert np.abs(density * 255 - video.densities[index]).max() <= tolerance + 1e-9
        points = entry.truth(index).fixations.points
        assert points.dtype == np.int32 and points.shape == (len(video.fixations[index]), 2)
        np.testing.assert_array_equal(points, video.fixations[index])
        assert entry.truth(index).size == (height, width)


@pytest.fixture(scope="module")
def stavis(tmp_path_factory):
    """Three sets in one root. The list of DIEM is not in alphabetical order and has a blank line."""
    root = tmp_path_factory.mktemp("stavis")
    diem = fake_data.fake_videos(DIEM_NAMES)
    order = (DIEM_NAMES[2], DIEM_NAMES[0], DIEM_NAMES[1])
    fake_data.write_stavis(root, "DIEM", diem, {"test": order, "train": ()})
    path = root / "fold_lists" / "DIEM_list_test_fps.txt"
    path.write_text(path.read_text().replace("\n", "\n\n", 1))
    coutrot = fake_data.fake_videos(("clip3", "clip8", "clip10"))
    fake_data.write_stavis(root, "Coutrot_db1", coutrot)
    avad = fake_data.fake_videos(("V1_Speech", "V2_Harp", "V10_Dog"))
    fake_data.write_stavis(root, "AVAD", avad, {"test_2": ("V10_Dog", "V1_Speech")})
    return root, {v.name: v for v in (*diem, *coutrot, *avad)}


def test_the_packaging_of_stavis(stavis):
    root, videos = stavis
    entries = open_dataset("diem", root)
    assert [e.name for e in entries] == [DIEM_NAMES[2], DIEM_NAMES[0], DIEM_NAMES[1]]
    assert [e.fps for e in entries] == [24.99975, 24.99975, 29.9997]
    assert [(e.frames, e.listed_frames) for e in entries] == [(5, 6), (6, 6), (7, 7)]
    assert all(e.dataset == "diem" and e.published for e in entries)
    for entry in entries:
        agrees(entry, videos[entry.name], exact=False)
    assert entries[0].notes == (
        "6 frames in the list, 5 images, 5 density maps, 5 fixation maps: 5 are used",
    )
    assert entries[1].notes == entries[2].notes == ()
    assert [e.category for e in entries] == ["Other", "Nature", "Other"]


def test_jpeg_frames_and_maps_are_those_that_other_libraries_decode(stavis):
    root, _ = stavis
    entry = open_dataset("diem", root)[1]
    folder = root / "video_frames" / "DIEM" / entry.name
    assert [entry.frame_name(i) for i in (0, 5)] == ["img_00001.jpg", "img_00006.jpg"]
    for index in range(entry.frames):
        np.testing.assert_allclose(entry.frame(index), decoded(folder / f"img_{index + 1:05d}.jpg"), atol=3)
        path = root / "annotations" / "DIEM" / entry.name / "maps" / f"eyeMap_{index + 1:05d}.jpg"
        np.testing.assert_allclose(entry.truth(index).density * 255, decoded(path)[..., 0], atol=3)
    assert entry.truth(0).density.max() > 0.95


def test_black_truth_is_black_and_without_fixations(stavis):
    root, videos = stavis
    entry = open_dataset("diem", root)[2]
    black = [i for i in range(entry.frames) if not entry.truth(i).density.any()]
    assert tuple(black) == videos[entry.name].black == (0, 4)
    assert entry.truth(0).fixations.points.shape == (0, 2) and entry.truth(0).size == (40, 64)


def test_the_sound_is_the_one_that_was_written(stavis):
    root, videos = stavis
    entry = open_dataset("diem", root)[1]
    with wave.open(str(entry.sound)) as file:
        assert (file.getframerate(), file.getnchannels()) == (fake_data.SAMPLE_RATE, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_767
    np.testing.assert_allclose(samples, videos[entry.name].sound, atol=1e-4)


def test_folds_come_from_the_root_or_from_the_shipped_lists(stavis):
    root, _ = stavis
    assert [open_dataset("diem", root, fold=fold) for fold in (1, 2, 3)] == [open_dataset("diem", root)] * 3
    (first, second) = open_dataset("avad", root, fold=2)
    assert (first.name, first.frames, first.fps, first.listed_frames) == ("V10_Dog", 5, 24.99975, 6)
    assert second.name == "V1_Speech" and second.category is None
    # Coutrot has no lists in this root: the shipped ones name 20 clips of fold 2, of which we have some.
    entries = open_dataset("coutrot1", root, fold=2)
    assert len(entries) == 20 and {e.fps for e in entries} == {24.99975}
    available = [e for e in entries if e.frames]
    assert [e.name for e in available] == ["clip3", "clip8"]
    absent = next(e for e in entries if not e.frames)
    assert absent.notes[0] == f"no images in {root / 'video_frames' / 'Coutrot_db1' / absent.name}"
    with pytest.raises(IndexError, match="has frames 0 to -1, not 0"):
        absent.frame(0)


@pytest.fixture(scope="module")
def empty_stavis(tmp_path_factory):
    """A root with one video of each of the three sets, without lists."""
    root = tmp_path_factory.mktemp("shipped")
    for folder, name in (
        ("DIEM", "planet_earth_jungles_monkeys_1280x704"),
        ("Coutrot_db1", "clip4"),
        ("Coutrot_db2", "clip4"),
    ):
        fake_data.write_stavis(root, folder, [fake_data.fake_video(name, 1)])
    return root


@pytest.mark.parametrize(
    ("name", "train", "test", "fps"),
    [("diem", 64, 17, 29.9997), ("coutrot1", 40, 20, 24.99975), ("coutrot2", 10, 5, 24.99975)],
)
def test_the_shipped_folds_are_partitions_of_the_published_sizes(tmp_path, name, train, test, fps):
    # Each video that any list names is there, so that every split opens.
    for number in (1, 2, 3):
        names = []
        for split, count in (("train", train), ("test", test)):
            rows = gasp_rows(f"{split}_stavis_{number}", name)
            root = tmp_path / f"{number}{split}"
            video = fake_data.fake_video(rows[0], 1)
            fake_data.write_stavis(root, find_dataset(name).packaging.folder, [video])
            entries = open_dataset(name, root, split, fold=number)
            assert [e.name for e in entries] == rows and len(rows) == count
            assert {e.fps for e in entries} == {fps} and {e.listed_frames for e in entries} == {None}
            names += rows
        assert len(set(names)) == train + test
        if name != "diem":
            assert set(names) == {f"clip{i}" for i in range(1, train + test + 1)}


def gasp_rows(name, dataset):
    """Names in a shipped file, by way of the plain text and the two renamings."""
    path = f"{__file__.rsplit('/tests/', 1)[0]}/avsal_jax/data/lists/gasp/{name}.csv"
    with open(path, encoding="utf-8") as file:
        names = [row[0] for row in csv.reader(file) if row[3] == dataset]
    names = [re.sub(r"^clip_(\d+)$", r"clip\1", n) for n in names]
    return [re.sub("monkeys_1280x70$", "monkeys_1280x704", n) for n in names]


def test_ave_is_made_of_three_sets_with_categories(empty_stavis):
    sizes = {split: open_dataset("ave", empty_stavis, split) for split in ("train", "val", "test")}
    assert [len(entries) for entries in sizes.values()] == [93, 29, 29]
    # By source, and by category: the counts of the AVE lists (hrtavakoli/AVE @c0ad0ee1).
    by_source = [
        [sum(e.dataset == s for e in entries) for s in ("coutrot1", "coutrot2", "diem")]
        for entries in sizes.values()
    ]
    assert by_source == [[43, 12, 38], [8, 2, 19], [9, 1, 19]]
    by_category = [
        [sum(e.category == c for e in entries) for c in ("Social", "Nature", "Other")]
        for entries in sizes.values()
    ]
    assert by_category[1:] == [[16, 6, 7], [11, 10, 8]]
    assert by_category[0][1:] in ([18, 37], [19, 37]) and sum(by_category[0]) == 93
    monkeys = next(e for e in sizes["test"] if "monkeys" in e.name)
    assert monkeys.frames == 1 and monkeys.fps == 29.9997


def test_list_files_of_users(stavis, tmp_path):
    root, videos = stavis
    path = tmp_path / "domain.txt"
    path.write_text(
        "diem DIY_SOS_1280x712\n\n  coutrot1   clip8  \navad V10_Dog\nDIY_SOS_1280x712\nclip3 4 12.5"
    )
    entries = open_dataset("diem", root, list_file=path)
    rows = [(e.dataset, e.name, e.frames, e.fps) for e in entries]
    assert rows == [
        ("diem", "DIY_SOS_1280x712", 7, 29.9997),
        ("coutrot1", "clip8", 7, 24.99975),
        ("avad", "V10_Dog", 5, 24.99975),
        ("diem", "clip3", 0, 12.5),
    ]
    assert entries[0].notes == ("domain.txt lists it more than once",)
    agrees(entries[1], videos["clip8"], exact=False)


def test_ones_own_set_in_the_packaging_of_stavis(tmp_path):
    videos = fake_data.fake_videos()
    names = tuple(v.name for v in videos)
    fake_data.write_stavis(tmp_path, "Mine", videos, {"val_4": names, "train": names[:1]})
    entries = open_dataset("stavis:Mine", tmp_path, "val", fold=4)
    assert [e.dataset for e in entries] == ["stavis:Mine"] * 3 and all(e.category is None for e in entries)
    for entry, video in zip(entries, videos, strict=True):
        agrees(entry, video, exact=False)
    assert [e.name for e in open_dataset("stavis:Mine", tmp_path, "train")] == [names[0]]


@pytest.mark.parametrize("fixation", ["png", "mat", "mat with maps"])
def test_dhf1k_as_released(tmp_path, fixation):
    videos = fake_data.fake_videos(("0600", "0601", "0007"))
    fake_data.write_dhf1k(tmp_path, videos, fixation)
    fake_data.write_dhf1k(tmp_path, [fake_data.fake_video("0701", 3)], "withheld")
    (seven, six_hundred) = open_dataset("dhf1k", tmp_path, "train")
    assert [e.name for e in (seven, six_hundred)] == ["0007", "0600"]
    (validation,) = open_dataset("dhf1k", tmp_path, "val")
    for entry, video in ((seven, videos[2]), (six_hundred, videos[0]), (validation, videos[1])):
        agrees(entry, video, exact=True)
        assert (entry.fps, entry.listed_frames, entry.sound, entry.notes) == (30.0, None, None, ())
        assert entry.frames == len(video.frames) and entry.frame_name(0) == "0001.png"
    (test,) = open_dataset("dhf1k", tmp_path, "test")
    assert (test.name, test.frames, test.published, test.notes) == ("0701", 3, False, ())
    assert test.truth(0) is None
    assert test.frame(2).shape == (36, 52, 3)
    list_file = tmp_path / "list.txt"
    list_file.write_text("007\n")
    (entry,) = open_dataset("dhf1k", tmp_path, list_file=list_file)
    assert entry.frames == 5


def test_frames_of_three_digit_videos_are_found(tmp_path):
    fake_data.write_dhf1k(tmp_path, [fake_data.fake_video("0002", 2)])
    (tmp_path / "frames").rename(tmp_path / "old")
    (tmp_path / "video").mkdir()
    (tmp_path / "old" / "0002").rename(tmp_path / "video" / "002")
    (entry,) = open_dataset("dhf1k", tmp_path, "train")
    assert (entry.name, entry.frames) == ("0002", 2)


def test_dhf1k_rearranged(tmp_path):
    videos = fake_data.fake_videos(("0010", "0009", "0601"))
    fake_data.write_rearranged(tmp_path, "train", videos[:2])
    fake_data.write_rearranged(tmp_path, "val", videos[2:])
    entries = open_dataset("dhf1k", tmp_path, "train")
    assert [e.name for e in entries] == ["0009", "0010"]
    agrees(entries[0], videos[1], exact=True)
    agrees(open_dataset("dhf1k", tmp_path, "val")[0], videos[2], exact=True)
    path = tmp_path / "train" / "0009" / "fixation" / "0002.png"
    image = matplotlib.image.imread(path)
    np.testing.assert_array_equal(entries[0].truth(1).fixations.points, np.argwhere(image > 0.5))


def test_ones_own_set_like_dhf1k(tmp_path):
    train, test = fake_data.fake_video("same", 2, seed=4), fake_data.fake_video("same", 3, seed=5)
    fake_data.write_rearranged(tmp_path, "train", [train])
    fake_data.write_rearranged(tmp_path, "test", [test])
    (entry,) = open_dataset("dhf1k:mine", tmp_path, "test")
    agrees(entry, test, exact=True)
    assert (entry.dataset, entry.fps) == ("dhf1k:mine", 30.0)
    (entry,) = open_dataset("dhf1k:mine", tmp_path, "train")
    agrees(entry, train, exact=True)
    for kind in ("maps", "fixation"):
        (tmp_path / "test" / "same" / kind).rename(tmp_path / kind)
    (entry,) = open_dataset("dhf1k:mine", tmp_path, "test")
    assert (entry.frames, entry.published, entry.truth(0)) == (3, False, None)


def test_shots_of_hollywood_2_begin_where_the_one_before_ended(tmp_path):
    videos = [fake_data.fake_video(f"actioncliptest00001_{i}", i % 3 + 1, seed=i) for i in (1, 2, 10)]
    for video, first in zip(videos, (1, 122, 900), strict=True):
        fake_data.write_rearranged(tmp_path, "testing", [video], "actioncliptest00001_{:05d}.png", first)
    entries = open_dataset("hollywood2", tmp_path)
    assert [e.name for e in entries] == [v.name for v in videos]  # 2 before 10
    for entry, video in zip(entries, videos, strict=True):
        agrees(entry, video, exact=True)
        assert (entry.fps, entry.notes, entry.frames) == (24.0, (), len(video.frames))
    assert entries[1].frame_name(2) == "actioncliptest00001_00124.png"


def test_ucf_sports(tmp_path):
    video = fake_data.fake_video("Diving-Side-001", 4, (45, 80))
    fake_data.write_rearranged(tmp_path, "training", [video], "2538-5_70133_{:03d}.png")
    (entry,) = open_dataset("ucf", tmp_path, "train")
    agrees(entry, video, exact=True)
    assert entry.fps == 24.0 and entry.frame_name(3) == "2538-5_70133_004.png"


def test_entries_travel_between_processes(stavis):
    entries = open_dataset("diem", stavis[0])
    copies = pickle.loads(pickle.dumps(entries))
    assert copies == entries
    np.testing.assert_array_equal(copies[0].frame(1), entries[0].frame(1))
