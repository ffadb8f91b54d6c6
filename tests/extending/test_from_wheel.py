"""Plugins with the installed wheel, in an empty folder: train, save, load elsewhere, evaluate, convert."""

import csv
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from avsal_jax.testing.videos import moving_spot, write_video
from tests.extending.conftest import FOLDER
from tests.wheels import avsal, built_wheel, installed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("from_wheel")]  # the wheel is built once
FRAMES, SIZE = 10, (32, 64)
MODEL = ("quick_vinet", "plain_encoder", "temporal_mean", "loudness", "scaled_channels", "fixation_count")
TRAINING = ("array_folders", "focal", "lion", "linear", "sideways")
CONFIG = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.plugins = {plugins}
    config.model = {
        "system": "quick_vinet",
        "height": 32,
        "width": 64,
        "visual_encoder": {"name": "plain", "channels": 4},
        "neck": {"name": "temporal_mean", "channels": 4},
        "audio_encoder": {"name": "loudness", "channels": 4},
        "fusion": "scaled_channels",
        "heads": {"count": "fixation_count"},
    }
    config.data = {"sources": (("lab_walks", None),), "batch": 2}
    config.objective = {"name": "with_count"}
    config.loss = {"kl": 1.0, "focal": 0.1}
    config.optimizer = {"name": "lion", "schedule": {"name": "linear", "last": 0.5}}
    config.evaluation = {"every": 2, "pictures": 0, "metric": "sideways"}
    config.steps, config.save_every, config.log_every = 2, 2, 1
    return config
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    return installed(built_wheel(folder), folder / "site")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder with the plugins, a small data set in a plugin's layout, and a clip."""
    folder = tmp_path_factory.mktemp("empty")
    for path in FOLDER.glob("*.py"):
        shutil.copy(path, folder)
    write_walks(folder / "walks")
    write_video(folder / "clip.mp4", moving_spot(4, *SIZE))
    (folder / "own.py").write_text(CONFIG.replace("{plugins}", repr(files(MODEL, TRAINING))))
    return folder


@pytest.fixture(scope="module")
def trained(site, folder):
    """The folder, with a network of plugins that was trained for two steps."""
    for command in (
        "prepare --plugin array_folders.py --dataset lab_walks --root walks --output prepared --size 32x64",
        "train --config own.py --workdir run",
    ):
        succeeded(avsal(site, folder, *command.split()))
    return folder


def write_walks(root):
    for split, names in {"train": ("hall", "stairs"), "test": ("garden",)}.items():
        root.mkdir(exist_ok=True)
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            (root / name / "frames").mkdir(parents=True)
            for index, image in enumerate(moving_spot(FRAMES, *SIZE), 1):
                Image.fromarray(image).save(root / name / "frames" / f"{index:04d}.png")
            density = np.zeros((FRAMES, *SIZE))
            density[:, 8:16, 20:30] = 0.5
            np.save(root / name / "density.npy", density)
            rows = "".join(f"{index},12,24\n{index},10,26\n" for index in range(FRAMES))
            (root / name / "fixations.csv").write_text("frame,row,column\n" + rows)


def files(*groups):
    return tuple(f"{name}.py" for names in groups for name in names)


def plugin_flags(*names):
    return [part for name in names for part in ("--plugin", f"{name}.py")]


def succeeded(process):
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def refused(process):
    """The one line of an error."""
    assert process.returncode == 2, process.stdout + process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("avsal: ")]
    return line


def test_a_network_of_plugins_is_trained_and_states_its_plugins(trained):
    card = json.loads((trained / "run/model/model.json").read_text())
    registered = {name for row in card["plugins"] for name in row["registers"]}
    assert registered == {
        "visual_encoder plain", "neck temporal_mean", "audio_encoder loudness", "front_end loudness",
        "fusion scaled_channels", "head fixation_count",
    }  # fmt: skip
    records = [json.loads(line) for line in (trained / "run/metrics.jsonl").read_text().splitlines()]
    values = {name: value for record in records for name, value in record.items()}
    assert {"loss/kl", "loss/focal", "loss/count", "val/sideways"} <= set(values)
    assert [record["lr"] for record in records if "lr" in record][-1] == pytest.approx(0.75e-4)


