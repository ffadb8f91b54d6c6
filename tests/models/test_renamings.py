"""Names of earlier versions: settings are refused with today's name; cards, variables and seeds are read."""

import json
import pathlib

import flax.linen as nn
import jax
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.changes import merged
from avsal_jax.models.initial import BEFORE_RELU, fresh_variables
from avsal_jax.models.renamings import (
    earlier_layout,
    earlier_path,
    model_of_format1,
    renamed_path,
    todays_layout,
)
from avsal_jax.models.systems import preset_of, resolve

FORMAT1 = pathlib.Path(__file__).parents[1] / "saved_models" / "format1"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("decoder", "heads.saliency"),
        ("decoder.width", "heads.saliency.width"),
        ("fusion.gates", "regulator.gates"),
        ("fusion.gate_order", "regulator.order"),
        ("fusion.decoder_inputs", "regulator.returns"),
        ("fusion.iterations", "fusion.coding.iterations"),
        ("fusion.coding_layers", "fusion.coding.layers"),
        ("fusion.coding_target", "fusion.coding.target"),
        ("pixel_norm", "pixels"),
        ("audio.kind", "audio.name"),
        ("audio.sample_rate", "audio.rate"),
        ("audio.pad_rule", "audio.pad"),
    ],
)
def test_an_old_spelling_is_refused_with_todays_name(before, now):
    with pytest.raises(AvsalError, match=f"'{before}' is now '{now}'$"):
        resolve("casp_net", {before: 1})


@pytest.mark.parametrize(
    ("changes", "now"),
    [
        ({"decoder": {"width": 0.5}}, "heads.saliency"),
        ({"fusion": {"gates": 3}}, "regulator.gates"),
        ({"fusion": {"iterations": 5}}, "fusion.coding.iterations"),
        ({"audio": {"pad_rule": "centre"}}, "audio.pad"),
    ],
)
def test_a_nested_old_spelling_is_refused_with_todays_name(changes, now):
    with pytest.raises(AvsalError, match=f"is now '{now}'"):
        resolve("casp_net", changes)


NARROW = {"frames": 16, "height": 64, "width": 96, "visual_encoder.width": 1 / 32}
HEARS = {"audio_encoder.width": 1 / 32, "audio.samples": 35_280}
AVRSP = {"neck.width": 1 / 64, "heads.saliency.width": 1 / 32}
CASP_NET = {"neck.width": 1 / 64, "audio_encoder.width": 1 / 32}


@pytest.mark.parametrize(
    ("name", "system", "changes"),
    [
        ("vinet", "vinet", {"frames": 32, "heads.saliency.width": 1 / 32}),
        ("avrsp_mbt_gates", "avrsp", {**HEARS, **AVRSP,
                                      "fusion": {"name": "mbt", "width": 1 / 32, "blocks": 2},
                                      "regulator": {"name": "gates", "gates": 2}}),
        ("casp_net_stages", "casp_net", {**CASP_NET, "neck.rates": (2, 4, 6), "fusion.stages": (3, 4),
                                         "fusion.coding": None,
                                         "heads.saliency": {"name": "unet", "width": 1 / 32}}),
        ("s3d", "s3d", {"visual_encoder.classes": 10}),
    ],
)  # fmt: skip
def test_a_card_of_format_1_is_migrated(name, system, changes):
    card = json.loads((FORMAT1 / name / "model.json").read_text())
    model = {"system": card["system"], **merged({}, model_of_format1(card))}
    assert preset_of(model, card["kind"]) == resolve(system, {**NARROW, **changes})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"gates": 0, "gate_order": "average_sigmoid"}, None),
        ({"gates": 3}, {"name": "gates", "gates": 3}),
        (
            {"gates": 1, "gate_order": "average_sigmoid", "decoder_inputs": "gated"},
            {"name": "gates", "gates": 1, "order": "average_sigmoid", "returns": "gated"},
        ),
    ],
)
@pytest.mark.parametrize("fusion", ["ravf", "none"])
def test_gates_of_format_1_become_the_regulator(fusion, fields, expected):
    card = json.loads((FORMAT1 / "avrsp" / "model.json").read_text())
    card["slots"]["fusion"] = {"name": fusion, "fields": fields}
    model = merged({}, model_of_format1(card))
    assert model["regulator"] == expected
    assert model["fusion"] == (None if fusion == "none" else {"name": fusion})


PATHS = {
    "params/decoder/conv1/kernel": "params/heads/saliency/conv1/kernel",
    "batch_stats/decoder/upsample1_norm/batch/mean": "batch_stats/heads/saliency/upsample1_norm/batch/mean",
    "params/fusion/gate1/select/kernel": "params/regulator/gate1/select/kernel",
    "params/fusion/block1/output/bias": "params/fusion/block1/output/bias",
    "params/visual_encoder/decoder/kernel": "params/visual_encoder/decoder/kernel",
}


def test_paths_of_variables_are_renamed_and_back():
    for before, now in PATHS.items():
        assert renamed_path(before) == renamed_path(now) == now
        assert earlier_path(now) == earlier_path(before) == before


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (
            {"decoder": {"conv1": 1}, "neck": {"a": 2}},
            {"heads": {"saliency": {"conv1": 1}}, "neck": {"a": 2}},
        ),
        (
            {"fusion": {"block1": 1, "gate3": 2}, "decoder": {"conv1": 3}},
            {"fusion": {"block1": 1}, "regulator": {"gate3": 2}, "heads": {"saliency": {"conv1": 3}}},
        ),
        ({"fusion": {"gate3": 2}, "decoder": {}}, {"regulator": {"gate3": 2}, "heads": {"saliency": {}}}),
    ],
)
def test_layouts_of_variables_are_renamed_and_back(before, now):
    assert todays_layout(before) == now and earlier_layout(now) == before


class Leaf(nn.Module):
    @nn.compact
    def __call__(self):
        self.param("kernel", BEFORE_RELU, (4, 5))


def draws_at(path):
    """The values of seed 0 at a path."""

    def init(key):
        tree = Leaf().init(key)["params"]
        for name in reversed(path.split("/")):
            tree = {name: tree}
        return tree

    (values,) = jax.tree.leaves(fresh_variables(init, 0))
    return values


def test_a_seed_gives_renamed_variables_the_values_that_it_gave():
    for before, now in PATHS.items():
        np.testing.assert_array_equal(draws_at(before), draws_at(now))
    assert not np.array_equal(draws_at("params/heads/other/conv1"), draws_at("params/heads/saliency/conv1"))
