"""The one exception for a mistake that its user can mend; commands print it as one line."""

import difflib
import os
import sys
import traceback


class AvsalError(ValueError):
    """Says what was given, what is allowed, and what to do; `avsal` exits with code 2."""


def did_you_mean(word, known) -> str:
    """Returns ' (did you mean ...?)' where a known word is close, else ''."""
    close = difflib.get_close_matches(str(word), list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def reason(error: BaseException) -> str:
    """Returns one line on why one of several jobs failed, whatever was raised.

    What nobody foresaw is named by its type; its traceback goes to stderr where the environment has
    AVSAL_DEBUG.
    """
    text = " ".join(str(error).split())
    if isinstance(error, AvsalError):
        return text
    if os.environ.get("AVSAL_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, OSError):
        return text
    return f"unforeseen {type(error).__name__}: {text or 'no message'} (AVSAL_DEBUG=1 shows where)"
