"""Plugins import the package and its tables of contents; nothing inside them may be relied on."""

import ast

import pytest

from avsal_jax import registry
from tests.extending.conftest import FOLDER

PLUGINS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_plugin_imports_tables_of_contents_alone(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("avsal_jax"):
            assert node.module.count(".") <= 1, ast.unparse(node)
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("avsal_jax.") for alias in node.names), ast.unparse(node)


def test_there_is_a_plugin_of_every_kind(plugin):
    for path in PLUGINS:
        plugin(path.stem)
    missing = [
        kind
        for kind in registry.KINDS
        if all(entry.origin == registry.PACKAGE for entry in registry.entries(kind))
    ]
    assert missing == ["regulator"]  # a part as the neck is
