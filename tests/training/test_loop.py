"""The loop in one process: bit-identical repeats and resumes, early stopping, outputs and refusals."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.storage import flatten, read_model
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.records.notes import announce
from avsal_jax.training.train import Preempted, Trainer

TIMES = ("waiting", "steps_per_second")


def run(config, workdir, should_stop=lambda step: False):
    lines = []
    result = Trainer(config, workdir, lines.append, should_stop=should_stop).run()
    return result, lines


def weights(result):
    return flatten(read_model(result["model"]).variables)


def records(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in TIMES} for record in rows]


@pytest.fixture(scope="module")
def full_run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    result, lines = run(config(), workdir)
    return workdir, result, lines


def test_a_run_writes_everything(full_run):
    workdir, result, lines = full_run
    assert result["steps"] == 8 and result["best"][0] == "cc"
    names = {p.name for p in workdir.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "curves.png", "report.html", "pictures", "model"}
    assert [p.name for p in sorted((workdir / "pictures").iterdir())] == ["00000006.png", "00000008.png"]
    text = "\n".join(lines)
    assert "training data: 7 videos of synthetic, 7 clips per epoch" in text
    assert "validation: 1 videos: synthetic: val list; maps are scored at 32x64, not blurred" in text
    assert "forward pass" in text
    assert re.search(r"step 8/8  loss [\d.]+  lr 1e-4 .* waiting for data \d+ %", text)
    assert "Predictions" in (workdir / "report.html").read_text()
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [r["step"] for r in rows if "loss" in r] == list(range(1, 9))
    assert [r["step"] for r in rows if "val/cc" in r] == [6, 8]
    assert all(0 <= r["waiting"] <= 1 for r in rows if "waiting" in r)


def test_two_runs_are_bit_identical(full_run, config, tmp_path):
    workdir, result, _ = full_run
    repeated, _ = run(config(), tmp_path / "again")
    for name, value in weights(result).items():
        np.testing.assert_array_equal(value, weights(repeated)[name], err_msg=name)
    assert records(tmp_path / "again") == records(workdir)
    other, _ = run(config(seed=1), tmp_path / "other")
    assert any((v != weights(other)[n]).any() for n, v in weights(result).items())


@pytest.mark.parametrize("stop", [3, 6])
def test_a_stopped_run_ends_as_the_full_one(full_run, config, tmp_path, stop):
    workdir, result, _ = full_run
    with pytest.raises(Preempted, match=f"stopped at step {stop}"):
        run(config(), tmp_path / "w", lambda step: step == stop)
    resumed, lines = run(config(), tmp_path / "w")
    assert f"restored step {stop} of 8" in lines
    assert resumed["best"] == result["best"]
    for name, value in weights(result).items():
        np.testing.assert_array_equal(value, weights(resumed)[name], err_msg=name)
    assert records(tmp_path / "w") == records(workdir)  # no gap, no double


def test_a_finished_run_only_writes_its_report_again(full_run, config):
    workdir, result, _ = full_run
    before = records(workdir)
    repeated, lines = run(config(), workdir)
    assert repeated["best"] == result["best"] and "restored step 8 of 8" in lines
    assert records(workdir) == before


@pytest.mark.parametrize(("export", "step"), [("best", 6), ("last", 8)])
def test_which_checkpoint_becomes_the_model(full_run, config, tmp_path, export, step):
    """Step 6 of a copy is made the best one; the last is 8."""
    shutil.copytree(full_run[0], tmp_path, dirs_exist_ok=True)
    for saved, value in ((6, 0.9), (8, 0.1)):
        path = tmp_path / "checkpoints" / str(saved) / "record" / "metadata"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"cc": value}}))
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["evaluation"]["export"] = export
    (tmp_path / "config.json").write_text(json.dumps(settings))
    result, _ = run(config(evaluation__export=export), tmp_path)
    assert result["best"] == ("cc", 0.9, 6)
    assert read_model(result["model"]).card["provenance"]["step"] == step


def test_the_model_predicts(full_run, clip_path):
    import avsal_jax

    model = avsal_jax.load_model(full_run[1]["model"])
    assert model.card["provenance"]["step"] in (6, 8)
    maps = model.predict_frames(np.zeros((9, 40, 50, 3), np.uint8), fps=25)
    assert maps.shape == (9, 32, 64) and np.isfinite(maps).all()


def test_resuming_from_another_run_with_another_config(full_run, config, tmp_path):
    workdir, _, _ = full_run
    changed = config(resume=str(workdir), steps=10, optimizer__learning_rate=1e-5)
    result, lines = run(changed, tmp_path / "w")
    assert f"resumed from {workdir}, step 8 of 10" in lines and result["steps"] == 10
    with pytest.raises(AvsalError, match="checkpoints"):
        run(config(resume=str(tmp_path / "none")), tmp_path / "v")


def test_starting_from_a_model(full_run, config, tmp_path):
    model = full_run[1]["model"]
    init = {"whole": {"path": model, "slot": "visual_encoder"}}
    _, lines = run(config(init=init, steps=1), tmp_path / "w")
    text = "\n".join(lines)
    assert "231 leaves" not in text and re.search(r"\d+ leaves from .*model visual_encoder", text)
    assert "keep their initial values: heads/saliency" in text


def test_averaged_parameters_and_frozen_groups(config, tmp_path):
    changes = {"ema": 0.5, "steps": 3, "optimizer__groups": (("visual_encoder/.*", 0.0),)}
    result, lines = run(config(**changes), tmp_path / "w")
    fresh = Trainer(config(), tmp_path / "v", lambda line: None).program.initial_state()
    final = weights(result)
    encoder = {n: v for n, v in flatten({"params": fresh.params}).items() if "visual_encoder" in n}
    for name, value in encoder.items():
        np.testing.assert_array_equal(final[name], np.asarray(value))
    head = {n: v for n, v in flatten({"params": fresh.params}).items() if "heads/saliency" in n}
    kernels = [name for name in head if name.endswith("kernel")]
    assert kernels and all((final[name] != np.asarray(head[name])).any() for name in kernels)
    assert any("arrays are frozen" in line for line in lines)


def test_a_run_freezes_the_stages_that_its_encoder_names(config, tmp_path):
    lines, encoder = [], {"name": "efficientnet_lite0", "width": 1 / 16, "frozen": 3}
    prepared = Trainer(config(model__visual_encoder=encoder), tmp_path / "w", lines.append)
    announce(prepared.log, notes={}, feed=prepared.feed, program=prepared.program)
    params = flatten({"params": prepared.program.shapes.params})
    frozen = [path for path in params if re.match(r"params/visual_encoder/stage[012]/", path)]
    assert frozen and f"{len(frozen)} of {len(params)} arrays are frozen" in lines
    moments = len(jax.tree.leaves(prepared.program.shapes.opt_state))
    assert 2 * (len(params) - len(frozen)) <= moments < 2 * len(params)


def test_early_stopping_and_its_state(config, tmp_path):
    changes = {
        "optimizer__learning_rate": 0.0 + 1e-12,
        "early_stop": {"patience": 2, "mode": "min", "threshold": 0.5},
        "evaluation__every": 1,
        "steps": 8,
    }
    result, _ = run(config(**changes), tmp_path / "w")
    assert result["steps"] == 3  # the first validation is the best, two more do not beat it by half
    with pytest.raises(Preempted):
        run(config(**changes), tmp_path / "v", lambda step: step == 2)
    resumed, _ = run(config(**changes), tmp_path / "v")
    assert resumed["steps"] == 3


def test_plateau_lowers_the_rate(config, tmp_path):
    schedule = {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.9}
    run(config(optimizer__schedule=schedule, evaluation__every=2), tmp_path / "w")
    rates = {r["step"]: r["lr"] for r in read_metrics(tmp_path / "w/metrics.jsonl") if "lr" in r}
    assert rates[4] == 1e-4 and rates[5] == pytest.approx(5e-5) and rates[7] == pytest.approx(2.5e-5)


def test_a_loss_that_is_not_finite_stops_with_the_state_before_it(config, tmp_path):
    diverging = config(optimizer__name="sgd", optimizer__learning_rate=1e30, save_every=100)
    with pytest.raises(
        AvsalError, match=r"gradient of step (\d+) is not finite; the state before it is saved"
    ):
        run(diverging, tmp_path / "w")
    (tmp_path / "v").mkdir()
    stable = config(resume=str(tmp_path / "w"), optimizer__name="sgd", optimizer__learning_rate=1e-9)
    ready = Trainer(stable, tmp_path / "v", lambda line: None)
    from avsal_jax.training.checkpointing import Checkpoints

    saved = Checkpoints(tmp_path / "w/checkpoints", read_only=True)
    state = saved.restore(saved.latest(), ready.program.shapes)
    assert int(state.failed) == -1 and int(state.step) == saved.latest() > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_refusals(full_run, config, values, tmp_path, prepared):
    workdir = full_run[0]
    with pytest.raises(
        AvsalError, match=r"belongs to another config: steps was 8, is 9; name another --workdir"
    ):
        run(config(steps=9), workdir)
    for changes, words in (
        ({"data__batch": 3}, "a batch of 3 cannot be shared by 2 devices"),
        ({"model": {"frames": 8}}, "was prepared at 32x64, the model takes 224x384"),
        ({"model": {"system": "s3d", "frames": 8}}, "s3d is a part"),
        ({"data__root": str(tmp_path / "none")}, "synthetic is not prepared in"),
        ({"data__sources": (("avad", 1),)}, "avad is not prepared in .* which holds synthetic"),
        ({"init": {"wrong": {"path": "nowhere"}}}, "nowhere"),
        ({"optimizer__groups": (("encoder/.*", 0.0),)}, "matches no"),
    ):
        with pytest.raises(AvsalError, match=words):
            run(config(**changes), tmp_path / str(len(words)))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(AvsalError, match="names no video"):
        run(config(data__sources=(str(empty),), data__validation="holdout"), tmp_path / "e")


def test_config_mistakes(config, values):
    for changes, words in (
        ({"optimiser__name": "adam"}, "the config has no field 'optimiser' .did you mean 'optimizer'"),
        ({"model__sistem": "vinet"}, r"'(model\.)?sistem'.*did you mean '(model\.)?system'"),
        ({"steps": "many"}, "steps must be a whole number of at least 0; got 'many'"),
        ({"steps": 0}, "give either steps or epochs; got 0 and 0"),
        ({"loss__kl": 0.0, "loss__cc": 0.0}, "all losses have weight 0"),
        ({"model__set": "frames=8"}, "model.set was removed: give each setting separately"),
        ({"model__fusoin": "ravf"}, "model has no setting 'fusoin' .did you mean 'model.fusion'"),
        ({"model__frmes": 8}, "model has no setting 'frmes' .did you mean 'model.frames'"),
        ({"model__decoder": {"width": 0.5}}, "'decoder' is now 'heads.saliency'"),
        ({"model__dtype": "float31"}, "model.dtype 'float31' is not one of float32, bfloat16"),
        ({"model__fusion": "blend"}, "blend"),
        ({"data__sources": ()}, "data.sources is empty"),
        ({"data__sources": (("diem", 1, 2),)}, "a data source is"),
        ({"evaluation__metric": "auc"}, "evaluation.metric 'auc' is not one of loss, cc"),
        ({"init": {"a": {"path": "a"}}, "resume": "b"}, "remove init"),
        ({"init": {"a": {"slot": "visual_encoder"}}}, "init.a needs the field 'path'"),
        ({"init": {"a": {"path": "a", "slots": ""}}}, "init.a has no field 'slots' .did you mean 'slot'"),
        ({"ema": 1.5}, "ema must be a number of at least 0 and below 1; got 1.5"),
        ({"data__sampling": {"policy": "all"}}, "data.sampling.policy 'all' is not one of"),
    ):
        with pytest.raises(AvsalError, match=words):
            config(**changes)
    assert json.dumps(values())  # plain values


@pytest.mark.slow
def test_training_warns_of_predictive_coding_above_its_bound(values, config, tmp_path):
    """The bound is that of the parameters at each validation."""
    coding = {"rate": 1.0, "layers": 1, "iterations": 1}
    fusion = {"name": "casp_net", "interaction": "none", "coding": coding}
    model = {**values()["model"], "system": "casp_net", "neck": None, "fusion": fusion}
    _, lines = run(config(model=model, steps=2, evaluation__every=1), tmp_path / "run")
    start = "warning: fusion.coding.rate is 1, above its bound of"
    (warning,) = [line for line in lines if line.startswith(start)]
    assert "set fusion.coding.step=bounded, or a lower rate" in warning
    name = "limit/fusion.coding.rate bound"
    bounds = [record[name] for record in records(tmp_path / "run") if name in record]
    assert len(bounds) == 2 and bounds[0] != bounds[1] and max(bounds) < 1


def test_validation_ignores_what_the_progress_callback_returns(config, tmp_path):
    places, lines = [], []

    def moved(place):
        places.append(place)
        return place

    name = "mine:row"
    trainer = Trainer(config(steps=1), tmp_path / "w", lines.append, on_activity=moved, config_name=name)
    result = trainer.run()
    assert read_model(result["model"]).card["provenance"]["config"] == name and f"config: {name}" in lines
    (line,) = [line for line in lines if "validation on" in line]
    assert "validation on 0 clips" not in line
    assert places.count("validating at step 1 of 1") == len(list(trainer.feed.validation_batches()))


def test_a_run_that_describes_no_data_is_exported(config, tmp_path, monkeypatch):
    """An objective that makes its own clips need not describe them."""
    monkeypatch.setattr("avsal_jax.training.train.training_data", lambda config, feed: {})
    result, _ = run(config(steps=1), tmp_path)
    assert read_model(result["model"]).card["provenance"]["trained on"] == ""
