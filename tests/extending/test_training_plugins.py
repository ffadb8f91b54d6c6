"""Plugins of training, by the command line: a loss, an optimizer, a schedule, objectives, a second head."""

import json
import pathlib

import jax
import numpy as np
import pytest

from avsal_jax import Clip, load_plugins, plugins
from avsal_jax.cli.main import main
from avsal_jax.data.prepared.prepare import prepare_generated
from avsal_jax.models import build, init_variables
from avsal_jax.storage import flatten, read_model
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training import recipes
from avsal_jax.training.optimizers import learning_rate, make_optimizer
from avsal_jax.training.overrides import config_values
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.schema import build_config, plain_values

FOLDER = pathlib.Path(__file__).parent / "plugins"
MODEL = (
    "model.frames=8", "model.height=32", "model.width=64", "model.visual_encoder=small",
    "model.visual_encoder.width=1/64", "model.heads.saliency=small",
)  # fmt: skip
RUN = (
    "steps=2", "epochs=0", "data.batch=2", "log_every=1", "save_every=2", "evaluation.every=2",
    "data.sources=(('synthetic', None),)", "evaluation.pictures=0", "optimizer.schedule.warmup_steps=0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def isolated():
    with plugins.isolated():
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    settings = {"preset": "tiny", "grade": "position", "videos": "10", "frames": "16"}
    prepare_generated("synthetic", settings, output=folder, size=(32, 64), workers=1)
    return folder


@pytest.fixture
def train(prepared, tmp_path):
    """Trains two steps with a plugin; returns the workdir."""

    def run(plugin, *values):
        command = ["train", "--plugin", str(FOLDER / f"{plugin}.py"), "--config", "vinet_synthetic"]
        command += ["--workdir", str(tmp_path / "w"), f"data.root={prepared}", *MODEL, *RUN, *values]
        assert main(command) == 0
        return tmp_path / "w"

    return run


def steps_of(workdir):
    return [record for record in read_metrics(workdir / "metrics.jsonl") if "lr" in record]


def test_a_loss_an_optimizer_and_a_schedule_are_used_by_name(train, prepared, tmp_path, capsys):
    load_plugins([str(FOLDER / f"{name}.py") for name in ("lion", "linear")])
    values = [
        "loss.focal=2.0",
        "loss.kl=0",
        "loss.focal_form=sum",
        "optimizer.name=lion",
        "optimizer.b2=0.98",
    ]
    values += ["optimizer.schedule=linear", "optimizer.schedule.last=0.5", "optimizer.learning_rate=1e-3"]
    workdir = train("focal", *values)
    records = steps_of(workdir)
    assert [record["lr"] for record in records] == pytest.approx([1e-3, 0.75e-3])
    assert [record["loss"] for record in records] == pytest.approx([2 * r["loss/focal"] for r in records])
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["optimizer"]["name"] == "lion" and stored["optimizer"]["schedule"]["last"] == 0.5
    assert stored["loss"]["focal"] == 2.0 and stored["plugins"] == [str(FOLDER / "focal.py")]
    assert plain_values(build_config(stored)) == stored
    capsys.readouterr()
    train("focal", *values)  # the same command continues the run
    assert "restored step 2 of 2" in capsys.readouterr().err
    read_model(workdir / "model")  # needs no plugin


def test_steps_of_lion_have_the_size_of_the_rate():
    load_plugins([str(FOLDER / "lion.py")])
    config = build_config(config_values("vinet_synthetic", [*MODEL, "optimizer=lion"]))
    assert (
        config.optimizer.learning_rate == config_values("vinet_synthetic", [])["optimizer"]["learning_rate"]
    )
    optimizer = make_optimizer(config.optimizer, {"a": np.ones(3, np.float32)}, 4)
    gradients = {"a": np.array([3.0, -0.1, 0.5], np.float32)}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    rate = learning_rate(config.optimizer, step=0, total_steps=4)
    np.testing.assert_allclose(updates["a"], -rate * np.sign(gradients["a"]), rtol=1e-5)


def test_an_objective_has_a_stream_and_a_state(train, prepared):
    workdir = train("mirrored", "objective=mirrored", "objective.sources=(('synthetic', None),)")
    first, second = steps_of(workdir)
    assert first["mirrored"] > 0 and first["mirrored/mean"] == pytest.approx(
        0.1 * first["mirrored"], rel=1e-4
    )
    expected = 0.9 * first["mirrored/mean"] + 0.1 * second["mirrored"]
    assert second["mirrored/mean"] == pytest.approx(expected, rel=1e-4)
    assert second["loss"] == pytest.approx(second["loss/kl"] + second["mirrored"], rel=1e-4)
    assert "unlabelled data" in (workdir / "report.html").read_text()


def test_a_second_head_learns_by_its_loss(train):
    workdir = train("fixation_count", "model.heads.count=fixation_count", "objective=with_count")
    for record in steps_of(workdir):
        assert record["loss"] == pytest.approx(record["loss/kl"] + 0.1 * record["loss/count"], rel=1e-4)
    names = flatten(read_model(workdir / "model").variables)
    assert "params/heads/count/Dense_0/kernel" in names


def test_its_error_is_that_of_the_count():
    load_plugins([str(FOLDER / "fixation_count.py")])
    values = [*MODEL, "model.heads.count=fixation_count", "objective=with_count"]
    config = build_config(config_values("vinet_synthetic", values))
    preset = config.model.preset()
    network, batch = build(preset), random_clips(preset.input, 2)
    variables = init_variables(network, 0)
    state, logged = train_once(
        config.objective.build(network, config.loss.terms()), variables, {"labelled": batch}
    )
    truth = np.log1p(batch["fixations"].sum((1, 2)))
    run = jax.jit(network.run, static_argnames="train")
    count = run(variables, Clip(batch["frames"]), train=True).logits["count"]
    np.testing.assert_allclose(logged["loss/count"], np.mean((count - truth) ** 2), rtol=1e-4)
    for head in ("saliency", "count"):
        before, after = (jax.tree.leaves(tree["heads"][head]) for tree in (variables["params"], state.params))
        assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


CONFIG = """
import ml_collections
from avsal_jax.training import recipes

ROWS = {"calm": recipes.Row({"optimizer.name": "lion", "optimizer.b2": 0.95, "loss.focal": 0.5}, "nothing")}


def get_config(variants=""):
    config = ml_collections.ConfigDict(recipes.defaults())
    config.plugins = ("focal.py", "lion.py")
    config.data.sources = (("diem", 1),)
    config.steps = 4
    return recipes.apply(config, variants, ROWS)
"""


def test_a_config_names_the_plugins_that_lie_beside_it(tmp_path, monkeypatch):
    for name in ("focal.py", "lion.py"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    (tmp_path / "mine.py").write_text(CONFIG)
    config = build_config(recipes.config(f"{tmp_path}/mine.py:calm").to_dict())
    assert (type(config.optimizer).__name__, config.optimizer.b2) == ("Lion", 0.95)
    assert config.loss.weights["focal"] == 0.5 and config.plugins == ("focal.py", "lion.py")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["optimizer=lion"], "unknown optimizer 'lion'; there are adam, adamw, sgd"),
        (["objective=mirrored"], "unknown objective 'mirrored'"),
        (["loss.focal=1"], "unknown key 'loss.focal'"),
        (["--plugin", "MIRRORED", "objective=mirrored"], "objective.sources is empty: name sets without"),
        (["plugins=('nowhere.py',)"], "plugin nowhere.py is not a file"),
    ],
)
def test_without_the_plugin_it_is_one_line(tmp_path, capsys, values, message):
    values = [str(FOLDER / "mirrored.py") if value == "MIRRORED" else value for value in values]
    assert main(["train", "--config", "vinet_ucf", "--workdir", str(tmp_path), *values]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
