"""docs/papers.md is true of the code: its values are those of the configs, its rows and fields exist."""

import functools
import re

import pytest

from avsal_jax.training import recipes
from avsal_jax.training.overrides import config_values
from avsal_jax.training.schema import build_config, plain_values
from tests.training.test_literal_rows import LITERAL

FIELD = re.compile(
    r"`((?:model|loss|data|optimizer|evaluation|objective|init|early_stop|epochs)\b[\w.]*=[^`]+)`"
)
ROW = re.compile(r"`([a-z]\w+:\w+)`")


@functools.cache
def values_of(config, *fields):
    return plain_values(build_config(config_values(config, [f"--config.{field}" for field in fields])))


@pytest.fixture(scope="module")
def text(tests_dir):
    return (tests_dir.parent / "docs/papers.md").read_text()


@pytest.fixture(scope="module")
def entries(text):
    """(config that the table is of, or None; heading of the column; cell) of every table."""
    cells_of_tables, config, header = [], None, None
    for line in text.splitlines():
        if match := re.fullmatch(r"In `([\w:]+)`:", line):
            config = match.group(1)
        elif line.startswith("#"):
            config = None
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
        elif not set(line) <= set("|-"):
            assert len(cells) == len(header), line
            cells_of_tables += [(config, *pair) for pair in zip(header, cells, strict=True)]
    return cells_of_tables


def test_values_that_are_chosen_are_those_of_the_configs(entries):
    checked = 0
    for config, column, cell in entries:
        if config and column == "here" and (fields := FIELD.findall(cell)):
            assert values_of(config, *fields) == values_of(config), f"{config}: {fields}"
            checked += len(fields)
    assert checked > 100


def test_the_printed_forms_are_other_values_that_the_configs_take(entries):
    checked = 0
    for config, column, cell in entries:
        for field in FIELD.findall(cell) if config and column == "as printed" else ():
            if field != "model.fusion.output=false":  # it goes with model.fusion.width=0.5
                assert values_of(config, field) != values_of(config), f"{config}: {field}"
            checked += 1
    assert checked > 20
    values_of("avrsp_av:audio_visual", "model.fusion.output=false", "model.fusion.width=0.5")
    assert values_of("vinet_dhf1k", "early_stop.patience=5")["early_stop"]["patience"] == 5


def test_rows_that_are_named_build(text):
    rows = set(ROW.findall(text))
    assert set(LITERAL) <= rows and len(rows) > 40
    for row in rows:
        values_of(row)


def test_configs_of_the_papers_lead_to_the_page(tests_dir):
    names = [name for name in recipes.shipped() if name not in ("gaze", "sound_classes")]
    assert len(names) == 21
    for name in names:
        assert "docs/papers.md" in recipes.recipe(name).about, name
    for page in ("README.md", "configs/README.md", "docs/training.md"):
        assert "papers.md" in (tests_dir.parent / page).read_text()
