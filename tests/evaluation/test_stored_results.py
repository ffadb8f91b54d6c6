"""Part files come back as they were written; damaged ones count as not written."""

import json

import pytest

from avsal_jax.evaluation.stored_results import part_path, read_part_file, write_part

PART = {"job": {"seed": 0}, "label": "é", "fps": 24.99975, "rows": [[1, 0.1, None], [2, 1e-300, 0.3]]}


def test_a_part_comes_back(tmp_path):
    path = part_path(tmp_path, "video")
    assert read_part_file(path) is None
    write_part(path, PART)
    assert read_part_file(path) == PART and path == tmp_path / "parts" / "video.json"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("0.3", "0.8"),
        lambda text: text.replace("null", "0"),
        lambda text: text[:-5],
        lambda text: "[" * 100_000,
        lambda text: "5",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: json.dumps({**json.loads(text), "digest": None}),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: "\xff" + text,
    ],
)
def test_damage_is_seen(tmp_path, change):
    path = part_path(tmp_path, "video")
    write_part(path, PART)
    path.write_bytes(change(path.read_text()).encode("latin-1"))
    assert read_part_file(path) is None


def test_other_spaces_are_no_damage(tmp_path):
    path = part_path(tmp_path, "video")
    write_part(path, PART)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert read_part_file(path) == PART
