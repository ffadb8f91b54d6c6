"""Tests `tools/mutations.py`: the mutants of a small source, their sampling, test selection and reports."""

import ast
import random

import pytest

from tests.tools import load_tool

SOURCE = '''"""Adds 1 and 2."""

from __future__ import annotations


def total(values: list[int] | None, start: int = 3, *, name: str = "x") -> int | None:
    """Returns 1 + 2, never 3 < 4."""
    if not values and start >= 0:
        raise ValueError(f"{start + 1} is " "min")
    log.info("%d", start + 1)
    assert start < 5
    values.sort()
    total = max(values[1:]) // 2
    total += np.sum(values, axis=-1)
    return total


class Counted:
    """5 > 4."""

    size: int = 7

    def __repr__(self):
        return "x" * 2
'''
HEAD = 'def total(values: list[int] | None, start: int = 3, *, name: str = "x") -> int | None:'
CHANGES = {
    ("default", HEAD, HEAD.replace("3", "4")),
    ("default", "size: int = 7", "size: int = 8"),
    ("boolean", "not values and start >= 0", "not values or start >= 0"),
    ("boolean", "if not values and start >= 0:", "if values and start >= 0:"),
    ("comparison", "if not values and start >= 0:", "if not values and start > 0:"),
    ("constant", "if not values and start >= 0:", "if not values and start >= 1:"),
    ("statement", 'raise ValueError(f"{start + 1} is " "min")', "pass"),
    ("statement", "values.sort()", "pass"),
    ("min and max", "total = max(values[1:]) // 2", "total = min(values[1:]) // 2"),
    ("slice", "total = max(values[1:]) // 2", "total = max(values[2:]) // 2"),
    ("slice", "total = max(values[1:]) // 2", "total = max(values[1:-1]) // 2"),
    ("arithmetic", "total = max(values[1:]) // 2", "total = max(values[1:]) / 2"),
    ("constant", "total = max(values[1:]) // 2", "total = max(values[1:]) // 3"),
    ("statement", "total += np.sum(values, axis=-1)", "pass"),
    ("arithmetic", "total += np.sum(values, axis=-1)", "total -= np.sum(values, axis=-1)"),
    ("axis", "total += np.sum(values, axis=-1)", "total += np.sum(values, axis=-2)"),
    ("return", "return total", "return None"),
    ("return", "return total", "return values"),
}


@pytest.fixture(scope="module")
def tool():
    return load_tool("mutations")


def test_a_known_source_has_the_expected_mutants(tool):
    mutants = tool.mutants.mutants_of(SOURCE.encode())
    changes = [(mutant.kind, mutant.original, mutant.mutant) for mutant in mutants]
    assert set(changes) == CHANGES and len(changes) == len(CHANGES)


def test_operators_of_every_kind_are_changed(tool):
    lines = ["a is None", "a is not None", "a in b", "a not in b", "(a) % (b)", "a ** b", "-a(1)", "a | b"]
    mutants = tool.mutants.mutants_of("\n".join(lines).encode())
    assert {(mutant.original, mutant.mutant) for mutant in mutants} >= {
        ("a is None", "a is not None"),
        ("a is not None", "a is None"),
        ("a in b", "a not in b"),
        ("a not in b", "a in b"),
        ("(a) % (b)", "(a) // (b)"),
        ("a ** b", "a * b"),
        ("-a(1)", "+a(1)"),
        ("a | b", "a & b"),
    }


def test_every_change_is_one_of_the_text_and_leaves_docstrings(tool):
    source = SOURCE.replace('"min"', '"größte"').encode()  # positions are in bytes
    tree = ast.parse(source)
    for mutant in tool.mutants.mutants_of(source):
        changed = ast.parse(mutant.applied(source))
        assert ast.dump(changed) != ast.dump(tree)
        assert docstrings(changed) == docstrings(tree)


def docstrings(tree):
    scopes = [
        node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    ]
    return [ast.get_docstring(scope) for scope in scopes]


