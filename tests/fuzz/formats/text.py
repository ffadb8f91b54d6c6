"""JSON, tables and lists: values, keys, cells, lines, encodings."""

from __future__ import annotations

import json
from collections.abc import Callable

_NUMBERS = (
    *(0, 1, -1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 10**30),
    *(0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), -float("inf")),
)
_WORDS = (
    *(
        "",
        " ",
        "0",
        "x",
        "nan",
        "a/b",
        "a\\b",
        "..",
        ".",
        "../../outside",
        "/etc/passwd",
        "con",
        "-",
        "--output",
    ),
    *("\0", "\n", "\x1b[2J", "\u202e", "\ud800", "\ufeff", "\U0001d518", "é" * 300, "a" * 5_000),
    *(
        "%s",
        "{0}",
        "<script>",
        "1e5",
        "0x10",
        "1_0",
        "True",
        "null",
        "1,5",
        "=1+1",
        "5 6",
        "\u00b2",
        "\u0661",
    ),
)


def change_value(content: bytes, rng) -> bytes:
    """Changes one value of a JSON text to another, mostly of another type."""
    return _with_json(content, rng, lambda parent, key: parent.__setitem__(key, _value(rng, parent[key])))


def drop_key(content: bytes, rng) -> bytes:
    """Leaves out one key or one item."""
    return _with_json(content, rng, lambda parent, key: parent.__delitem__(key))


def add_key(content: bytes, rng) -> bytes:
    """Adds a key, or an item once more."""

    def add(parent, key):
        if isinstance(parent, dict):
            parent[_WORDS[rng.integers(len(_WORDS))]] = _value(rng, parent[key])
        else:
            parent.insert(key, parent[key])

    return _with_json(content, rng, add)


def nest(content: bytes, rng) -> bytes:
    """Nests a value a thousand or a hundred thousand times."""
    depth = int([10, 1_000, 100_000][rng.integers(3)])
    text = content.decode("utf-8", "replace")
    place = [i for i, c in enumerate(text) if c in '[{"0123456789'] or [0]
    at = place[rng.integers(len(place))]
    return (text[:at] + "[" * depth + "0" + "]" * depth + text[at:]).encode()


def _with_json(content: bytes, rng, change: Callable) -> bytes:
    try:
        lines = content.decode().splitlines() if _is_lines(content) else [content.decode()]
        number = int(rng.integers(len(lines)))
        tree = [json.loads(lines[number])]
        places = list(_places(tree))
        change(*places[rng.integers(len(places))])
        lines[number] = json.dumps(tree[0] if tree else None)
    except (ValueError, RecursionError, IndexError):  # damaged already
        return content
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _is_lines(content: bytes) -> bool:
    first = content.splitlines()[:1]
    return bool(first) and first[0].startswith(b"{") and first[0].rstrip().endswith(b"}")


def _places(tree):
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _value(rng, before):
    draw = rng.integers(8)
    if draw < 3:
        return _NUMBERS[rng.integers(len(_NUMBERS))]
    if draw < 5:
        return _WORDS[rng.integers(len(_WORDS))].replace("\ud800", "?")
    return [None, True, False, [], {}, [before], {"a": before}, [[]], [None] * 3, str(before)][
        rng.integers(10)
    ]


def spaced(content: bytes, rng) -> bytes:
    """Writes JSON with other spaces and escapes."""
    indent = [None, 0, 4][rng.integers(3)]
    return json.dumps(json.loads(content), indent=indent, ensure_ascii=bool(rng.integers(2))).encode()


def spaced_lines(content: bytes, rng) -> bytes:
    """Writes lines of JSON with other spaces, or ends them as Windows does."""
    lines = [json.dumps(json.loads(line), separators=(",", ": ")) for line in content.splitlines()]
    return ("\r\n" if rng.integers(2) else "\n").join([*lines, ""]).encode()


def change_cell(content: bytes, rng) -> bytes:
    """Changes one cell of a table, or one word of a list."""

    def change(cells):
        place = int(rng.integers(len(cells)))
        number, word = _NUMBERS[rng.integers(len(_NUMBERS))], _WORDS[rng.integers(len(_WORDS))]
        cells[place] = str(number) if rng.random() < 0.5 else word

    return _with_cells(content, rng, change)


def add_cell(content: bytes, rng) -> bytes:
    """Writes a cell twice."""
    return _with_cells(content, rng, lambda cells: cells.insert(0, cells[rng.integers(len(cells))]))


def drop_cell(content: bytes, rng) -> bytes:
    """Leaves a cell out."""
    return _with_cells(content, rng, lambda cells: cells.pop(rng.integers(len(cells))))


def change_lines(content: bytes, rng) -> bytes:
    """Leaves a line out, writes it twice, or moves it."""
    lines = content.split(b"\n")
    line = lines.pop(rng.integers(len(lines)))
    for _ in range(rng.integers(3)):
        lines.insert(int(rng.integers(len(lines) + 1)), line)
    return b"\n".join(lines)


def change_encoding(content: bytes, rng) -> bytes:
    """Writes a text as other programs do: byte order marks, UTF-16, Latin-1, NUL, ends of lines."""
    text = content.decode("utf-8", "replace")
    return [
        b"\xef\xbb\xbf" + content,
        text.encode("utf-16"),
        ("é" + text).encode("latin-1", "replace"),
        content.replace(b"\n", b"\r"),
        content.replace(b"\n", b"\r\n"),
        content.replace(b"\n", b"\0\n"),
        content + b"\x1a",
        content.replace(b",", b";"),
        content.replace(b".", b","),
    ][rng.integers(9)]


def _with_cells(content: bytes, rng, change: Callable) -> bytes:
    text = content.decode("utf-8", "replace")
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    mark = next((m for m in (",", "\t", " ") if m in text), " ")
    cells = lines[number].split(mark)
    change(cells)
    lines[number] = mark.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def quoted(content: bytes, rng) -> bytes:
    """Quotes all cells of a table."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    return "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows).encode()


def windows_lines(content: bytes, rng) -> bytes:
    """Ends lines as Windows does."""
    return content.replace(b"\n", b"\r\n")


def loose_list(content: bytes, rng) -> bytes:
    """Writes a list with a byte order mark, tabs and empty lines."""
    return b"\xef\xbb\xbf" + content.replace(b" ", b"\t").replace(b"\n", b"\n\n") + b"\n"
