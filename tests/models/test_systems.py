"""Presets and changes to them: nested or dotted, by part, field, head and number of the input."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.models.decoders.fcn import FCNDecoder
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, preset_of, resolve, systems
from avsal_jax.ops.predictive_coding import Coding
from avsal_jax.spec.front_ends import LogMel
from avsal_jax.spec.input import SIGNED, Pixels
from avsal_jax.testing.models import TINY


@pytest.mark.parametrize(
    ("system", "nested", "dotted"),
    [
        ("vinet", {"heads": {"saliency": {"width": 0.5}}}, {"heads.saliency.width": 0.5}),
        ("vinet", {"heads": {"saliency": {"name": "fcn"}}}, {"heads.saliency": "fcn"}),
        ("vinet", {"heads": {"saliency": {"name": "fcn", "width": 0.5}}},
         {"heads.saliency.width": 0.5, "heads.saliency": "fcn"}),
        ("vinet", {"heads": {"saliency": "fcn"}, "heads.saliency.width": 0.5},
         {"heads.saliency.name": "fcn", "heads.saliency.width": 0.5}),
        ("avrsp", {"fusion": {"name": "mbt", "blocks": 2}}, {"fusion": "mbt", "fusion.blocks": 2}),
        ("avrsp", {"fusion": {"blocks": 2}, "fusion.heads": 4}, {"fusion.heads": 4, "fusion.blocks": 2}),
        ("avrsp", {"regulator": None}, {"regulator": "none"}),
        ("avrsp", {"regulator": {"gates": 2}}, {"regulator.gates": 2}),
        ("casp_net", {"fusion": {"coding": {"iterations": 5}}}, {"fusion.coding.iterations": 5}),
        ("casp_net", {"fusion": {"coding": None, "stages": (3, 4)}},
         {"fusion.coding": None, "fusion.stages": (3, 4)}),
        ("avinet", {"audio": {"samples": 35_280}, "frames": 16}, {"audio.samples": 35_280, "frames": 16}),
        ("avinet", {"audio_encoder": {"name": "vggish"}}, {"audio_encoder": "vggish"}),
        ("avinet", {"audio_encoder": None}, {"audio_encoder": "none", "audio": "none"}),
        ("s3d", {"pixels": {"scale": 255.0}}, {"pixels.scale": 255.0}),
    ],
    ids=str,
)  # fmt: skip
def test_nested_and_dotted_changes_give_equal_presets(system, nested, dotted):
    preset = resolve(system, nested)
    assert preset == resolve(system, dotted) != resolve(system)
    assert build(preset) == build(resolve(system, dotted))


@pytest.mark.parametrize("system", [*systems(), *systems("part")])
def test_a_preset_as_plain_values_comes_back(system):
    preset = resolve(system)
    values = preset.to_dict()
    assert preset_of(values, preset.kind) == preset
    assert resolve(values.pop("system"), values) == preset


def test_plain_values_describe_a_changed_preset_whole():
    """They empty the slots and heads that the system fills."""
    changes = {"fusion": None, "regulator": None, "audio_encoder": None, "heads": {"saliency": None}}
    preset = resolve("avrsp", {**changes, "heads.coarse": {"name": "fcn", "width": 0.5}})
    values = preset.to_dict()
    assert resolve(values.pop("system"), values) == preset
    assert preset.parts["heads"] == {"coarse": {"name": "fcn", "width": 0.5}}


def test_presets_are_not_changed_by_changes():
    before = {name: resolve(name).to_dict() for name in systems()}
    resolve("casp_net", {"fusion.coding.iterations": 5, "heads.saliency.width": 0.5, "audio.patches": 2})
    assert {name: resolve(name).to_dict() for name in systems()} == before


def test_a_part_that_is_named_starts_from_its_own_defaults_and_leaves_the_others():
    preset = resolve("avrsp", {"fusion.heads": 4, "regulator.gates": 2})
    assert preset.parts["fusion"] == {"name": "ravf", "heads": 4}
    for name in ("mbt", "ravf"):
        values = preset.to_dict()
        other = resolve(values.pop("system"), {**values, "fusion": name})
        assert other.parts["fusion"] == {"name": name}
        assert other.parts["regulator"] == {"name": "gates", "gates": 2}


def test_fields_alone_keep_the_part_and_its_other_fields():
    network, _ = create_model("casp_net", fusion={"coding": {"rate": 0.2}, "stages": [4]})
    assert network.fusion.coding == Coding(rate=0.2) and network.fusion.stages == (4,)
    assert resolve("s3d", {"pixels.scale": 255.0}).input.pixels == dataclasses.replace(SIGNED, scale=255.0)
    assert resolve("s3d").input.pixels == SIGNED and resolve("vinet").input.pixels == Pixels()


def test_an_encoder_brings_its_sound():
    assert resolve("avinet", {"audio_encoder": "vggish"}).input.audio == LogMel()
    preset = resolve("avinet", {"audio_encoder": "vggish", "audio.patches": 3})
    assert preset.input.audio == LogMel(patches=3)
    assert resolve("avinet", {"audio_encoder": None}).input.audio is None


def test_a_network_has_as_many_heads_as_are_named():
    small = {**TINY, "frames": 8, "height": 64, "width": 96}
    network, _ = create_model("vinet", **small, **{"heads.coarse": "fcn", "heads.coarse.width": 1 / 16})
    assert list(network.heads) == ["saliency", "coarse"] and len(network.heads) == 2
    assert network.heads["coarse"] == FCNDecoder(width=1 / 16)
    variables = abstract_variables(network)
    assert set(variables["params"]["heads"]) == {"saliency", "coarse"}
    clip = Clip(jax.ShapeDtypeStruct((2, 8, 64, 96, 3), np.uint8))
    for train in (False, True):
        outputs = jax.eval_shape(functools.partial(network.run, train=train), variables, clip)
        assert {name: logits.shape for name, logits in outputs.logits.items()} == {
            "saliency": (2, 64, 96),
            "coarse": (2, 64, 96),
        }


@pytest.mark.parametrize("empty", [None, "none"])
def test_a_head_can_be_taken_away(empty):
    for changes in ({"heads.saliency": empty}, {"heads": {"saliency": empty}}, {"heads": empty}):
        assert resolve("vinet", changes).parts["heads"] == {}
        assert list(create_model("vinet", **{**changes, "heads.coarse": "fcn"})[0].heads) == ["coarse"]


@pytest.mark.parametrize(
    ("system", "changes", "message"),
    [
        ("vinet", {"fusion.heads": 8}, "fusion is none and takes no field; got heads"),
        (
            "avrsp",
            {"fusion": None, "fusion.heads": 8},
            "fusion is none and takes no field; got heads",
        ),
        ("avrsp", {"fusion": {"name": "none"}}, "unknown fusion 'none'"),
        ("vinet", {"heads": 5}, "heads are parts by name, as heads.saliency.name; got 5"),
        ("vinet", {"heads": "fcn"}, "heads are parts by name, as heads.saliency.name; got 'fcn'"),
        ("vinet", {"heads.coarse.width": 0.5}, "heads.coarse needs a name, one of avrsp, fcn"),
        (
            "vinet",
            {"fussion": "ravf"},
            r"unknown setting 'fussion' \(did you mean 'fusion'\?\); settings are",
        ),
        (
            "vinet",
            {"frame": 8},
            r"unknown setting 'frame' \(did you mean 'frames'\?\); settings are the slots",
        ),
        ("vinet", {"frames.count": 8}, "frames must be a whole number"),
        (
            "vinets",
            {},
            r"unknown system 'vinets' \(did you mean 'vinet'\?\); systems are vinet, .* parts s3d",
        ),
        (["vinet"], {}, r"unknown system \['vinet'\]"),
    ],
    ids=str,
)
def test_changes_that_mean_nothing_are_refused(system, changes, message):
    with pytest.raises(AvsalError, match=message):
        build(resolve(system, changes))
