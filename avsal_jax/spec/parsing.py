"""Values of settings as text, on command lines and in files."""

from __future__ import annotations

import ast
import fractions
import json
import re


def parse_setting(text: str):
    """Returns the value of a setting: a number, also as 1/16; true, false or null; a tuple or a
    mapping, as JSON or Python writes it; else the text.
    """
    if re.fullmatch(r"[0-9]+/[0-9]*[1-9][0-9]*", text):
        return float(fractions.Fraction(text))
    try:
        return json.loads({"None": "null", "True": "true", "False": "false"}.get(text, text))
    except (ValueError, RecursionError):
        return _literal(text) if text.startswith(("(", "{")) else text


def _literal(text: str):
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, tuple | dict) else text
