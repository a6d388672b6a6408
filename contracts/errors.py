"""Errors that a user can mend: the command line prints them plainly and exits with code 2.

All stand here: what a step raises in another process is known by this module's name.
"""

from collections.abc import Sequence


class UserError(ValueError):
    """Something the user gave is wrong. The message names the value, what is allowed and what to do."""


class UnknownTypesError(UserError):
    """The log holds event types of which nobody said what they stand for."""

    def __init__(self, message: str, *, names: Sequence[str]) -> None:
        """Holds the types as the log names them."""
        super().__init__(message)
        self.names = tuple(names)


class TooMuchLostError(UserError):
    """More rows of a table break its contract than the config lets pass."""

    def __init__(self, message: str, *, reason: str, share: float) -> None:
        """Holds the most frequent reason, and its share of all rows."""
        super().__init__(message)
        self.reason = reason
        self.share = share
