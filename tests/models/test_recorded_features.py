"""Features are recorded under the paths of their modules, and asked for by path or by its end."""

import functools

import jax
import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, create_model
from avsal_jax.models.network import abstract_variables, feature_shapes
from avsal_jax.models.recorded_features import recorded_features
from avsal_jax.testing.models import TINY_HEARING

RECORDED = {
    "taps": ("taps after the neck",),
    "visual_encoder": {"taps": ("taps",), "class_logits": ("scores",)},
    "fusion": {
        "fused": ("fused",),
        "layer0": {"attention": {"attention": ("a0",)}},
        "layer1": {"attention": {"attention": ("a1",)}},
        "layer2": {"attention": {"attention": ("a2",)}},
    },
}
PATHS = [
    "fusion/fused",
    "fusion/layer0/attention/attention",
    "fusion/layer1/attention/attention",
    "fusion/layer2/attention/attention",
    "taps",
    "visual_encoder/class_logits",
    "visual_encoder/taps",
]


def test_all_features_are_there_by_path():
    features = recorded_features(RECORDED, None)
    assert list(features) == PATHS and features["fusion/layer1/attention/attention"] == "a1"
    assert recorded_features(RECORDED, ()) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fused", "fused"),
        ("fusion/fused", "fused"),
        ("class_logits", "scores"),
        ("taps", "taps after the neck"),
        ("visual_encoder/taps", "taps"),
        ("layer2/attention/attention", "a2"),
        ("fusion/layer0/attention/attention", "a0"),
    ],
)
def test_a_feature_has_the_name_that_was_asked_for(name, value):
    assert recorded_features(RECORDED, (name,)) == {name: value}


def test_of_two_paths_the_shorter_one_is_meant():
    recorded = {"fusion": {"fused": (1,), "inner": {"fused": (2,)}}}
    assert recorded_features(recorded, ("fused", "inner/fused")) == {"fused": 1, "inner/fused": 2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "attention",
            "several modules record 'attention'; use a path instead: fusion/layer0/attention/attention, "
            "fusion/layer1/attention/attention, fusion/layer2/attention/attention$",
        ),
        (
            "fuse",
            rf"unknown feature 'fuse' \(did you mean 'fused'\?\); this network records {', '.join(PATHS)}$",
        ),
        ("used", r"unknown feature 'used' \(did you mean 'fused'\?\)"),
        ("fusion", "unknown feature 'fusion'.*; this network records fusion/fused"),
    ],
)
def test_an_unknown_or_ambiguous_name_is_refused_with_the_paths(name, message):
    with pytest.raises(AvsalError, match=message):
        recorded_features(RECORDED, (name,))


def test_the_attention_of_three_layers_has_three_paths():
    small = {**TINY_HEARING, "frames": 8, "height": 64, "width": 96}
    network, spec = create_model("avinet", fusion={"name": "transformer", "width": 1 / 16}, **small)
    paths = [f"fusion/layer{number}/attention/attention" for number in range(3)]
    shapes = feature_shapes(network, None)
    assert {path for path in shapes if path.endswith("attention")} == set(paths)
    tokens = 1 * 2 * 3 + 2
    assert {shapes[path].shape for path in paths} == {(1, 4, tokens, tokens)}
    with pytest.raises(AvsalError, match=f"several modules record 'attention'; .* {', '.join(paths)}"):
        feature_shapes(network, ("attention",))
    clip = Clip(jax.ShapeDtypeStruct((2, 8, 64, 96, 3), np.uint8))
    run = functools.partial(network.run, features=(paths[1], "fused"))
    features = jax.eval_shape(run, abstract_variables(network), clip).features
    assert {name: value.shape for name, value in features.items()} == {
        paths[1]: (2, 4, tokens, tokens),
        "fused": (2, tokens, 32),
    }
