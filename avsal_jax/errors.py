"""The one exception for a mistake that its user can mend; commands print it as one line."""

import difflib
import re

_MOST = 2_000  # characters of a line; a damaged file may hold a name of any length


class AvsalError(ValueError):
    """Says what was given, what is allowed, and what to do; `avsal` exits with code 2.

    Its text is one line that a terminal can show, whatever a file put into it (see `one_line`).
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Returns a text as one line: control characters escaped, the middle of a very long one left out."""
    line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return line if len(line) <= _MOST else f"{line[: _MOST - 500]} ... {line[-490:]}"


def did_you_mean(word, known) -> str:
    """Returns ' (did you mean ...?)' where a known word is close, else ''."""
    close = difflib.get_close_matches(str(word), list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