def test_a_seed_fixes_the_sample_and_a_larger_count_extends_it(tool):
    sources = {"a.py": SOURCE.encode(), "b.py": SOURCE.replace("total", "other").encode()}
    mutants = {path: tool.mutants.mutants_of(source) for path, source in sources.items()}
    six = tool.mutants.draw(mutants, 6, random.Random("0/ops"))
    assert six == tool.mutants.draw(dict(reversed(mutants.items())), 6, random.Random("0/ops"))
    assert tool.mutants.draw(mutants, 12, random.Random("0/ops"))[:6] == six
    assert tool.mutants.draw(mutants, 6, random.Random("1/ops")) != six
    assert len({mutant.kind for _, mutant in six}) == 6
    assert len({(path, mutant.line) for path, mutant in six}) == 6


def test_every_area_has_modules_and_tests_of_its_own(tool):
    root = tool.ROOT
    for name, area in tool.AREAS.items():
        assert all(any((root / "avsal_jax").glob(pattern)) for pattern in area.modules), name
        assert any(any(root.glob(pattern)) for pattern in area.tests), name


def test_near_tests_are_those_of_the_name_and_those_that_import_it(tool, tmp_path):
    for path, text in {
        "avsal_jax/ops/blur.py": "",
        "avsal_jax/pictures.py": "def draw():\n    from avsal_jax.ops import blur",
        "tests/test_blur.py": "",
        "tests/test_maps.py": "from avsal_jax.ops.blur import gaussian",
        "tests/test_pictures.py": "import avsal_jax.pictures",
        "tests/test_cluster.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    imports = tool.reach.Imports(tmp_path)
    tests = {f"tests/test_{name}.py" for name in ("blur", "maps", "pictures", "cluster")}
    distances = imports.distances("avsal_jax/ops/blur.py", tests)
    assert sorted(distances.values()) == [0, 1, 2, tool.reach.FAR]
    assert imports.namesakes("avsal_jax/ops/blur.py", tests) == {"tests/test_blur.py"}
    assert imports.nearest("avsal_jax/ops/blur.py", tests) == {"tests/test_blur.py", "tests/test_maps.py"}
    assert imports.nearest("avsal_jax/pictures.py", tests) == {"tests/test_pictures.py"}


def test_the_table_shows_what_changed_and_the_survivors(tool):
    row = {"area": "ops", "module": "avsal_jax/ops/x.py", "line": 3, "kind": "constant", "seconds": 1.5}
    rows = [
        {**row, "original": "a | 1", "mutant": "a | 2", "caught_by": "tests/test_x.py::test_y"},
        {**row, "original": "b" * 200 + "1", "mutant": "b" * 200 + "2", "caught_by": None},
    ]
    lines = tool.table(rows).splitlines()
    assert r"| `a \| 1` | `a \| 2` | `tests/test_x.py::test_y` | 1.5 |" in lines[2]
    assert f"`...{'b' * 50}2` | SURVIVED |" in lines[3] and lines[-1] == "2 mutants, 1 survived"


CASE = '<testcase classname="{}" name="{}"><failure message="E&#10;F"/></testcase>'
REPORTS = {  # exit code, cases of the report -> what failed
    "nothing": (0, '<testcase classname="tests.test_a" name="test_x"/>', ""),
    "a test": (1, CASE.format("tests.test_a", "test_x[1.5]"), "tests/test_a.py::test_x[1.5]"),
    "of a class": (1, CASE.format("tests.test_a.TestB", "test_x"), "tests/test_a.py::TestB::test_x"),
    "an import": (2, CASE.format("", "tests.test_a"), "tests/test_a.py"),
    "none chosen": (5, "", ""),
    "too long": ("hang", "", "hang"),
    "a crash": (-11, "", "exit code -11"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_what_failed_is_named(tool, tmp_path, name):
    code, cases, failed = REPORTS[name]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").touch()
    (tmp_path / "report.xml").write_text(f"<testsuite>{cases}</testsuite>")
    run = tool._read_report(tmp_path, tmp_path / "report.xml", code, 1.0)
    assert run == tool.Run(failed, "E F" if "failure" in cases else "", 1.0)
