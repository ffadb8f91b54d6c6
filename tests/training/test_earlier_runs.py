"""Runs that the first version began: their config.json is understood, and their checkpoints are restored."""

import json
import shutil

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.renamings import earlier_layout, todays_layout
from avsal_jax.storage import flatten, read_model
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.schema import plain_values
from avsal_jax.training.state import TrainState
from avsal_jax.training.train import Preempted, Trainer
from avsal_jax.training.workdir import Workdir

SETTINGS = "frames=8,height=32,width=64,visual_encoder=small,visual_encoder.width=0.015625,decoder=small"


def first_values(values, settings, init=(), groups=()):
    """Returns the plain values of a config as the first version wrote them."""
    names = ("system", "dtype", "remat", "norm", "norm_momentum")
    model = {name: values["model"][name] for name in names} | {"set": settings}
    optimizer = values["optimizer"] | {"groups": list(groups)}
    return values | {"model": model, "optimizer": optimizer, "init": list(init)}


def workdir_of(folder, values):
    """Makes a workdir with a config.json and the folder of a checkpoint."""
    (folder / "checkpoints" / "4").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        (
            "frames=16,decoder.hierarchy=2, decoder.width=1/16",
            {"frames": 16, "heads": {"saliency": {"hierarchy": 2, "width": 1 / 16}}},
        ),
        ("fusion=mbt,fusion.gates=2", {"system": "avrsp", "fusion": "mbt", "regulator": {"gates": 2}}),
        ("fusion=mbt", {"system": "avrsp", "fusion": "mbt", "regulator": None}),
        ("fusion.gates=0", {"system": "avrsp", "regulator": None}),
        (
            "fusion=none,audio_encoder=none,fusion.gates=3,audio=null,neck.pairs=1",
            {"system": "avrsp", "fusion": None, "audio_encoder": None, "neck": {"pairs": 1}},
        ),
        (
            "fusion.stages=34,fusion.coding=false,neck.rates=2-4-6",
            {
                "system": "casp_net",
                "fusion": {"stages": (3, 4), "coding": None},
                "neck": {"rates": (2, 4, 6)},
            },
        ),
        (
            "fusion.iterations=1,fusion.coding_layers=3",
            {"system": "casp_net", "fusion": {"coding": {"iterations": 1, "layers": 3}}},
        ),
        (
            "pixel_norm=signed,audio.samples=12766",
            {
                "system": "avinet",
                "pixels": {"mean": (127.5,) * 3, "deviation": (127.5,) * 3, "scale": 1.0},
                "audio": {"samples": 12_766},
            },
        ),
    ],
)
def test_the_model_of_the_first_version_was_a_text(config, tmp_path, settings, model):
    values = plain_values(config(model=model))
    folder = workdir_of(tmp_path, first_values(values, settings))
    Workdir(folder, values, True).release()
    assert "set" in json.loads((folder / "config.json").read_text())["model"]  # it is not rewritten
    changed = plain_values(config(model={**model, "label_frame": "last", "frames": 12}))
    with pytest.raises(AvsalError, match=r"belongs to another config: model.frames was \d+, is 12"):
        Workdir(folder, changed, True)


def test_sources_of_weights_had_no_names_and_slots_had_other_ones(config, tmp_path):
    init = {
        "whole": {"path": "runs/a/model"},
        "head": {"path": "runs/b/model", "slot": "heads/saliency", "pattern": "conv1/"},
    }
    groups = ({"pattern": "heads/saliency/.*", "scale": 0.5, "weight_decay": None},)
    model = {"frames": 8}
    values = plain_values(config(model=model, init=init, optimizer__groups=groups))
    first = first_values(
        values,
        "frames=8",
        init=[
            {"path": "runs/a/model", "slot": "", "pattern": ""},
            {"path": "runs/b/model", "slot": "decoder", "pattern": "conv1/"},
        ],
        groups=[{"pattern": "decoder/.*", "scale": 0.5, "weight_decay": None}],
    )
    folder = workdir_of(tmp_path, first)
    Workdir(folder, values, True).release()
    del init["head"]
    with pytest.raises(AvsalError, match=r"belongs to another config: init.\d"):
        Workdir(folder, plain_values(config(model=model, init=init, optimizer__groups=groups)), True)
    with pytest.raises(AvsalError, match=r"belongs to another config: init.\d"):
        Workdir(folder, plain_values(config(model=model, optimizer__groups=groups)), True)


