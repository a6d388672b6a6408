"""One question to a cluster, and what came out of it."""

from typing import Literal, NamedTuple

State = Literal["ok", "missing", "could not ask"]


class Check(NamedTuple):
    """The answer to one question."""

    subject: str
    """What was asked for: `claim reaseq-state`."""
    state: State
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do about it, or the command that asks where we could not."""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.state:<13}  {self.subject}: {self.detail}{remedy}"
