"""The recipe of avsal-gaze: what learns in each row, from which weights and on which pictures."""

import math
import re

import jax
import pytest

from avsal_jax.data.sets.datasets import find_dataset
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build
from avsal_jax.training import recipes
from avsal_jax.training.optimizers import group_labels, with_frozen
from avsal_jax.training.schema import build_config

READOUT = sum((40 * 48, 112 * 48, 320 * 48, 2 * (40 + 112 + 320), 9 * 48 * 32 + 32, 32, 1, 48))
MOTION = sum((9 * 4 * 12 + 12, 9 * 12 * 4 + 4, 4 * 2 + 2, 48))
STAGES_4_TO_7 = 198_480 + 446_784 + 1_652_640 + 605_440  # of EfficientNet-Lite0, norms too


def config_of(row):
    return build_config(recipes.config(f"gaze:{row}").to_dict())


def learnt(config) -> dict[str, int]:
    """Path -> number of values of the parameters that learn."""
    network = build(config.model.preset())
    params = abstract_variables(network)["params"]
    labels = group_labels(with_frozen(config.optimizer, network.frozen_parameters), params)
    leaves = {
        "/".join(str(key.key) for key in path): leaf for path, leaf in jax.tree.leaves_with_path(params)
    }
    return {path: math.prod(leaf.shape) for path, leaf in leaves.items() if labels[path] != "frozen"}


@pytest.mark.parametrize(
    ("row", "values", "pattern"),
    [
        ("readout", READOUT, "heads/saliency/readout/.*"),
        ("photographs", READOUT + STAGES_4_TO_7, "heads/saliency/readout/.*|visual_encoder/stage[4-7]/.*"),
        ("fold1", MOTION, "heads/saliency/motion_head/.*"),
        ("clips", MOTION, "heads/saliency/motion_head/.*"),
        ("own_photographs", READOUT, "heads/saliency/readout/.*"),
        ("own_clips", MOTION, "heads/saliency/motion_head/.*"),
    ],
)
def test_what_learns(row, values, pattern):
    learning = learnt(config_of(row))
    assert all(re.fullmatch(pattern, path) for path in learning)
    assert sum(learning.values()) == values


def test_sources():
    """Folds leave one out each; `clips` takes the training clips of two folds, which are all clips."""
    for number in range(1, 6):
        assert config_of(f"fold{number}").data.sources == (("hevc_gaze", number),)
        assert number in find_dataset("hevc_gaze").folds
    assert config_of("clips").data.sources == (("hevc_gaze", 1), ("hevc_gaze", 2))
    assert {name for name, _ in config_of("photographs").data.sources} == {"osie", "eyecrowd", "sun_scenes"}


def test_nothing_is_chosen_on_what_is_tested():
    for row in recipes.recipe("gaze").rows:
        assert config_of(row).evaluation.export == "last" and config_of(row).early_stop is None
