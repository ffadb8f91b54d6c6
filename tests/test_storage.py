"""Model directories: round trip, and an error that names what differs."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, load_model
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.ops.predictive_coding import Coding
from avsal_jax.storage import flatten, model_label, read_model, write_model
from avsal_jax.testing.models import TINY, tiny_stored


@pytest.fixture
def directory(tmp_path):
    stored = tiny_stored()
    return write_model(tmp_path / "m", stored.preset, stored.variables, {"note": "made by a test"})


def test_round_trip(directory):
    original, stored = tiny_stored(), read_model(directory)
    assert stored.preset == original.preset
    jax.tree.map(np.testing.assert_array_equal, stored.variables, original.variables)
    assert stored.card["provenance"] == {"note": "made by a test"}
    assert sorted(p.name for p in directory.parent.iterdir()) == ["m"]  # no temporary folder is left
    assert sorted(p.name for p in directory.iterdir()) == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("runs/vinet_t16/model", "vinet_t16"),
        ("/data/runs/vinet_t16/model/", "vinet_t16"),
        ("checkpoints/vinet_dhf1k", "vinet_dhf1k"),
        ("avsal-gaze", "avsal-gaze"),
        ("runs/model_b", "model_b"),
        ("runs/vinet_t16/model/../model", "vinet_t16"),
        ("/model", "model"),
    ],
)
def test_a_model_is_labelled_by_its_folder_or_its_run(path, label):
    assert model_label(path) == label


def test_a_model_in_the_current_folder_has_the_name_of_that(tmp_path, monkeypatch):
    folder = tmp_path / "vinet_t16" / "model"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    assert model_label("model") == "vinet_t16"
    monkeypatch.chdir(folder)
    assert model_label(".") == "vinet_t16"


def edit_card(directory, change):
    path = directory / "model.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


def rewrite_weights(directory, change):
    """Changes tensors and the digest with them: the file is whole, but not of this network."""
    import hashlib

    path = directory / "weights.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_card(directory, lambda card: card["weights"].update(sha256=digest))


KERNEL = "params/heads/saliency/conv1/kernel"


def test_damaged_weights(directory):
    path = directory / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(AvsalError, match=r"weights.safetensors is damaged: its sha256"):
        load_model(directory)
    path.write_bytes(content[:1000])
    with pytest.raises(AvsalError, match="damaged"):
        load_model(directory)
    path.unlink()
    with pytest.raises(AvsalError, match=r"has no weights.safetensors"):
        load_model(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(KERNEL), f"1 missing: {KERNEL}"),
        (lambda t: t.update(extra=np.ones(2, np.float32)), "1 not known: extra"),
        (
            lambda t: t.update({KERNEL: np.zeros((1, 3, 3, 2, 2), np.float32)}),
            rf"1 of another shape: {KERNEL} is \(1, 3, 3, 2, 2\), not \(1, 3, 3, 64, 52\)",
        ),
    ],
)
def test_weights_of_another_network(directory, change, message):
    rewrite_weights(directory, change)
    with pytest.raises(AvsalError, match=message):
        load_model(directory)


def head(card):
    return card["model"]["heads"]["saliency"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="avsal_jax model"), "has format 'avsal_jax model'; this version reads"),
        (lambda c: c.pop("model"), "'model' is not an object"),
        (lambda c: c.update(model=[1, 2]), "'model' is not an object"),
        (lambda c: c.update(model=3), "'model' is not an object"),
        (lambda c: c.update(provenance="hello"), "'provenance' is not an object"),
        (
            lambda c: head(c).update(width=0),
            "heads.saliency.width must be a number above 0 and at most 16; got 0",
        ),
        (lambda c: head(c).update(width=1e9), "heads.saliency.width must be a number above 0"),
        (lambda c: head(c).pop("name"), "heads.saliency needs a name, one of avrsp, fcn"),
        (lambda c: head(c).update(name="resnet"), "unknown head 'resnet'"),
        (lambda c: head(c).update(runtime="x"), "heads.saliency 'vinet' has no field 'runtime'"),
        (lambda c: c["model"].pop("heads"), "no field 'heads'"),
        (lambda c: c["model"].pop("fusion"), "no field 'fusion'"),
        (lambda c: c["model"].update(heads=["vinet"]), "what it holds is not what belongs there"),
        (lambda c: c["model"].update(fusion="ravf"), "fusion is a part with a name and fields; got 'ravf'"),
        (lambda c: c["model"].update(frames=10**9), "frames must be a whole number from 1 to"),
        (lambda c: c["model"].update(height="224"), "height must be a whole number"),
        (lambda c: c["model"].update(colour="rgb"), "the input of a model has no field 'colour'"),
    ],
)
def test_a_card_that_is_wrong(directory, change, message):
    edit_card(directory, change)
    with pytest.raises(AvsalError, match=message):
        load_model(directory)


@pytest.mark.parametrize("number", [3, 9])
def test_a_card_of_a_newer_version_is_one_clear_line(directory, number):
    edit_card(directory, lambda card: card.update(format=f"avsal_jax model {number}"))
    message = (
        f"has format 'avsal_jax model {number}', of a newer avsal_jax; "
        "this version reads 'avsal_jax model 1', 'avsal_jax model 2': update avsal_jax"
    )
    with pytest.raises(AvsalError, match=message) as caught:
        load_model(directory)
    assert "\n" not in str(caught.value)


def rewrite_as_format1(directory):
    """Writes a directory of a ViNet again, as version 0.1 wrote it."""

    def renamed(tensors):
        for name in [name for name in tensors if "/heads/saliency/" in name]:
            tensors[name.replace("/heads/saliency/", "/decoder/")] = tensors.pop(name)

    def earlier(card):
        model = card.pop("model")
        slots = {slot: model[slot] for slot in ("visual_encoder", "neck", "audio_encoder", "fusion")}
        slots["decoder"] = model["heads"]["saliency"]
        slots = {slot: {"name": "none"} if part is None else dict(part) for slot, part in slots.items()}
        slots = {slot: {"name": part.pop("name"), "fields": part} for slot, part in slots.items()}
        spec = {name: model[name] for name in ("frames", "height", "width", "resize", "label_frame")}
        spec |= {"pixel_norm": "imagenet", "audio": None}
        card.update(format="avsal_jax model 1", system=model["system"], slots=slots, input=spec)

    rewrite_weights(directory, renamed)
    edit_card(directory, earlier)


def test_a_directory_of_format_1_is_migrated(directory):
    rewrite_as_format1(directory)
    original, stored = tiny_stored(), read_model(directory)
    assert stored.preset == original.preset and stored.network == original.network
    jax.tree.map(np.testing.assert_array_equal, stored.variables, original.variables)
    assert stored.card["format"] == "avsal_jax model 1"


def decoder(card):
    return card["slots"]["decoder"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("slots"), "'slots' is not an object"),
        (lambda c: c.update(slots=3), "'slots' is not an object"),
        (lambda c: c.update(input=[1, 2]), "'input' is not an object"),
        (lambda c: c.pop("system"), "no field 'system'"),
        (lambda c: decoder(c).pop("fields"), "no field 'fields'"),
        (lambda c: decoder(c).update(name="resnet"), "unknown head 'resnet'"),
        (
            lambda c: decoder(c)["fields"].update(width=0),
            "heads.saliency.width must be a number above 0 and at most 16; got 0",
        ),
        (lambda c: decoder(c)["fields"].update(runtime="x"), "no field 'runtime'"),
        (lambda c: decoder(c)["fields"].update(width=1e9), "heads.saliency.width must be a number above 0"),
        (lambda c: c["input"].update(frames=10**9), "frames must be a whole number from 1 to"),
        (lambda c: c["input"].update(height="224"), "height must be a whole number"),
        (lambda c: c["input"].update(colour="rgb"), "unknown setting 'colour'"),
    ],
)
def test_a_card_of_format_1_that_is_wrong(directory, change, message):
    rewrite_as_format1(directory)
    edit_card(directory, change)
    with pytest.raises(AvsalError, match=message):
        load_model(directory)


def test_tuples_and_nested_fields_come_back(tmp_path):
    """JSON has lists in place of tuples."""
    changes = {"neck": {"rates": (2, 4)}, "fusion": {"stages": (3, 4), "coding": {"iterations": 2}}}
    narrow = {**TINY, "neck.width": 1 / 32, "audio_encoder.width": 1 / 32, "height": 64, "width": 96}
    preset = resolve("casp_net", {**narrow, **changes})
    path = write_model(tmp_path / "m", preset, init_variables(build(preset), 0))
    network = read_model(path).network
    assert network == build(preset)
    assert (network.neck.rates, network.fusion.stages) == ((2, 4), (3, 4))
    assert network.fusion.coding == Coding(iterations=2)


def test_no_model_directory(tmp_path):
    with pytest.raises(AvsalError, match="there is no model directory"):
        load_model(tmp_path / "none")
    with pytest.raises(AvsalError, match=r"it has no model.json"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{" * 100_000)
    with pytest.raises(AvsalError, match=r"model.json is damaged"):
        load_model(tmp_path)


def test_flat_names_begin_with_the_slots():
    names = flatten(tiny_stored().variables)
    slots = {name.split("/")[1] for name in names}
    assert slots == {"visual_encoder", "heads"}
