"""Model directories of every format that there was still give what they gave, and have today's settings."""

import json
import pathlib

import jax
import numpy as np
import pytest

from avsal_jax.storage import read_model
from avsal_jax.testing.saved_models import largest_error, outputs_of

FOLDER = pathlib.Path(__file__).parent / "saved_models"
MODELS = sorted(path for path in FOLDER.glob("*/*") if path.is_dir())


def test_every_system_and_part_is_there():
    from avsal_jax.models.systems import systems

    cards = [json.loads((path / "model.json").read_text()) for path in MODELS]
    assert {card.get("model", card)["system"] for card in cards} == {*systems(), *systems("part")}


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_model_of_every_format_gives_what_it_gave(path, optimised):
    """1e-4 of the largest value, as golden files: processors differ by some 1e-6."""
    assert largest_error(outputs_of(read_model(path)), path) <= 1e-4


@pytest.mark.slow
def test_other_weights_would_be_noticed(optimised):
    stored = read_model(FOLDER / "format1" / "vinet")
    leaves, tree = jax.tree.flatten(stored.variables)
    leaves[0] = leaves[0] + np.float32(0.01) * np.abs(leaves[0]).max()
    changed = jax.tree.unflatten(tree, leaves)
    stored = type(stored)(stored.preset, stored.network, changed, stored.card)
    assert largest_error(outputs_of(stored), FOLDER / "format1" / "vinet") > 1e-4
