"""Names of registered things are in their own modules alone: whoever needs them reads the table."""

import ast
import functools
import pathlib
import sys

import pytest

import avsal_jax
from avsal_jax import registry

ROOT = pathlib.Path(avsal_jax.__file__).parent
KINDS = ("metric", "output", "objective", "dataset", "optimizer")
# (kind, name, file): why the text is something else than the name of that thing, or must be there.
ALLOWED: dict[tuple[str, str, str], str] = {}


@functools.cache
def constants() -> dict[str, list[tuple[str, int]]]:
    """Returns {text: (file, line)} of all string constants of the package."""
    texts: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.setdefault(node.value, []).append((path.relative_to(ROOT).as_posix(), node.lineno))
    return texts


def file_of(entry) -> str:
    return pathlib.Path(sys.modules[entry.module].__file__).relative_to(ROOT).as_posix()


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_stands_in_its_own_module_alone(kind):
    places = [
        f"{file}:{line} {entry.name!r}"
        for entry in registry.entries(kind)
        if entry.origin == registry.PACKAGE
        for file, line in constants().get(entry.name, ())
        if file != file_of(entry) and not file.startswith("testing/")
        if (kind, entry.name, file) not in ALLOWED
    ]
    assert not places, "\n".join(places)


def test_every_exception_is_needed():
    for _, name, file in ALLOWED:
        assert file in {place for place, _ in constants().get(name, ())}, (name, file)
