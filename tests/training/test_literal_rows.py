"""Rows with a paper's equations as printed: what they set, and that they train."""

import jax
import numpy as np
import pytest

from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.overrides import config_values
from avsal_jax.training.schema import build_config, plain_values
from tests.training.test_recipes import config_of

# Of each row: the recipe that it is like, and all that differs.
LITERAL = {
    "avinet_av:literal_bilinear": ("avinet_av:bilinear", {"model.fusion.columns": "pairs"}),
    "avinet_av:literal_transformer": ("avinet_av:transformer", {"model.fusion.positions": False}),
    "casp_net_av:literal": (
        "casp_net_av:audio_visual",
        {
            "model.fusion.normalizer": "none",
            "model.fusion.coding.reduction": "mean",
            "model.fusion.coding.update": "own",
        },
    ),
    "casp_net_av:literal_text": (
        "casp_net_av:audio_visual",
        {
            "model.fusion.normalizer": "none",
            "model.fusion.coding.reduction": "mean",
            "model.fusion.coding.update": "above",
        },
    ),
    "casp_net_av:literal_loss": ("casp_net_av:audio_visual", {"loss.cc": 0.1}),
    "avrsp_av:literal": ("avrsp_av:audio_visual", {"loss.sim_form": "sums"}),
    "dual_domain_av:literal": ("dual_domain_av:cross_modal", {"model.fusion.columns": "pairs"}),
    "dual_domain_adapt:diem_literal": ("dual_domain_adapt:diem_da_both", {"model.fusion.columns": "pairs"}),
}
STEPS = ["vinet_dhf1k:table1_hierarchy", *LITERAL, "casp_net_av:literal,literal_loss"]


def flat(values, path=""):
    """Dotted path -> value of nested values."""
    if not isinstance(values, dict):
        return {path: values}
    return {key: v for name in values for key, v in flat(values[name], f"{path}.{name}".lstrip(".")).items()}


@pytest.mark.parametrize("text", LITERAL)
def test_a_literal_row_differs_by_its_equations_alone(text):
    other, changes = LITERAL[text]
    values, before = flat(plain_values(config_of(text))), flat(plain_values(config_of(other)))
    assert {key: values[key] for key in values if values[key] != before.get(key)} == changes
    assert values.keys() == before.keys()


@pytest.mark.slow
@pytest.mark.parametrize("text", STEPS)
def test_a_step_of_a_literal_row_is_finite_and_reaches_its_fusion(text):
    """At the widths of `smoke`, with fewer frames and pixels and a small encoder in place of S3D."""
    size = ["frames=8", "height=32", "width=64", "visual_encoder=small", "visual_encoder.width=0.0625"]
    if "soundnet" in config_of(text).init:
        size.append("audio.samples=4574")
    if text.startswith("casp_net"):
        size.append("heads.saliency.dense_layers=1")
    config = build_config(config_values(f"{text},smoke", [f"--config.model.{field}" for field in size]))
    preset = config.model.preset()
    network = build(preset, Runtime(lowering="direct", norm_momentum=config.model.norm_momentum))
    batches, terms = {"labelled": random_clips(preset.input, 2)}, config.loss.terms()
    objective = config.objective.build(network, terms)
    if "target" in config.objective.streams():
        batches["target"] = random_clips(preset.input, 2, seed=1)
    variables = init_variables(network, 0)
    state, values = train_once(objective, variables, batches)
    assert all(np.isfinite(value) for value in values.values()) and values["failed"] < 0, values
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    for part in variables["params"]:
        moved = jax.tree.map(
            lambda a, b: float(np.abs(a - b).max()), state.params[part], variables["params"][part]
        )
        assert max(jax.tree.leaves(moved)) > 0, part
