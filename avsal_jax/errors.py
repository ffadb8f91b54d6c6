"""One-line errors: `AvsalError` for mistakes that the user can fix, and lines for all other exceptions."""

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
    """A mistake that the user can fix: the message has the given value, the allowed ones, and what to do.

    `avsal` exits with code 2. The message is one printable line, also if it quotes a file (see `one_line`).
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Returns a text as one line: escapes control characters, and cuts the middle of a very long text."""
    line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return (
        line
        if len(line) <= _MAX_LINE_CHARACTERS
        else f"{line[: _MAX_LINE_CHARACTERS - 500]} ... {line[-490:]}"
    )


def damage_reason(error: Exception) -> str:
    """Returns the message of an exception about a damaged file; a generic reason for programming errors."""
    if isinstance(error, _PROGRAMMING_ERRORS):
        return "what it holds is not what belongs there"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_machine_error(error: BaseException) -> bool:
    """Whether the state of the machine is the reason, such as a full disk or a missing permission."""
    return isinstance(error, OSError) and error.errno in _MACHINE_ERRNOS


def error_line(error: BaseException) -> str:
    """Returns one line about an exception; for an unexpected one, with its file and line.

    If AVSAL_DEBUG is set, prints the traceback of an unexpected exception to stderr.
    """
    if isinstance(error, AvsalError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if is_machine_error(error):
        return one_line(str(error))
    if os.environ.get("AVSAL_DEBUG"):
        traceback.print_exception(error)
    description = one_line(f"{type(error).__name__}: {error}")
    places = traceback.extract_tb(error.__traceback__)[-1:]
    location = "".join(f" ({place.filename}, line {place.lineno})" for place in places)
    return (
        f"unexpected error: {description}{location}. This is a bug in avsal: please report it with the "
        "traceback that AVSAL_DEBUG=1 prints"
    )


def failing_lines(error: BaseException, path) -> list[int]:
    """Returns the lines of a file in the traceback of an exception, the innermost last."""
    places = traceback.extract_tb(error.__traceback__)
    return [place.lineno for place in places if place.filename == str(path)]


def did_you_mean(word, names) -> str:
    """Returns ' (did you mean ...?)' if one of the names is similar to a word, else ''."""
    close = difflib.get_close_matches(str(word), list(names), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
