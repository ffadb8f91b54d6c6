"""Sets of recorded gaze by name: splits, folds, lists, groups, options."""

import numpy as np
import pytest

from avsal_jax import AvsalError, registry
from avsal_jax.data.gaze.gaze_sets import placements
from avsal_jax.data.gaze.stimuli import GazeOptions
from avsal_jax.data.sets.datasets import find_dataset, open_dataset, open_entire
from avsal_jax.testing.fake_gaze import (
    WRITERS,
    fake_clips,
    fake_photographs,
    fake_stimulus,
    write_recordings,
)

SETS = ("osie", "eyecrowd", "sun_scenes", "hevc_gaze")
PHOTOGRAPHS = {
    "osie": ("1001", "1002", "1004", "9999"),
    "eyecrowd": ("001", "002", "008", "unknown"),
    "sun_scenes": ("001", "002", "005", "zzz"),
}
RECORDINGS = (fake_stimulus("a"), fake_stimulus("b", frames=20), fake_stimulus("c"))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gaze")
    for name in SETS:
        writer = WRITERS[find_dataset(name).packaging.reader]
        truth = fake_photographs(PHOTOGRAPHS[name]) if name in PHOTOGRAPHS else fake_clips()
        writer(folder / name, truth)
    write_recordings(folder / "own", RECORDINGS)
    return folder


def names(entries) -> list[str]:
    return [entry.name for entry in entries]


def test_every_set_of_recorded_gaze_has_a_reader_and_a_list():
    rows = registry.table("dataset").items()
    assert [name for name, row in rows if row.packaging.has_observers] == list(SETS)
    assert {find_dataset(name).packaging.reader for name in SETS} == set(WRITERS)
    for name in SETS:
        assert placements(name)
        for group in {place.group for place in placements(name).values()} - {""}:
            parts = {place.part for place in placements(name).values() if place.group == group}
            assert len(parts) == 1, f"{name}: {group} is in several parts"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_tested_or_trained_on(roots, name):
    splits = {split: names(open_dataset(name, roots / name, split)) for split in ("train", "test", "all")}
    *known_names, unknown = PHOTOGRAPHS[name]
    assert splits["all"] == [*known_names, unknown]
    assert splits["test"] == [stem for stem in known_names if placements(name)[stem].part == 0]
    assert splits["train"] == [stem for stem in splits["all"] if stem not in splits["test"]]
    _, notes = open_entire(name, roots / name)
    assert notes[-1] == f"1 stimuli are in no list of the project, as {unknown}: never tested"


def test_clips_are_tested_in_one_fold(roots):
    root, clips = roots / "hevc_gaze", sorted(clip.name for clip in fake_clips())
    tested = []
    for fold in range(1, 6):
        lists = placements("hevc_gaze")
        clips_of_fold = [name for name in clips if lists[name].part == fold]
        rest = [name for name in clips if lists[name].part != fold]
        if any(name != "Kimono" for name in clips_of_fold):  # whose clip is missing
            assert names(open_dataset("hevc_gaze", root, "test", fold)) == clips_of_fold
            tested += clips_of_fold
        assert names(open_dataset("hevc_gaze", root, "train", fold)) == rest
    assert {*tested, "Kimono"} == set(clips)
    assert names(open_dataset("hevc_gaze", root, "test")) == clips
    assert names(open_dataset("hevc_gaze", root, "all")) == clips


def test_near_duplicates_share_a_group_and_a_fold(roots):
    groups = {entry.name: entry.group for entry in open_dataset("hevc_gaze", roots / "hevc_gaze", "all")}
    assert groups["BasketballDrill"] == groups["BasketballDrillText"] != groups["BasketballDrive"]
    assert groups["Traffic"] == "Traffic"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "train"}, "has the folds 1, 2, 3, 4, 5; no fold was given"),
        ({"fold": 6}, "has the folds 1, 2, 3, 4, 5; got 6"),
        ({"split": "all", "fold": 1}, "the split all of hevc_gaze has no folds"),
        ({"split": "val"}, "has no split 'val'; it has train, test, all"),
    ],
)
def test_splits_and_folds_that_do_not_exist(roots, arguments, words):
    with pytest.raises(AvsalError, match=words):
        open_dataset("hevc_gaze", roots / "hevc_gaze", **arguments)


def test_photographs_have_no_folds(roots):
    with pytest.raises(AvsalError, match="osie has no folds; leave the fold 1 out"):
        open_dataset("osie", roots / "osie", fold=1)


def test_a_list_of_the_user(roots, tmp_path):
    path = tmp_path / "clips.txt"
    path.write_text("Traffic\nBasketballDrill\n")
    entries = open_dataset("hevc_gaze", roots / "hevc_gaze", "train", list_file=path)
    assert names(entries) == ["Traffic", "BasketballDrill"]
    path.write_text("Traffic\nNowhere\n")
    with pytest.raises(AvsalError, match="hevc_gaze has no stimulus 'Nowhere' in .*; it has 7 others"):
        open_dataset("hevc_gaze", roots / "hevc_gaze", list_file=path)
    path.write_text("Kimono\n")
    with pytest.raises(AvsalError, match="none of the 1 stimuli .* can be used; Kimono: there is no clip"):
        open_dataset("hevc_gaze", roots / "hevc_gaze", list_file=path)


