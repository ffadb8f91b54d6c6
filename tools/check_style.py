"""Refuses retired phrases and names in all text of the repository.

    python tools/check_style.py   # prints the lines to rewrite; exit code 1 if there are any

`tools/style.toml` holds the rules and the exceptions. A line that must keep a retired phrase needs an
exception with a reason.
"""

import argparse
import ast
import dataclasses
import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = "tools/style.toml"
KINDS = ("phrases", "names", "workplace")
_BUILD_FOLDERS = {"__pycache__", "build", "dist", "demo", "fuzz-faults"}
_COMMENTED_SUFFIXES = (".toml", ".sh", ".yaml", "Makefile", "Dockerfile", ".ci/run")


@dataclasses.dataclass(frozen=True)
class Violation:
    """A place that breaks a rule.

    Attributes:
      path: relative to the repository.
      number: of the line, from 1.
      line: its text, stripped.
      kind: `phrases`, `names` or `workplace`.
      word: the text that is refused.
      write: what to write instead.
    """

    path: str
    number: int
    line: str
    kind: str
    word: str
    write: str

    def __str__(self) -> str:
        return f'{self.path}:{self.number}: "{self.word}" -> write {self.write}'


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A regular expression that is refused, and what to write instead."""

    regex: re.Pattern
    write: str


@dataclasses.dataclass(frozen=True)
class NameRule:
    """Words that are refused as whole names; with `constants`, only names in capitals."""

    words: frozenset[str]
    write: str
    constants: bool = False

    def refuses(self, name: str) -> bool:
        """Whether a name, with or without leading underscores, is one of the words."""
        bare = name.strip("_")
        return bare.lower() in self.words and (bare.isupper() or not self.constants)


@dataclasses.dataclass(frozen=True)
class StyleException:
    """Violations that are allowed: of a kind, in files that a glob matches, and why."""

    path: str
    kind: str
    reason: str
    word: str = ""
    line: str = ""

    def __post_init__(self):
        if len(self.reason.split()) < 2 or self.kind not in KINDS:
            raise ValueError(f"the exception for {self.path} needs a reason and a kind of {', '.join(KINDS)}")

    def allows(self, violation: Violation) -> bool:
        """Whether a violation is one of those."""
        return (
            self.kind == violation.kind
            and fnmatch.fnmatch(violation.path, self.path)
            and self.word in ("", violation.word)
            and self.line in violation.line
        )


class Rules:
    """The content of `style.toml`."""

    def __init__(self, text: str):
        content = tomllib.loads(text)
        phrases = [(rf"\b(?:{row['pattern']})\b", row["write"]) for row in content["phrases"]]
        self.phrases = [Pattern(re.compile(regex, re.IGNORECASE), write) for regex, write in phrases]
        every = "|".join(row["pattern"] for row in content["phrases"])
        self.any_phrase = re.compile(rf"\b(?:{every})\b", re.IGNORECASE)
        self.workplace = [Pattern(re.compile(row["pattern"]), row["write"]) for row in content["workplace"]]
        self.names = [
            NameRule(**{**row, "words": frozenset(row["words"].split())}) for row in content["names"]
        ]
        self.exceptions = [StyleException(**row) for row in content["exceptions"]]


def blank_code(text: str) -> str:
    """Replaces code in backquotes, link targets and addresses by spaces; lines keep their numbers."""
    pattern = r"(`+)[^`\n]*\n?[^`\n]*\1|\]\([^)\s]*\)|https?://\S+"
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _numbered(text: str, start: int = 1) -> Iterator[tuple[int, str]]:
    return enumerate(blank_code(text).split("\n"), start)


def markdown_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of Markdown without fenced blocks and code."""
    lines, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r"\s*(```+|~~~+)", line)
        lines.append("" if mark or fence else line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = ""
    yield from _numbered("\n".join(lines))


def comment_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of comments that begin with `#`."""
    for number, line in enumerate(text.split("\n"), 1):
        if comment := re.search(r"(?:^|\s)#(.*)", line):
            yield from _numbered(comment[1], number)


# A comment or a string literal. Faster than `tokenize`, and the same for all versions of Python as long as no
# f-string repeats its own quotes inside, which Python 3.11 does not allow.
_COMMENT_OR_STRING = re.compile(
    r"""\#(?P<comment>[^\n]*)
    |(?P<prefix>\b[bfru]{1,2})?(?P<quotes>\"{3}|'{3}|["'])(?P<text>(?:[^\\"']+|\\.|(?!(?P=quotes)).)*)(?P=quotes)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of comments, docstrings and other strings of two words or more.

    Bytes and the values of f-strings are left out.
    """
    number, position = 1, 0
    for match in _COMMENT_OR_STRING.finditer(text):
        number += text.count("\n", position, match.start())
        position = match.start()
        prefix, content = (match["prefix"] or "").lower(), match["comment"] or match["text"] or ""
        content = re.sub(r"\\[nrt]", "  ", content)
        if "f" in prefix:
            content = re.sub(r"\{[^{}]*\}", lambda value: re.sub(r"[^\n]", "_", value[0]), content)
        if match["comment"] or ("b" not in prefix and re.search(r"\w\W*\s+\W*\w", content)):
            yield from _numbered(content, number)


def prose(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of what people read in a file."""
    if path.endswith(".py"):
        yield from python_prose(text)
    elif path.endswith(".md"):
        yield from markdown_prose(text)
    elif path.endswith(_COMMENTED_SUFFIXES):
        yield from comment_prose(text)


