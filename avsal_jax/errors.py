"""The one exception for a mistake that its user can mend; commands print it as one line."""


class AvsalError(ValueError):
    """Says what was given, what is allowed, and what to do; `avsal` exits with code 2."""