def test_another_process_predicts_with_it_and_writes_an_output_of_a_plugin(site, trained):
    command = ["predict", "clip.mp4", "--model", "run/model", "--save", "npz,centre_of_mass"]
    flags = plugin_flags(*MODEL[1:], "centre_of_mass")
    succeeded(avsal(site, trained, *command, "--output", "out", *flags))
    with (trained / "out/centre_of_mass.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 4 and all(0 < float(row["x"]) < 1 for row in rows)


def test_without_a_plugin_one_line_names_it(site, trained):
    command = ["predict", "clip.mp4", "--model", "run/model", "--output", "none"]
    line = refused(avsal(site, trained, *command, *plugin_flags(*MODEL[1:-1])))
    assert "needs the plugin fixation_count" in line and "head 'fixation_count'" in line
    line = refused(avsal(site, trained, *command, "--save", "centre_of_mass"))
    assert "'centre_of_mass'" in line
    evaluate = ["evaluate", "--dataset", "lab_walks", "--root", "walks", "--model", "centre", "--output", "x"]
    assert "'lab_walks' is not a data set" in refused(avsal(site, trained, *evaluate))


def test_it_is_evaluated_by_a_metric_and_protocol_of_plugins_next_to_a_baseline(site, trained):
    command = ["evaluate", "--dataset", "lab_walks", "--root", "walks", "--metrics", "cc,sideways"]
    command += ["--protocol", "from_fifth"]
    flags = plugin_flags(*MODEL[1:], "array_folders", "sideways", "from_fifth", "upper_third")
    for model, output in (("run/model", "ours"), ("upper_third", "rule")):
        succeeded(avsal(site, trained, *command, "--model", model, "--output", output, *flags))
        summary = json.loads((trained / output / "summary.json").read_text())
        assert summary["protocol"] == "from_fifth" and 0 <= summary["metrics"]["sideways"]["mean"] <= 1
    compared = ["compare", "ours", "rule", "--output", "both", *plugin_flags("sideways")]
    assert "EMD-x" in succeeded(avsal(site, trained, *compared))


def test_an_objective_with_a_stream_of_its_own_trains(site, trained):
    values = ["objective=mirrored", "objective.sources=(('lab_walks', None),)", "evaluation.metric=loss"]
    command = ["train", "--config", "own.py", "--workdir", "mirrored", *plugin_flags("mirrored")]
    succeeded(avsal(site, trained, *command, *values))
    records = (trained / "mirrored/metrics.jsonl").read_text()
    assert '"mirrored"' in records and '"mirrored/mean"' in records


def test_a_checkpoint_is_converted_to_a_system_of_a_plugin(site, folder):
    rng = np.random.default_rng(0)
    shapes = {"patches.weight": (5, 3, 1, 8, 8), "patches.bias": 5, "score.weight": (1, 5), "score.bias": 1}
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    safetensors.numpy.save_file(tensors, folder / "weights.safetensors")
    convert = ["convert", "--system", "patch_net", "--input", "weights.safetensors", "--output", "patches"]
    assert "patch_net" in refused(avsal(site, folder, *convert))
    succeeded(avsal(site, folder, *convert, "--verify", *plugin_flags("patch_net")))
    predict = ["predict", "clip.mp4", "--model", "patches", "--save", "npz", "--output", "converted"]
    assert "needs the plugin patch_net" in refused(avsal(site, folder, *predict))
    assert "4 maps" in succeeded(avsal(site, folder, *predict, *plugin_flags("patch_net")))


def test_every_plugin_is_used_here_and_imports_tables_of_contents_alone(folder):
    used = {*MODEL, *TRAINING, "centre_of_mass", "from_fifth", "upper_third", "mirrored", "patch_net"}
    assert {path.stem for path in FOLDER.glob("*.py")} == used
