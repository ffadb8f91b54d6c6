"""The table of data sets: what each row says, and what other modules read from it."""

import re

import pytest

from avsal_jax import AvsalError, registry
from avsal_jax.data import DataSet, Dhf1k, Generator, find_dataset, open_dataset
from avsal_jax.data.sets.dataset import group_names
from avsal_jax.data.sets.datasets import open_packaging
from avsal_jax.plugins import isolated
from avsal_jax.registry import register
from avsal_jax.testing import fake_data

ROWS = registry.table("dataset")
SIX = ("diem", "coutrot1", "coutrot2", "avad", "etmd", "summe")  # Fan et al. 2022, Tables 3 and 4


def names(condition) -> set[str]:
    return {name for name, row in ROWS.items() if condition(row)}


def test_every_row_describes_itself():
    for name, row in ROWS.items():
        assert row.title and row.about and row.licence and row.source, name
        assert type(row.packaging) in registry.table("packaging").values()
        assert row.protocol in registry.table("protocol")


def test_what_used_to_be_decided_by_name():
    assert group_names("six") == SIX
    assert names(lambda row: row.single_split) == {"diem"}
    assert names(lambda row: row.made_of) == {"ave"} and ROWS["ave"].made_of == SIX[:3]
    assert names(lambda row: row.generator is not None) == {"synthetic"}
    assert names(lambda row: row.observers is not None) == {"diem", "coutrot1", "coutrot2", "synthetic"}
    assert names(lambda row: row.protocol == "dhf1k") == {"dhf1k", "hollywood2", "ucf"}
    assert names(lambda row: row.protocol == "gaze") == names(lambda row: row.packaging.has_observers)
    assert isinstance(ROWS["synthetic"].generator, Generator)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("diem", [("train", None), ("test", None)]),
        ("avad", [(split, fold) for split in ("train", "test") for fold in (1, 2, 3)]),
        ("dhf1k", [("train", None), ("val", None), ("test", None)]),
        ("osie", [("train", None), ("test", None)]),
        ("stavis:Mine", [("train", None), ("train", 1), ("test", 2)]),
        ("stavis:Other", [("train", None)]),
    ],
)
def test_the_splits_and_folds_that_are_prepared(tmp_path, name, parts):
    video = fake_data.fake_video("v")
    lists = {"train": ("v",), "train_1": ("v",), "test_2": ("v",), "test_x": ("v",)}
    fake_data.write_stavis(tmp_path, "Mine", [video], lists)
    assert list(open_packaging(name, tmp_path).parts()) == parts


def test_a_split_that_does_not_exist_is_refused():
    with pytest.raises(AvsalError, match="Mine: 'dev' is not a split; splits are train, val, test, all"):
        DataSet(title="Mine", packaging=Dhf1k(), splits=("train", "dev"))


def test_only_some_packagings_take_sets_that_are_not_registered():
    for name in ("shots:mine", "rearranged:mine", "nothing:mine"):
        with pytest.raises(AvsalError, match=f"'{name}' is not a data set"):
            find_dataset(name)


def test_a_row_that_is_added_is_found_until_it_is_taken_away():
    with isolated():
        register("dataset", "films")(DataSet(title="Films", packaging=Dhf1k(), fps=24.0))
        assert find_dataset("films").fps == 24
    with pytest.raises(AvsalError, match="'films' is not a data set"):
        find_dataset("films")


def test_the_layout_of_the_page_on_your_own_set_is_read(tests_dir, tmp_path):
    page = (tests_dir.parent / "docs/datasets/own.md").read_text()
    (code,) = re.findall(r"```\n(from avsal_jax import register.*?)```", page, re.DOTALL)
    fake_data.write_rearranged(tmp_path, "test", [fake_data.fake_video("park", 3)])
    for before, after in (("images", "rgb"), ("maps", "saliency"), ("fixation", "fixated")):
        (tmp_path / "test" / "park" / before).rename(tmp_path / "test" / "park" / after)
    with isolated():
        exec(compile(code, "own.md", "exec"), {"__name__": "__main__"})
        (entry,) = open_dataset("walks", tmp_path)
        assert (entry.name, entry.frames, entry.fps, entry.dataset) == ("park", 3, 25.0, "walks")
        assert entry.has_truth(2) and entry.has_fixations
