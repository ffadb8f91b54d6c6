"""Initialisation from model directories: what is copied, what keeps its initial values, what is refused."""

import jax
import numpy as np
import pytest

from avsal_jax.errors import AvsalError
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import flatten, write_model
from avsal_jax.testing.models import TINY_S3D, tiny_stored
from avsal_jax.training.initialise import Init, initialise


@pytest.fixture(scope="module")
def fresh():
    return tiny_stored(seed=1, visual_encoder="s3d").variables


@pytest.fixture(scope="module")
def trained():
    """Weights of a whole ViNet; batch statistics are not the fresh ones either."""
    stored = tiny_stored(seed=2, visual_encoder="s3d")
    leaves = flatten(stored.variables)
    stored.variables["batch_stats"] = jax.tree.map(lambda x: x + 0.5, stored.variables["batch_stats"])
    assert any(name.startswith("batch_stats/") for name in leaves)
    return stored


@pytest.fixture(scope="module")
def system(trained, tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("init") / "m", trained.preset, trained.variables))


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """A part, as `avsal convert --system s3d` writes it: an S3D with its classifier."""
    fields = {"visual_encoder.width": TINY_S3D["visual_encoder.width"], "visual_encoder.classes": 5}
    preset = resolve("s3d", fields)
    variables = init_variables(build(preset), seed=3)
    return str(write_model(tmp_path_factory.mktemp("init") / "s3d", preset, variables)), flatten(variables)


def equal(actual, expected):
    return np.array_equal(np.asarray(actual), np.asarray(expected))


def test_a_whole_system_fills_everything(fresh, trained, system):
    before = {name: np.array(value) for name, value in flatten(fresh).items()}
    variables, report = initialise(fresh, (Init(system),))
    leaves, expected = flatten(variables), flatten(trained.variables)
    assert set(leaves) == set(expected) and all(equal(leaves[name], expected[name]) for name in expected)
    assert report.fresh == () and report.copied[0][1] == tuple(sorted(expected))
    assert report.text() == f"{len(expected)} leaves from {system}\n0 leaves keep their initial values"
    assert all(equal(value, before[name]) for name, value in flatten(fresh).items())


def test_a_part_fills_only_its_slot(fresh, part):
    path, weights = part
    variables, report = initialise(fresh, (Init(path, "visual_encoder"),))
    leaves, start = flatten(variables), flatten(fresh)
    encoder = {name for name in start if name.split("/")[1] == "visual_encoder"}
    assert all(equal(leaves[name], weights[name]) for name in encoder)
    assert all(equal(leaves[name], start[name]) for name in set(start) - encoder)
    assert set(report.fresh) == set(start) - encoder and len(report.fresh) > 3
    head = "params/visual_encoder/classifier"
    assert report.unused[0][1] == (f"{head}/bias", f"{head}/kernel")
    text = report.text()
    assert "not used, since the network does not have them: visual_encoder/classifier (2)" in text
    assert f"{len(report.fresh)} leaves " in text and " initial values: heads/saliency/conv1 (1), " in text


@pytest.mark.parametrize(("hearing", "fusion"), [("avinet", "concatenation"), ("dual_domain", "cross_modal")])
def test_vinet_and_soundnet_initialise_an_audio_visual_network(trained, system, tmp_path, hearing, fusion):
    """The chain of the papers' recipes: picture and decoder from ViNet, sound from SoundNet, fresh fusion."""
    preset = resolve("soundnet", {"audio_encoder.width": 1 / 16, "audio.samples": 35_280})
    sound = init_variables(build(preset), seed=3)
    sound["batch_stats"] = jax.tree.map(lambda x: x + 0.5, sound["batch_stats"])
    part = str(write_model(tmp_path / "soundnet", preset, sound))
    start = tiny_stored(seed=1, system=hearing, visual_encoder="s3d", fusion=fusion).variables
    variables, report = initialise(start, (Init(system), Init(part, "audio_encoder")))
    leaves, before = flatten(variables), flatten(start)
    copied = flatten(trained.variables) | flatten(sound)
    assert all(equal(leaves[name], value) for name, value in copied.items())
    assert {name.split("/")[1] for name in copied} == {"visual_encoder", "heads", "audio_encoder"}
    assert set(report.fresh) == set(leaves) - set(copied) and report.unused[0][1] == report.unused[1][1] == ()
    assert {name.split("/")[1] for name in report.fresh} == {"fusion"}
    assert all(equal(leaves[name], before[name]) for name in report.fresh)


def test_a_pattern_chooses_leaves_and_the_later_source_counts(fresh, system, part):
    path, weights = part
    sources = (Init(system, "visual_encoder"), Init(path, "visual_encoder", r"^conv[12]/.*kernel$"))
    variables, report = initialise(fresh, sources)
    leaves, system_leaves = flatten(variables), flatten(initialise(fresh, (Init(system),))[0])
    second = set(report.copied[1][1])
    assert len(second) == 3  # conv1 is separable: two kernels; conv2 has one
    for name in report.copied[0][1]:
        assert equal(leaves[name], weights[name] if name in second else system_leaves[name]), name
    across, report = initialise(fresh, (Init(system, "", "^heads/saliency/"),))
    assert {name.split("/")[1] for name in report.copied[0][1]} == {"heads"}
    assert equal(flatten(across)["params/visual_encoder/conv2/conv/kernel"],
                flatten(fresh)["params/visual_encoder/conv2/conv/kernel"])  # fmt: skip


def test_leaves_keep_the_type_of_the_network(fresh, system):
    half = jax.tree.map(lambda x: x.astype(np.float16), fresh)
    variables, _ = initialise(half, (Init(system),))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float16)}


def test_sources_that_do_not_fit_are_refused(fresh, system, part):
    wide = tiny_stored(**TINY_S3D | {"visual_encoder.width": 1 / 8, "heads.saliency.width": 1 / 8}).variables
    with pytest.raises(AvsalError, match="do not fit this network") as error:
        initialise(wide, (Init(system, "visual_encoder"),))
    text = str(error.value)
    assert "of another shape: " in text and " is (" in text and ", not (" in text and text.endswith("pattern")
    assert text.count(", not (") == 8 and " ...;" in text and "\n" not in text
    cases = {
        Init(system, "audio_encoder"): "has no 'audio_encoder'; it has heads, visual_encoder",
        Init(part[0], "heads/saliency"): "has no 'heads/saliency'; it has visual_encoder",
        Init(system, "visual_encoder", "conv9"): r"no leaf of .* that match 'conv9'; its leaves are conv1/",
        Init(part[0], "visual_encoder", "classifier"): r"the network has no leaf of .*classifier/bias",
        Init(system, "", "conv["): "'conv\\[' is not a regular expression: unterminated",
        Init(f"{system}-none"): "there is no model directory",
    }
    for source, message in cases.items():
        with pytest.raises(AvsalError, match=message):
            initialise(fresh, (source,))


@pytest.mark.parametrize(
    ("slot", "today"), [("decoder", "heads/saliency"), ("fusion/gate1", "regulator/gate1")]
)
def test_a_slot_of_an_earlier_version_is_refused_with_its_name(slot, today):
    with pytest.raises(AvsalError, match=f"the slot '{slot}' of init is now '{today}'"):
        Init("model", slot)
