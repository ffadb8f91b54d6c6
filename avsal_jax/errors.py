"""The one exception for a mistake that its user can mend; commands print it as one line."""

import difflib


class AvsalError(ValueError):
    """Says what was given, what is allowed, and what to do; `avsal` exits with code 2."""


def did_you_mean(word, known) -> str:
    """Returns ' (did you mean ...?)' where a known word is close, else ''."""
    close = difflib.get_close_matches(str(word), list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