# Fields of the config that came after the first runs in this form.
ADDED_FIELDS = (
    "data.cached_features", "evaluation.metrics", "evaluation.native", "loss.sim_form", "model.interval",
    "model.smoothing", "model.unbiased_variance", "model.fusion.head_norm",
)  # fmt: skip


def without(values, path):
    first, _, rest = path.partition(".")
    return {
        name: without(value, rest) if name == first and rest else value
        for name, value in values.items()
        if name != first or rest
    }


def test_a_run_from_before_some_fields_is_resumed_at_their_defaults(config, tmp_path):
    values = plain_values(config(model={"system": "avrsp"}))
    stored = json.loads(json.dumps(values))
    for path in ADDED_FIELDS:
        assert without(stored, path) != stored, path
        stored = without(stored, path)
    folder = workdir_of(tmp_path, stored)
    Workdir(folder, values, True).release()
    changed = plain_values(config(model={"system": "avrsp", "unbiased_variance": True}))
    with pytest.raises(AvsalError, match="another config: model.unbiased_variance was False, is True"):
        Workdir(folder, changed, True)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"system": "vinet", "set": 3}},
        {"model": {"system": "vinet", "set": "fusoin=ravf"}},
        {"model": {"system": "vinet", "set": "frames"}},
        {"model": {"system": "vinet", "set": "pixel_norm=loud"}},
        {"model": {"system": "vnet", "set": ""}},
        {"init": 3},
        {"init": [["a", "b"]]},
        {"optimizer": None},
    ],
)
def test_a_damaged_config_of_the_first_version_is_one_line(config, tmp_path, change):
    values = plain_values(config(model={"frames": 8}))
    folder = workdir_of(tmp_path, first_values(values, "frames=8") | change)
    with pytest.raises(AvsalError, match=r"config.json is not a config: .*; name another --workdir") as error:
        Workdir(folder, values, True)
    assert "\n" not in str(error.value)


# What a config.json said of optimizer and schedule when each had the fields of all.
EARLIER_OPTIMIZER = {
    "name": "sgd", "learning_rate": 0.5, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "momentum": 0.9,
    "dampening": 0.0, "nesterov": False, "weight_decay": 0.0, "clip_norm": None, "accumulate": 1,
    "groups": [],
    "schedule": {
        "name": "cosine", "warmup_steps": 2, "final_fraction": 0.1, "milestones": [], "gamma": 0.1,
        "mode": "min", "factor": 0.1, "patience": 10, "threshold": 0.0001, "cooldown": 0, "min_scale": 0.0,
    },
}  # fmt: skip
EARLIER_ADAPT = {
    "sources": [["synthetic", None]], "root": "", "features": [{"name": "audio", "weight": 1.0}],
    "feature_loss": "reversed", "reversal": "ramp", "strength": 1.0, "source_share": 1.0, "memory": 4,
    "updates": 0, "update_rate": 0.001,
}  # fmt: skip


@pytest.mark.parametrize("adapt", [None, EARLIER_ADAPT])
def test_configs_from_before_choices_by_name_are_of_the_same_run(config, tmp_path, adapt):
    objective = {"name": "supervised"} if adapt is None else {"name": "domain_adversarial", **adapt}
    schedule = {"name": "cosine", "warmup_steps": 2, "final_fraction": 0.1}
    optimizer = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9, "schedule": schedule}
    values = plain_values(config(optimizer=optimizer, objective=objective))
    earlier = {name: value for name, value in values.items() if name not in ("objective", "plugins")}
    folder = workdir_of(tmp_path, earlier | {"adapt": adapt, "optimizer": EARLIER_OPTIMIZER})
    Workdir(folder, values, True).release()
    with pytest.raises(AvsalError, match=r"another config: optimizer.momentum was 0.9, is 0.5"):
        changed = config(optimizer={**optimizer, "momentum": 0.5}, objective=objective)
        Workdir(folder, plain_values(changed), True)