# The attribute that holds the name which a node of a syntax tree binds; names and attributes also need `ctx`.
_BINDERS = {
    ast.Name: "id",
    ast.Attribute: "attr",
    ast.arg: "arg",
    ast.alias: "asname",
    ast.FunctionDef: "name",
    ast.AsyncFunctionDef: "name",
    ast.ClassDef: "name",
    ast.ExceptHandler: "name",
    ast.MatchAs: "name",
    ast.MatchStar: "name",
    ast.MatchMapping: "rest",
}


def bound_names(text: str) -> Iterator[tuple[int, str]]:
    """Yields (line number, name) of every name that code binds, not of those that it uses."""
    updated = set()  # targets of `+=`, which were bound before
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.AugAssign):
            updated.add(node.target)
        elif (attribute := _BINDERS.get(type(node))) and node not in updated:
            name = getattr(node, attribute)
            stores = isinstance(getattr(node, "ctx", ast.Store()), ast.Store)
            if name and stores and not name.startswith("__"):
                yield node.lineno, name


def _refused_phrases(path: str, text: str, rules: Rules) -> Iterator[tuple]:
    if not rules.any_phrase.search(text):  # which is faster than finding the prose
        return
    for number, line in prose(path, text):
        if rules.any_phrase.search(line):
            for rule in rules.phrases:
                for match in rule.regex.finditer(line):
                    yield number, "phrases", match[0], rule.write


def _refused_names(path: str, text: str, rules: Rules) -> Iterator[tuple]:
    for number, name in [(1, pathlib.PurePath(path).stem), *bound_names(text)]:
        for rule in rules.names:
            if rule.refuses(name):
                yield number, "names", name, rule.write


def _refused_anywhere(text: str, rules: Rules) -> Iterator[tuple]:
    for rule in rules.workplace:
        for match in rule.regex.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, "workplace", match[0], rule.write


def check_text(path: str, text: str, rules: Rules) -> list[Violation]:
    """Returns what a file breaks, in the order of its lines, without regard to exceptions."""
    refused = {*_refused_phrases(path, text, rules), *_refused_anywhere(text, rules)}
    if path.endswith(".py"):
        refused.update(_refused_names(path, text, rules))
    lines = text.split("\n")
    return [Violation(path, number, lines[number - 1].strip(), *rest) for number, *rest in sorted(refused)]


def list_files(root: pathlib.Path) -> list[str]:
    """Returns the files of the repository that git does not ignore; without git, all but build outputs."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        output = ""
    paths = {path for path in output.split("\0") if path and (root / path).is_file()}
    if not paths:
        for folder, folders, names in os.walk(root):
            folders[:] = [
                name for name in folders if name not in _BUILD_FOLDERS and (name[0] != "." or name == ".ci")
            ]
            paths.update(pathlib.Path(folder, name).relative_to(root).as_posix() for name in names)
    return sorted(paths)


def check_files(root: pathlib.Path, rules: Rules) -> list[Violation]:
    """Returns what the text files of a repository break."""
    violations = []
    for path in list_files(root):
        content = (root / path).read_bytes()
        if b"\0" not in content[:4096]:
            violations += check_text(path, content.decode("utf-8", errors="replace"), rules)
    return violations


def without_exceptions(
    violations: list[Violation], rules: Rules
) -> tuple[list[Violation], list[StyleException]]:
    """Returns the violations that no exception allows, and the exceptions that allow nothing."""
    remaining = [item for item in violations if not any(rule.allows(item) for rule in rules.exceptions)]
    unused = [rule for rule in rules.exceptions if not any(map(rule.allows, violations))]
    return remaining, unused


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a check: violations, and exceptions that nothing needs."""

    violations: list[Violation]
    unused_exceptions: list[StyleException]

    def lines(self) -> Iterator[str]:
        """Yields what to print; nothing if all is well."""
        yield from map(str, self.violations)
        for rule in self.unused_exceptions:
            yield f'{RULES}: the exception for {rule.path} ("{rule.reason}") matches nothing: remove it'


def check(root: pathlib.Path = ROOT) -> Report:
    """Checks a repository against its rules and exceptions."""
    rules = Rules((root / RULES).read_text())
    return Report(*without_exceptions(check_files(root, rules), rules))


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description="Refuses retired phrases and names.").parse_args(arguments)
    lines = list(check().lines())
    print("\n".join(lines) if lines else "style: no retired phrase or name")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
