"""Calls with more than three arguments name them; so six of them cannot change places unseen."""

import ast
import pathlib

import pytest

import avsal_jax

PACKAGE = pathlib.Path(avsal_jax.__file__).parent
# Functions of libraries that take no names, or are read without them everywhere: shapes, axes, slices.
OF_LIBRARIES = {
    "cond", "einsum", "get_close_matches", "integers", "lower", "partial", "randint", "reshape",
    "scale_and_translate", "slice_in_dim", "submit", "suppress", "text", "zip",
}  # fmt: skip
# Ours that take any number of words or arrays, or are compiled and therefore take no names.
OF_PACKAGE = {"_coins", "_random", "_score_numpy", "random_fraction", "_push", "program", "stage", "synergy"}


def calls(code: str):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and not any(isinstance(arg, ast.Starred) for arg in node.args):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if len(node.args) > 3 and name not in OF_LIBRARIES | OF_PACKAGE:
                yield f"{node.lineno}: {ast.unparse(node)[:100]}"


@pytest.mark.parametrize(
    ("code", "count"),
    [("f(1, 2, 3)", 0), ("f(1, 2, 3, 4)", 1), ("f(1, b=2, c=3, d=4)", 0), ("f(*a, 1, 2, 3)", 0)],
)
def test_a_call_with_four_positions_would_be_noticed(code, count):
    assert len(list(calls(code))) == count


def test_calls_name_their_arguments():
    violations = [
        f"{path}:{call}" for path in PACKAGE.rglob("*.py") for call in calls(path.read_text("utf-8"))
    ]
    assert not violations, "\n".join(violations)