def test_a_memory_was_part_of_the_batch_statistics(tmp_path):
    """A checkpoint with the memory of a discriminator there gives the same state as one of today."""
    memory, first = np.full((3, 2, 1, 4), 5.0, np.float32), {"full1": np.full(3, 7.0, np.float32)}
    fields = {
        "step": np.int32(2),
        "failed": np.int32(-1),
        "params": {"visual_encoder": {"kernel": np.ones(2, np.float32)}},
        "opt_state": ({"mu": np.ones(2, np.float32)},),
        "ema": {},
    }
    norms = {"visual_encoder": {"mean": np.ones(2, np.float32)}, "discriminator_audio": {"norm": np.ones(3)}}
    extra = {"memory": memory, "first": first}
    stats = {**norms, "discriminator_audio": {**norms["discriminator_audio"], **extra}}
    today = TrainState(**fields, batch_stats=norms, extra={"discriminator_audio": extra})
    earlier = Checkpoints(tmp_path / "earlier")
    earlier.save(2, {**fields, "batch_stats": stats}, {})
    restored = earlier.restore(2, today)
    earlier.close()
    assert jax.tree.structure(restored) == jax.tree.structure(today)
    jax.tree.map(np.testing.assert_array_equal, restored, today)


def test_a_checkpoint_of_the_first_version_gives_the_same_state(config, tmp_path):
    ready = Trainer(config(ema=0.5), tmp_path / "w", lambda line: None)
    state = jax.device_get(ready.program.initial_state())
    first = Checkpoints(tmp_path / "first")
    first.save(1, first_state(state), {})
    first.wait()
    restored = first.restore(1, ready.program.shapes)
    first.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


@pytest.mark.slow
def test_a_run_of_the_first_version_is_resumed(config, tmp_path):
    """It ends with the same bits as one of this version that was stopped at the same step."""
    stopped, first = tmp_path / "stopped", tmp_path / "first"
    with pytest.raises(Preempted):
        Trainer(config(), stopped, lambda line: None, should_stop=lambda step: step == 3).run()
    shutil.copytree(stopped, first, ignore=shutil.ignore_patterns("checkpoints"))
    values = json.loads((stopped / "config.json").read_text())
    (first / "config.json").write_text(json.dumps(first_values(values, SETTINGS)))
    saved, copy = Checkpoints(stopped / "checkpoints", read_only=True), Checkpoints(first / "checkpoints")
    shapes = Trainer(config(), tmp_path / "shapes", lambda line: None).program.shapes
    copy.save(3, first_state(saved.restore(3, shapes)), saved.meta(3), saved.metrics(3))
    copy.close()
    models = []
    for folder in (stopped, first):
        lines = []
        result = Trainer(config(), folder, lines.append).run()
        assert "restored step 3 of 8" in lines
        models.append(flatten(read_model(result["model"]).variables))
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():
        np.testing.assert_array_equal(value, models[1][name], err_msg=name)


def first_state(state):
    """Returns a state of training whose trees by slot have the names of the first version."""

    def by_slot(node):
        return isinstance(node, dict) and "heads" in node

    renamed = jax.tree.map(
        lambda node: earlier_layout(node) if by_slot(node) else node, state, is_leaf=by_slot
    )
    assert "decoder" in renamed.params and "heads" not in renamed.params
    return renamed


@pytest.mark.parametrize(
    "today",
    [
        {"visual_encoder": {"a": 1}, "heads": {"saliency": {"b": 2}}},
        {
            "visual_encoder": {"a": 1},
            "fusion": {"c": 3},
            "regulator": {"gate1": {"d": 4}, "gate3": {"e": 5}},
            "heads": {"saliency": {"b": 2}},
        },
        {"visual_encoder": {"a": 1}, "regulator": {"gate3": {"e": 5}}, "heads": {"saliency": {"b": 2}}},
        {
            "visual_encoder": {"a": 1},
            "fusion": {},
            "discriminator_audio": {"f": 6},
            "heads": {"saliency": {}},
        },
    ],
)
def test_layouts_of_both_versions_name_the_same_leaves(today):
    first = earlier_layout(today)
    assert not {"heads", "regulator"} & set(first) and first["decoder"] == today["heads"]["saliency"]
    assert {f"gate{n}" for n in (1, 3)} & set(first.get("fusion", {})) == set(today.get("regulator", {}))
    assert todays_layout(first) == today


def test_configs_from_before_intervals_and_smoothing_are_of_the_same_run(config, tmp_path):
    values = plain_values(config())
    earlier = {
        name: value for name, value in values["model"].items() if name not in ("interval", "smoothing")
    }
    assert len(earlier) == len(values["model"]) - 2
    folder = workdir_of(tmp_path, values | {"model": earlier})
    Workdir(folder, values, True).release()
    with pytest.raises(AvsalError, match=r"model.smoothing was 0.0, is 0.5"):
        Workdir(folder, plain_values(config(model__smoothing=0.5)), True)
