"""Generates mutants of Python source: small changes that a test should detect.

`mutants_of` lists all mutants of a module; `draw` samples some of them. The places are located in the syntax
tree (`ast`), and the changes are made in the text. Code that tests are not expected to check is not changed:
docstrings, annotations, messages (the arguments of `raise`, f-strings, `__repr__`), logging, assertions,
decorators and imports.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import random
import re

KINDS = (
    "comparison",
    "arithmetic",
    "constant",
    "boolean",
    "statement",
    "return",
    "slice",
    "default",
    "min and max",
    "axis",
)
_COMPARISONS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "is": "is not",
    "is not": "is",
    "in": "not in",
    "not in": "in",
}
_OPERATORS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "//": "/",
    "%": "//",
    "**": "*",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
}
_SYMBOLS = {
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"},
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"},
    **{ast.Pow: "**", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|"},
    **{ast.And: "and", ast.Or: "or"},
}
_PAIRS = (("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("floor", "ceil"), ("any", "all"))
_SWAPS = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_AXES = {"axis", "axes", "dimension", "dimensions"}
_SILENT = {"print", "warn", "logging", "log", "logger", "debug", "info", "warning"}
_WORDS = {"__repr__", "__str__"}
_SHORT = 24  # characters; a shorter expression is shown with its whole line


@dataclasses.dataclass(frozen=True, order=True)
class Mutant:
    """A single change to a module's source.

    Attributes:
      start, end: the range of bytes that is replaced.
      replacement: the new text.
      line: the line on which the range starts, counted from 1.
      kind: an entry of `KINDS`.
      original, mutant: the enclosing expression, statement or line before and after, joined into one line.
    """

    start: int
    end: int
    replacement: str
    line: int
    kind: str
    original: str
    mutant: str

    def applied(self, source: bytes) -> bytes:
        """Returns the changed source."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]


def mutants_of(source: bytes) -> list[Mutant]:
    """Returns all mutants of a module in source order.

    Every mutant parses, and its syntax tree differs from the original.
    """
    tree = ast.parse(source)
    finder = _Finder(source)
    finder.visit(tree)
    before = ast.dump(tree)
    return [mutant for mutant in sorted(set(finder.mutants)) if _differs(mutant.applied(source), before)]


def draw(mutants: dict[str, list[Mutant]], count: int, rng: random.Random) -> list[tuple[str, Mutant]]:
    """Draws up to `count` mutants, cycling through the kinds, with at most one mutant per line.

    Args:
      mutants: the mutants of each file.
      count: the maximum number to draw.
      rng: the random generator. For the same state, a larger `count` extends the list of a smaller one.

    Returns:
      Pairs of a file and a mutant.
    """
    pools = {kind: [] for kind in rng.sample(KINDS, len(KINDS))}
    for path, file_mutants in sorted(mutants.items()):
        for mutant in file_mutants:
            pools[mutant.kind].append((path, mutant))
    for pool in pools.values():
        rng.shuffle(pool)
    sample, lines = [], set()
    for path, mutant in filter(None, itertools.chain(*itertools.zip_longest(*pools.values()))):
        if (path, mutant.line) not in lines:
            lines.add((path, mutant.line))
            sample.append((path, mutant))
    return sample[:count]


def _differs(source: bytes, before: str) -> bool:
    try:
        return ast.dump(ast.parse(source)) != before
    except SyntaxError:
        return False


def _is_text(node) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _name(function) -> str:
    """Returns the last part of a called name: `maximum` for `jnp.maximum`."""
    return getattr(function, "attr", getattr(function, "id", ""))


