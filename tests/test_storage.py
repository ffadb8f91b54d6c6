"""Model directories: round trip, and an error that names what differs."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, load_model
from avsal_jax.storage import flatten, read_model, write_model
from avsal_jax.testing.models import tiny_stored


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


KERNEL = "params/decoder/conv1/kernel"


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="avsal_jax model 9"), "this version reads"),
        (lambda c: c.pop("slots"), "'slots' is not an object"),
        (lambda c: c.update(provenance="hello"), "'provenance' is not an object"),
        (
            lambda c: c["slots"]["decoder"]["fields"].update(width=0),
            "decoder.width must be a number above 0 and at most 16; got 0",
        ),
        (lambda c: c["slots"]["decoder"].pop("fields"), "no field 'fields'"),
        (lambda c: c["slots"]["decoder"].update(name="resnet"), "unknown decoder 'resnet'"),
        (lambda c: c["slots"]["decoder"]["fields"].update(runtime="x"), "no field 'runtime'"),
        (
            lambda c: c["slots"]["decoder"]["fields"].update(width=1e9),
            "decoder.width must be a number above 0",
        ),
        (lambda c: c["input"].update(frames=10**9), "frames must be a whole number from 1 to"),
        (lambda c: c["input"].update(height="224"), "height must be a whole number"),
        (lambda c: c["input"].update(colour="rgb"), "the input of a model has no field 'colour'"),
        (lambda c: c.update(input=[1, 2]), "'input' is not an object"),
        (lambda c: c.update(slots=3), "'slots' is not an object"),
    ],
)
def test_a_card_that_is_wrong(directory, change, message):
    edit_card(directory, change)
    with pytest.raises(AvsalError, match=message):
        load_model(directory)


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
    assert slots == {"visual_encoder", "decoder"}
