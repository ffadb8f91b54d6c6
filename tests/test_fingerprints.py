"""The networks of all config rows are those of the first version: parameters, initial values, outputs.

`fingerprints.json` was recorded with the code of commit 6430e1e, before a model became nested data. Networks
with RAVF were recorded again when the last layer of its head scores came to start at zero: with that layer as
it was before, their values were those of 6430e1e.
"""

import functools
import json
import pathlib

import numpy as np
import pytest

from avsal_jax.testing import fingerprints

RECORDED = json.loads((pathlib.Path(__file__).parent / "fingerprints.json").read_text())
# One row of each distinct network stands for the others, which a test holds equal.
FIRST = {network: row for row, network in reversed(RECORDED["rows"].items())}
# The fast tests draw the values of one network of each recipe.
OF_RECIPES = {row.partition(":")[0]: network for network, row in reversed(FIRST.items())}.values()
FAST_AND_SLOW = [pytest.param(name, marks=() if name in OF_RECIPES else pytest.mark.slow) for name in FIRST]


@functools.cache
def presets(row: str):
    return fingerprints.presets(row)


def test_every_row_that_was_recorded_is_there():
    assert set(RECORDED["rows"]) <= set(fingerprints.rows())


def test_rows_that_were_one_network_are_one_network():
    for row, network in RECORDED["rows"].items():
        assert presets(row) == presets(FIRST[network]), row


@pytest.mark.parametrize("network", FAST_AND_SLOW)
def test_initial_values_are_exactly_those_that_were(network):
    _, small = presets(FIRST[network])
    assert fingerprints.initial_values(small) == RECORDED["networks"][network]["initial"]


@pytest.mark.slow
@pytest.mark.parametrize("network", FIRST)
def test_the_parameters_of_full_size_are_those_that_were(network):
    preset, _ = presets(FIRST[network])
    recorded = RECORDED["networks"][network]
    assert fingerprints.parameters(preset) == {"leaves": recorded["leaves"], "tree": recorded["tree"]}


@pytest.mark.slow
@pytest.mark.parametrize("network", FIRST)
def test_outputs_are_those_that_were(network):
    """To 1e-6 of the largest value, as computed in float64 and rounded to float32."""
    _, small = presets(FIRST[network])
    recorded = RECORDED["networks"][network]["logits"]
    probes = fingerprints.probes(fingerprints.logits(small))
    assert probes["shape"] == recorded["shape"]
    error = np.abs(np.subtract(probes["values"], recorded["values"])).max()
    assert error <= 1e-6 * recorded["absmax"]
