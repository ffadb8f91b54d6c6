"""Plugins of tests: `tests/extending/plugins` has one of each kind, a file each."""

import pathlib

import pytest

from avsal_jax.plugins import isolated, load_plugins

FOLDER = pathlib.Path(__file__).parent / "plugins"


@pytest.fixture
def plugin():
    """Loads a plugin by the name of its file, until the end of the test; returns the path of the file."""
    with isolated():

        def load(name):
            path = FOLDER / f"{name}.py"
            load_plugins([str(path)])
            return path

        yield load
