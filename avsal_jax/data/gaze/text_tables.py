"""Tables as eye trackers and spreadsheets export them: encoding, delimiter, header, rows, numbers."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

from avsal_jax.errors import AvsalError, one_line

_MAX_BYTES, _MAX_LINE_CHARACTERS = 2_000_000_000, 100_000
_HEAD_BYTES, _CHUNK_BYTES = 4096, 1 << 20
_DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_EMPTY = frozenset(("", ".", "-", "nan", "na", "n/a", "null", "none", "missing"))  # cells without a value
_SHOWN_CHARACTERS = 200


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of which the header is read.

    Attributes:
      path: the file.
      encoding: of its text.
      delimiter: between the cells of a row.
      header: the names of the columns, stripped.
      header_line: number of the header's line, from 1.
    """

    path: pathlib.Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    header_line: int

    def rows(self) -> Iterator[tuple[int, list[str] | None]]:
        """Yields (number of the line, cells) below the header, without empty lines and comments.

        Cells are None for a comment that has as many as the header, and so may be a row.

        Empty cells at the end of a row are left out where the header has fewer.
        """
        width = len(self.header)
        for number, line in _lines(self.path, self.encoding):
            if number > self.header_line and _is_comment(line):
                if len(split_line(line, self.delimiter)) == width:
                    yield number, None
            elif number > self.header_line:
                cells = split_line(line, self.delimiter)
                while len(cells) > width and not cells[-1].strip():
                    cells.pop()
                yield number, cells

    def notes(self) -> list[str]:
        """Returns how the text was read, a line each."""
        lines = [f"{self.path.name}: cells are separated by {_DELIMITERS[self.delimiter]}"]
        if self.encoding == "latin-1":
            lines.append(f"{self.path.name} is not UTF-8; it is read as Latin-1: check names with accents")
        elif self.encoding.startswith("utf-16"):
            lines.append(f"{self.path.name} is UTF-16 text")
        return lines


def open_table(path: pathlib.Path, columns_of: Callable[[Sequence[str]], int], names: str) -> TextTable:
    """Reads the header of a table: its first line that is neither empty nor a comment (`#`).

    Args:
      path: the file.
      columns_of: returns how many of the needed columns a header has; the delimiter is the one with the most.
      names: the needed columns, for the error.

    Raises:
      AvsalError: the file cannot be read, is too large, is empty, or has no header.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise AvsalError(
                f"{path} has {path.stat().st_size:,} bytes; tables have up to {_MAX_BYTES:,}: split the set"
            )
        encoding = _encoding(path)
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    delimiters, header_line, line = list(_DELIMITERS), 0, ""
    for header_line, text in _lines(path, encoding):  # noqa: B007
        if _is_comment(text):
            continue
        line = text
        if line.lower().startswith("sep=") and line[4:].strip(" \r\n") in delimiters:  # of spreadsheets
            delimiters, line = [line[4:].strip(" \r\n")], ""
            continue
        break
    if not line.strip():
        raise AvsalError(f"{path} is empty; its first line is a header with {names}")
    headers = [[cell.strip() for cell in split_line(line, delimiter)] for delimiter in delimiters]
    counts = [columns_of(header) for header in headers]
    if not max(counts):
        raise AvsalError(
            f"{path} has no header: its first line is {one_line(line)[:_SHOWN_CHARACTERS]!r}, and a header "
            f"has {names}"
        )
    best = counts.index(max(counts))
    header = headers[best]
    while header and not header[-1]:
        header.pop()
    return TextTable(
        path, encoding=encoding, delimiter=delimiters[best], header=tuple(header), header_line=header_line
    )


def split_line(line: str, delimiter: str) -> list[str]:
    """Returns the cells of a line; a cell in quotes may hold the delimiter, and no cell has two lines."""
    line = line.rstrip("\r\n")
    if '"' not in line:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


class NumberReader:
    """Reads cells as numbers with a decimal point or a decimal comma, and records which there are.

    Attributes:
      point, comma: the first number of either kind, as written; None before the first one.
    """

    def __init__(self):
        self.point: str | None = None
        self.comma: str | None = None

    def __call__(self, cell: str) -> float:
        """Returns the number; NaN where the cell has no value (as `.`, `-`, `NA`).

        Raises:
          ValueError: it is not a number.
        """
        try:
            value = float(cell)
        except ValueError:
            text = cell.strip()
            if text.lower() in _EMPTY:
                return math.nan
            if text.count(",") != 1 or "." in text:
                raise
            value = float(text.replace(",", "."))
            self.comma = self.comma or text
        if "_" in cell:  # which Python reads
            raise ValueError(cell)
        if self.point is None and "." in cell:
            self.point = cell.strip()
        return value

    def notes(self, path: pathlib.Path) -> list[str]:
        """Returns a line where decimal commas are read; AvsalError where there are decimal points too."""
        if self.comma is None:
            return []
        if self.point is not None:
            raise AvsalError(
                f"{path} has numbers with a decimal comma, as {self.comma!r}, and with a decimal point, as "
                f"{self.point!r}; write all in one form, without separators of thousands"
            )
        return [f"{path.name}: numbers have a decimal comma, as {self.comma}"]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _encoding(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        for mark, encoding in _BYTE_ORDER_MARKS.items():
            if head.startswith(mark):
                return encoding
        pairs = len(head) // 2
        if pairs and head[1::2].count(0) > pairs / 2:
            return "utf-16-le"
        if pairs and head[::2].count(0) > pairs / 2:
            return "utf-16-be"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(head)
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _lines(path: pathlib.Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yields (number, text) of the lines that are not empty."""
    number = 0
    try:
        with path.open(encoding=encoding, errors="replace") as file:
            while line := file.readline(_MAX_LINE_CHARACTERS):
                number += 1
                if len(line) == _MAX_LINE_CHARACTERS:
                    raise AvsalError(
                        f"{path}, line {number} has {_MAX_LINE_CHARACTERS:,} characters or more; it is not a "
                        "row of a table"
                    )
                if line.strip():
                    yield number, line
    except (OSError, UnicodeError) as error:
        raise AvsalError(f"cannot read {path}: {error}") from error
