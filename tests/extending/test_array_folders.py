"""A data set in a layout that the package does not have, through every command that takes a data set."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, registry
from avsal_jax.cli.main import main
from avsal_jax.data import find_dataset, open_dataset
from avsal_jax.plugins import isolated, load_plugins
from avsal_jax.testing.videos import moving_spot
from tests.training.conftest import TINY

PLUGIN = pathlib.Path(__file__).parent / "plugins" / "array_folders.py"
FRAMES, SIZE = 10, (32, 64)
SPLITS = {"train": ("hall", "stairs"), "test": ("garden",)}
CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({values})
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walks")
    for split, names in SPLITS.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
        for number, name in enumerate(names):
            (folder / name / "frames").mkdir(parents=True)
            for index, image in enumerate(moving_spot(FRAMES, *SIZE), 1):
                Image.fromarray(image).save(folder / name / "frames" / f"{index:04d}.png")
            density = np.zeros((FRAMES, *SIZE))
            density[:, 8:16, 20 + number : 30] = 0.5
            density[:, 12, 24] = 1
            np.save(folder / name / "density.npy", density)
            rows = [f"{index},12,24\n{index},10,26\n" for index in range(FRAMES)]
            (folder / name / "fixations.csv").write_text("frame,row,column\n" + "".join(rows))
    return folder


@pytest.fixture
def plugin():
    with isolated():
        load_plugins([str(PLUGIN)])
        yield


def test_without_the_plugin_the_names_are_unknown(root):
    for name in ("lab_walks", "arrays:mine"):
        with pytest.raises(AvsalError, match=f"'{name}' is not a data set"):
            open_dataset(name, root)


def test_its_videos_are_read(plugin, root):
    train, test = (open_dataset("lab_walks", root, split) for split in ("train", "test"))
    assert [entry.name for entry in (*train, *test)] == ["hall", "stairs", "garden"]
    (entry,) = test
    assert (entry.frames, entry.fps, entry.frame_size, entry.frame_name(1)) == (10, 25.0, SIZE, "0002.png")
    np.testing.assert_array_equal(entry.truth(3).fixations.points, [[10, 26], [12, 24]])
    assert entry.truth(3).density[12, 24] == 1 and entry.truth(3).density.sum() == 1 + 0.5 * (80 - 1)
    np.testing.assert_array_equal(entry.truth(3).grid_points((64, 128)), [[21, 53], [25, 49]])
    (other,) = open_dataset("arrays:mine", root)
    assert other.dataset == "arrays:mine" and find_dataset("arrays:mine").fps == 25
    with pytest.raises(
        AvsalError, match="for your own .* arrays:NAME, dhf1k:NAME, gaze:NAME and stavis:NAME"
    ):
        open_dataset("nothing", root)


def test_a_list_names_its_videos(plugin, root, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("garden\nlab_walks hall\n")
    assert [e.name for e in open_dataset("lab_walks", root, list_file=path)] == ["garden", "hall"]
    path.write_text("diem clip\n")
    with pytest.raises(AvsalError, match="diem clip is not in the packaging of lab_walks"):
        open_dataset("lab_walks", root, list_file=path)


def test_it_is_prepared_trained_on_and_evaluated(plugin, root, tmp_path, capsys):
    location = ["--dataset", "lab_walks", "--root", str(root)]
    prepare = [
        "prepare",
        *location,
        "--output",
        str(tmp_path / "prepared"),
        "--size",
        "32x64",
        "--workers",
        "1",
    ]
    assert main(prepare) == 0
    assert "3 videos, 30 frames" in capsys.readouterr().out

    values = {
        "model": TINY,
        "data": {"root": str(tmp_path / "prepared"), "sources": (("lab_walks", None),), "batch": 2},
        "loss": {"kl": 1.0},
        "evaluation": {"every": 2, "pictures": 0},
        "steps": 2,
        "save_every": 2,
    }
    (tmp_path / "config.py").write_text(CONFIG.replace("{values}", repr(values)))
    run = ["train", "--config", str(tmp_path / "config.py"), "--workdir", str(tmp_path / "run")]
    assert main(run) == 0
    assert "2 steps" in capsys.readouterr().out

    model = next(path.parent for path in (tmp_path / "run").rglob("model.json"))
    evaluate = ["evaluate", *location, "--output", str(tmp_path / "results"), "--metrics", "cc,nss"]
    assert main([*evaluate, "--model", str(model)]) == 0
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert (summary["dataset"], summary["videos"], summary["protocol"]) == ("lab_walks", 1, "vinet")
    assert np.isfinite(summary["metrics"]["nss"]["mean"])


def test_other_commands_know_it(plugin, root, tmp_path, capsys):
    location = ["--dataset", "lab_walks", "--root", str(root)]
    assert main(["fit-prior", *location, "--output", str(tmp_path / "prior.npz")]) == 0
    assert "the mean map of 2 stimuli of lab_walks" in capsys.readouterr().out
    assert main(["doctor", "--root", str(root)]) == 0
    assert "  lab_walks: 1 test videos" in capsys.readouterr().out
    assert (
        main(["evaluate", *location, "--fold", "1", "--model", "centre", "--output", str(tmp_path / "x")])
        == 2
    )
    assert "lab_walks has no folds; leave the fold 1 out" in capsys.readouterr().err


def test_the_row_is_in_the_table(plugin):
    (entry,) = [entry for entry in registry.entries("dataset") if entry.name == "lab_walks"]
    assert entry.about == "videos of a camera that is carried, watched by our students"
    assert str(entry.origin) == "array_folders"
