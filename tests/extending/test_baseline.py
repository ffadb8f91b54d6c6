"""A baseline and a protocol of plugins, by name."""

import json

import numpy as np
import pytest

from avsal_jax.cli.main import main
from avsal_jax.testing import fake_data


@pytest.fixture(autouse=True)
def plugins(plugin):
    plugin("upper_third")
    plugin("from_fifth")


@pytest.fixture
def arguments(tmp_path):
    videos = [fake_data.fake_video("video", 7, (24, 32))]
    root = fake_data.write_stavis(tmp_path / "data", "DIEM", videos, {"test": ("video",), "train": ()})
    return ["evaluate", "--dataset", "diem", "--root", str(root), "--output", str(tmp_path / "out")]


def test_a_baseline_is_evaluated(arguments, tmp_path, capsys):
    assert main([*arguments, "--model", "upper_third", "--metrics", "nss"]) == 0
    assert "| **upper third** |" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["protocol"] == "vinet"


def test_a_protocol_chooses_the_frames(arguments, tmp_path):
    assert main([*arguments, "--model", "centre", "--protocol", "from_fifth", "--metrics", "cc"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["protocol"], summary["frames"]) == ("from_fifth", 3)
    rows = (tmp_path / "out" / "frames.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[1]) for row in rows] == [5, 6, 7]
    mean = np.mean([float(row.split(",")[2]) for row in rows])
    assert summary["metrics"]["cc"]["mean"] == pytest.approx(mean)


def test_help_lists_what_plugins_add(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "human_half, upper_third" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_protocol_is_one_line(arguments, capsys):
    assert main([*arguments, "--model", "centre", "--protocol", "from_fith"]) == 2
    assert "avsal: unknown protocol 'from_fith' (did you mean 'from_fifth'?)" in capsys.readouterr().err
