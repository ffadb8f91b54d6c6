"""Errors as lines: of a mistake that its user can mend, and of anything else that goes wrong."""

import difflib
import errno
import os
import re
import traceback

_MACHINE_ERRNOS = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    )
)
_PROGRAMMING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RecursionError,
    TypeError,
)
_MAX_LINE_CHARACTERS = 2_000  # a damaged file may hold a name of any length


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
    return (
        line
        if len(line) <= _MAX_LINE_CHARACTERS
        else f"{line[: _MAX_LINE_CHARACTERS - 500]} ... {line[-490:]}"
    )


def damage_reason(error: Exception) -> str:
    """Returns what an exception about a damaged file says; of one for programmers, only what it means."""
    if isinstance(error, _PROGRAMMING_ERRORS):
        return "what it holds is not what belongs there"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_machine_error(error: BaseException) -> bool:
    """Whether the state of the machine is the reason, such as a full disk or a missing permission."""
    return isinstance(error, OSError) and error.errno in _MACHINE_ERRNOS


def error_line(error: BaseException) -> str:
    """Returns one line about what went wrong; an exception that no one expected is told with its place.

    With AVSAL_DEBUG set, the traceback of such an exception is printed to stderr.
    """
    if isinstance(error, AvsalError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if is_machine_error(error):
        return one_line(str(error))
    if os.environ.get("AVSAL_DEBUG"):
        traceback.print_exception(error)
    what = one_line(f"{type(error).__name__}: {error}")
    places = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({place.filename}, line {place.lineno})" for place in places)
    return (
        f"unforeseen error: {what}{where}. This is a fault of avsal: please report it with the traceback "
        "that AVSAL_DEBUG=1 prints"
    )


def failing_lines(error: BaseException, path) -> list[int]:
    """Returns the lines of a file that an exception went through, the innermost last."""
    places = traceback.extract_tb(error.__traceback__)
    return [place.lineno for place in places if place.filename == str(path)]


def did_you_mean(word, known) -> str:
    """Returns ' (did you mean ...?)' where a known word is close, else ''."""
    close = difflib.get_close_matches(str(word), list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
