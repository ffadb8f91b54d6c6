"""A prepared tiny data set, and configs of runs that take seconds."""

import copy

import pytest

from avsal_jax.data.prepared.prepare import prepare_generated
from avsal_jax.training.schema import build_config

TINY = {
    "frames": 8,
    "height": 32,
    "width": 64,
    "visual_encoder": {"name": "small", "width": 1 / 64},
    "heads": {"saliency": {"name": "small"}},
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    settings = {"preset": "tiny", "grade": "position"}
    prepare_generated("synthetic", settings, output=folder, size=(32, 64), workers=1)
    return folder


@pytest.fixture(scope="session")
def values(prepared):
    """Gives plain values of a config; changes are by dotted name."""

    def make(**changes):
        settings = {
            "model": copy.deepcopy(TINY),
            "data": {"root": str(prepared), "sources": (("synthetic", None),), "batch": 4},
            "loss": {"kl": 1.0, "cc": -0.1},
            "evaluation": {"every": 6, "pictures": 2},
            "steps": 8,
            "save_every": 4,
            "log_every": 1,
        }
        for path, value in changes.items():
            *parents, name = path.split("__")
            place = settings
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = value
        return settings

    return make


@pytest.fixture(scope="session")
def config(values):
    return lambda **changes: build_config(values(**changes))
