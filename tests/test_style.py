"""New text is in plain English: the repository passes tools/check_style.py, whose rules are tested here."""

import pathlib

import pytest

from tests.tools import load_tool

ROOT = pathlib.Path(__file__).parent.parent


tool = load_tool("check_style")
RULES = tool.Rules((ROOT / tool.RULES).read_text())


def refused(path, text):
    return [(item.number, item.word) for item in tool.check_text(path, text, RULES)]


def test_new_lines_of_the_repository_follow_the_rules():
    assert list(tool.check().lines()) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("for one in rows:\n    pass\n", [(1, "one")]),
        ("x = [\n    0\n    for both in pairs\n]\n", [(3, "both")]),
        ("def f(known, *, where=None):\n    pass\n", [(1, "known"), (1, "where")]),
        ("class Found:\n    made: int = 0\n", [(1, "Found"), (2, "made")]),
        ("def told():\n    pass\n", [(1, "told")]),
        ("self._kept = x\n", [(1, "_kept")]),
        ("with f() as what, g() as theirs:\n    pass\n", [(1, "theirs"), (1, "what")]),
        ("if (got := f()):\n    pass\n", [(1, "got")]),
        ("import numpy as ours\n", [(1, "ours")]),
        ("match x:\n    case [said, *others]:\n        pass\n", [(2, "others"), (2, "said")]),
        ("try:\n    f()\nexcept E as seen:\n    pass\n", [(3, "seen")]),
        ("_LINGER = 6.0\nSTILL = 5\n", [(1, "_LINGER"), (2, "STILL")]),
    ],
)
def test_retired_names_are_refused_where_code_binds_them(code, expected):
    assert refused("a.py", code) == expected


@pytest.mark.parametrize(
    "code",
    [
        "print(found, told.one, where.both)\n",
        "f(known=1, where=2)\n",
        "known_small_encoder = found_at = one_line = 1\n",
        "from library import found\n",
        "count += found\n",
        "still = image.still()\n",
        "__all__ = []\n",
    ],
)
def test_names_that_are_used_or_longer_pass(code):
    assert refused("a.py", code) == []


def test_a_module_is_a_name_too():
    assert refused("tests/found.py", "x = 1\n") == [(1, "found")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('"""Reads it.\n\nThe counter starts anew.\n"""\n', [(3, "anew")]),
        ("x = 1  # the others are told\n", [(1, "told")]),
        ('raise E(f"{path} is damaged: {reason}; evaluate anew")\n', [(1, "anew")]),
        ('help = "where the set lies"\n', [(1, "where the set lies")]),
        ('"""Uses `told` and ``anew`` as code."""\n', []),
        ('x = f"the count is {anew}"\n', []),
        ('x = {"told": 1, "anew": 2}\n', []),
        ("told(anew)\n", []),
        ('x = b"it starts anew"\n', []),
    ],
)
def test_phrases_are_refused_in_comments_docstrings_and_messages(code, expected):
    assert refused("a.py", code) == expected


@pytest.mark.parametrize(
    "text",
    [
        "A second run exits with an error.",
        "There is no sound, there are no files, and it is no longer read.",
        "So many files were open that the process failed.",
        "Bear in mind that the batch decides.",
        "The map made of both is found, and one is known.",
        "It runs on the GPU and goes on the second device.",
        "A fixture has the scope session.",
    ],
)
def test_ordinary_english_passes(text):
    assert refused("a.md", text) == []


def test_markdown_is_checked_outside_of_code():
    text = (
        "The run is told so.\n\n```sh\nit starts anew\n```\n\nCall `tell` and\n`stay\nhere` anew [x](anew.md)"
    )
    assert refused("a.md", text) == [(1, "told"), (9, "anew")]
    assert refused("a.md", "~~~\n```\nanew\n~~~\nanew\n") == [(5, "anew")]


def test_comments_of_scripts_are_checked():
    assert refused("a.sh", "echo anew\nrun # it starts anew\n") == [(2, "anew")]


@pytest.mark.parametrize(
    "line",
    [
        "see https://" + "py" + "pi.org/simple",
        "the file is in /" + "work/data",
        'path = "/' + 'tmp/x"',
        "/" + "home/me/.cache",
        "written by an " + "A" + "I",
        "an " + "assist" + "ant wrote it",
    ],
)
@pytest.mark.parametrize("path", ["a.py", "b.md", "c.csv", "Makefile"])
def test_hosts_and_paths_of_a_machine_are_refused_everywhere(path, line):
    items = tool.check_text(path, f"# {line}\n", RULES)
    assert [item.kind for item in items] == ["workplace"]


def test_relative_paths_and_container_folders_are_not_of_a_machine():
    paths = (
        "runs/" + "work/x",
        "../" + "tmp/y",
        "$HOME/tmp",
        "example.com/home/page",
        "/workspace/x",
        "/data/x",
    )
    assert refused("a.md", ", ".join(paths)) == []


RULES_TEXT = """
phrases = [{ pattern = 'anew', write = 'again' }]
names = [{ words = "found", write = "a noun" }]
workplace = []
exceptions = []
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / tool.RULES).write_text(RULES_TEXT)
    (tmp_path / "a.py").write_text("found = 1\n")
    (tmp_path / "a.md").write_text("It starts anew.\n")
    return tmp_path


def test_every_violation_is_printed_with_a_suggestion(repository, monkeypatch, capsys):
    monkeypatch.setattr(tool, "check", lambda check=tool.check: check(repository))
    assert tool.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        'a.md:1: "anew" -> write again',
        'a.py:1: "found" -> write a noun',
    ]
    (repository / "a.md").write_text("It starts again.\n")
    (repository / "a.py").write_text("matches = 1\n")
    assert tool.main([]) == 0


def exception(**fields):
    rows = "".join(f'{key} = "{value}"\n' for key, value in fields.items())
    return RULES_TEXT.replace("exceptions = []", f"[[exceptions]]\n{rows}")


def test_an_exception_allows_what_it_names(repository):
    (repository / "b.md").write_text("Quote: start anew.\nDo it anew.\n")
    text = exception(path="b.*", kind="phrases", word="anew", line="Quote", reason="a paper's words")
    (repository / tool.RULES).write_text(text)
    assert [item.number for item in tool.check(repository).violations if item.path == "b.md"] == [2]


def test_an_exception_that_allows_nothing_is_refused(repository):
    text = exception(path="c.md", kind="phrases", reason="a paper's words")
    (repository / tool.RULES).write_text(text)
    assert "the exception for c.md" in "".join(tool.check(repository).lines())


@pytest.mark.parametrize("fields", [{}, {"reason": ""}, {"reason": "needed"}])
def test_an_exception_needs_a_reason(fields):
    with pytest.raises((TypeError, ValueError), match="reason"):
        tool.Rules(exception(path="b.md", kind="phrases", **fields))