def _is_silent(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return _name(call.func) in _SILENT or _name(owner) in _SILENT


def _changed_constant(value) -> str | None:
    """Returns the source of a different constant; None for types that are not changed, such as strings."""
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return str(value + 1)
    if isinstance(value, float):
        return repr(float(f"{value * 1.1:.6g}")) if value else "1.0"
    return None


class _Finder(ast.NodeVisitor):
    """Collects the mutants of a syntax tree in `mutants`."""

    def __init__(self, source: bytes):
        self._source = source
        self._lines = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
        self._in_class = False
        self.mutants: list[Mutant] = []

    def _span(self, node) -> tuple[int, int]:
        start = self._lines[node.lineno - 1] + node.col_offset
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _add(self, kind, around, span, replacement):
        """Adds the mutant that replaces the bytes `span` inside the node `around`."""
        first, last = self._span(around)
        if last - first < _SHORT:  # too short to be understood without its line
            first = self._lines[around.lineno - 1]
            last = self._lines[around.end_lineno]
        before, after = self._source[first : span[0]].decode(), self._source[span[1] : last].decode()
        original = " ".join((before + self._source[slice(*span)].decode() + after).split())
        mutant = " ".join((before + replacement + after).split())
        line = self._source[: span[0]].count(b"\n") + 1
        self.mutants.append(Mutant(*span, replacement, line, kind, original, mutant))

    def _add_operator(self, kind, around, between, symbol, replacement):
        """Adds the mutant that replaces the operator between two nodes, which may be in brackets."""
        start, end = self._span(between[0])[1], self._span(between[1])[0]
        pattern = rb"\s+".join(re.escape(word.encode()) for word in symbol.split())
        if place := re.search(pattern, self._source[start:end]):
            span = (start + place.start(), start + place.end())
            self._add(kind, around, span, replacement)

    def _add_constant(self, kind, node, around=None):
        value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        if (replacement := _changed_constant(value)) is not None:
            kind = "boolean" if isinstance(value, bool) and kind == "constant" else kind
            self._add(kind, around or node, self._span(node), replacement)

    # Code that is not changed.

    def visit_JoinedStr(self, node):
        pass

    def visit_Assert(self, node):
        pass

    def visit_AnnAssign(self, node):
        if node.value is None:
            return
        if self._in_class and isinstance(node.value, ast.Constant):
            self._add_constant("default", node.value, node)
        else:
            self.visit(node.value)

    def visit_If(self, node):
        if _name(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    # Scopes.

    def visit_ClassDef(self, node):
        outer, self._in_class = self._in_class, True
        for statement in node.body:
            self.visit(statement)
        self._in_class = outer

    def visit_FunctionDef(self, node):
        if node.name in _WORDS:
            return
        self._defaults(node.args)
        outer, self._in_class = self._in_class, False
        self._returns(node, skip_self=outer)
        for statement in node.body:
            self.visit(statement)
        self._in_class = outer

    def visit_Lambda(self, node):
        self._defaults(node.args)
        self.visit(node.body)

    def _defaults(self, arguments):
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = [*zip(positional[::-1], arguments.defaults[::-1], strict=False)]
        pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        for name, value in pairs:
            if isinstance(value, ast.Constant):
                self._default(name, value)
            elif value is not None:
                self.visit(value)

    def _default(self, name, value):
        replacement = _changed_constant(value.value)
        if replacement is not None:
            around = ast.Pass(lineno=name.lineno, col_offset=name.col_offset)
            around.end_lineno, around.end_col_offset = value.end_lineno, value.end_col_offset
            self._add("default", around, self._span(value), replacement)

    def _returns(self, function, skip_self):
        """Adds mutants that return None or the first argument; nested functions are skipped."""
        names = [argument.arg for argument in function.args.args]
        first = next((name for name in names if not (skip_self and name in {"self", "cls"})), None)
        inner = [list(function.body)]
        while inner:
            for node in inner.pop():
                if isinstance(node, ast.Return) and node.value is not None:
                    self._return(node, first)
                elif not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
                    inner.append(list(ast.iter_child_nodes(node)))

    def _return(self, node, first):
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add("return", node, self._span(node), "return None")
        if first is not None and not (isinstance(node.value, ast.Name) and node.value.id == first):
            self._add("return", node, self._span(node), f"return {first}")

    # Statements.

    def visit_Raise(self, node):
        self._add("statement", node, self._span(node), "pass")

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call) and not _is_silent(node.value):
            self._add("statement", node, self._span(node), "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self._add("statement", node, self._span(node), "pass")
        symbol = _SYMBOLS.get(type(node.op))
        if symbol in _OPERATORS and not _is_text(node.value):
            between = (node.target, node.value)
            self._add_operator("arithmetic", node, between, f"{symbol}=", f"{_OPERATORS[symbol]}=")
        self.generic_visit(node)

    # Expressions.

    def visit_Compare(self, node):
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            symbol = _SYMBOLS[type(op)]
            self._add_operator("comparison", node, (left, right), symbol, _COMPARISONS[symbol])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        symbol = _SYMBOLS[type(node.op)]
        for between in itertools.pairwise(node.values):
            self._add_operator("boolean", node, between, symbol, "or" if symbol == "and" else "and")
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        start, operand = self._span(node)[0], self._span(node.operand)[0]
        if isinstance(node.op, ast.Not):
            self._add("boolean", node, (start, start + len("not ")), "")
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self._add("arithmetic", node, (start, min(start + 1, operand)), "+")
        self.generic_visit(node)

    def visit_BinOp(self, node):
        symbol = _SYMBOLS.get(type(node.op))
        sides = (node.left, node.right)
        has_none = any(isinstance(side, ast.Constant) and side.value is None for side in sides)
        is_type = symbol == "|" and has_none
        if symbol in _OPERATORS and not is_type and not any(map(_is_text, sides)):
            self._add_operator("arithmetic", node, sides, symbol, _OPERATORS[symbol])
        self.generic_visit(node)

    def visit_Call(self, node):
        if _is_silent(node) or _name(node.func) in {"isinstance", "issubclass"}:
            return
        if (other := _SWAPS.get(_name(node.func))) is not None:
            end = self._span(node.func)[1]
            self._add("min and max", node, (end - len(_name(node.func)), end), other)
        self.generic_visit(node)

    def visit_keyword(self, node):
        number = node.value.operand if isinstance(node.value, ast.UnaryOp) else node.value
        if node.arg in _AXES and isinstance(number, ast.Constant):
            self._add_constant("axis", number, node)
        else:
            self.visit(node.value)

    def visit_Slice(self, node):
        for bound, step in ((node.lower, "+"), (node.upper, "-")):
            if isinstance(bound, ast.Constant) and isinstance(bound.value, int):
                value = bound.value + (1 if step == "+" else -1)
                self._add("slice", node, self._span(bound), str(value))
            elif bound is not None:
                end = self._span(bound)[1]
                self._add("slice", node, (end, end), f" {step} 1")
                self.visit(bound)
        start, end = self._span(node)
        if node.lower is None and node.step is None:
            self._add("slice", node, (start, start), "1")
        if node.upper is None and node.step is None:
            self._add("slice", node, (end, end), "-1")

    def visit_Constant(self, node):
        self._add_constant("constant", node)