def test_a_list_of_names_with_spaces_and_of_the_set_alone(tmp_path):
    root = write_recordings(tmp_path / "own", [fake_stimulus("my photo"), fake_stimulus("b")])
    path = tmp_path / "list.txt"
    path.write_text("my photo\ngaze:mine b\nb\n")
    assert names(open_dataset("gaze:mine", root, list_file=path)) == ["my photo", "b"]
    path.write_text("gaze:other b\n")
    with pytest.raises(AvsalError, match="line 1 names the set gaze:other, and this is gaze:mine"):
        open_dataset("gaze:mine", root, list_file=path)
    path.write_text("my photos\n")
    with pytest.raises(AvsalError, match="no stimulus 'my photos' .* .did you mean 'my photo'"):
        open_dataset("gaze:mine", root, list_file=path)


def test_own_recordings_have_all_stimuli_or_those_of_their_lists(roots, tmp_path):
    root = write_recordings(tmp_path / "own", RECORDINGS)
    for split in ("train", "val", "test", "all"):
        assert names(open_dataset("gaze:mine", root, split)) == ["a", "b", "c"]
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text("\ufeffc\n\na\nc\n", encoding="utf-8")
    assert names(open_dataset("gaze:mine", root, "train")) == ["c", "a"]
    assert names(open_dataset("gaze:mine", root, "all")) == ["a", "b", "c"]
    assert names(open_dataset("gaze:mine", root, "test")) == ["b"]  # what no other list names
    note = "no list of val or test: it has the stimuli that no other list names"
    assert note in open_entire("gaze:mine", root)[1]
    (root / "lists" / "test.txt").write_text("b\n")
    with pytest.raises(AvsalError, match="gaze:mine has no val: lists/ has no val.txt, and its other lists"):
        open_dataset("gaze:mine", root, "val")
    (root / "lists" / "test.txt").write_text("d\n")
    with pytest.raises(AvsalError, match="test.txt names 'd', which is not among 3 stimuli with gaze"):
        open_dataset("gaze:mine", root, "test")
    (root / "lists" / "test.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(AvsalError, match="cannot read the list .*test.txt"):
        open_dataset("gaze:mine", root, "test")
    (root / "lists" / "test.txt").write_text("")
    with pytest.raises(AvsalError, match="none of the 0 stimuli of gaze:mine"):
        open_dataset("gaze:mine", root, "test")


def test_own_recordings_are_read_as_they_were_written(roots):
    for entry, truth in zip(open_dataset("gaze:mine", roots / "own", "all"), RECORDINGS, strict=True):
        table = entry.stimulus.fixations
        assert entry.frames == truth.frames and entry.is_still == (truth.frames == 1)
        rows = np.stack([table.observer, table.x, table.y, table.start, table.duration], 1)
        np.testing.assert_allclose(rows, truth.rows, atol=1e-9)


@pytest.mark.parametrize("name", SETS)
def test_drop_first(roots, name):
    """Without times, the first of each observer; with times, those that began at 0 or before."""
    options = GazeOptions(drop_first=True)
    for split in ("all",):
        all_entries = open_dataset(name, roots / name, split)
        later = open_dataset(name, roots / name, split, gaze=options)
        for entry, dropped in zip(all_entries, later, strict=True):
            table, rest = entry.stimulus.fixations, dropped.stimulus.fixations
            if name in ("osie", "eyecrowd"):
                keep = [
                    index
                    for index in range(len(table))
                    if index and table.observer[index] == table.observer[index - 1]
                ]
            else:
                keep = np.flatnonzero(table.start > 0)
            np.testing.assert_array_equal(rest.x, table.x[keep])
            count = len(table) - len(keep)
            assert f"{count} first fixations are left out (--drop-first)" in dropped.notes


def test_a_set_is_read_again_when_a_file_changes(tmp_path):
    root = write_recordings(tmp_path / "own", RECORDINGS[:1])
    (before,) = open_dataset("gaze:mine", root)
    text = (root / "fixations.csv").read_text()
    (root / "fixations.csv").write_text(text + "a.png,person 9,3,4,0,200\n")
    (after,) = open_dataset("gaze:mine", root)
    assert len(after.stimulus.fixations) == len(before.stimulus.fixations) + 1
    assert before.identity() != after.identity()


def test_names_of_own_sets_lead_nowhere(tmp_path):
    for name in ("gaze:", "gaze:../x", "gaze:a/b"):
        with pytest.raises(AvsalError, match="name of a video; names hold"):
            open_dataset(name, tmp_path)
