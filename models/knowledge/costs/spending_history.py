"""What was ever paid to a teacher for the answers of a cache, runs that were stopped or killed included.

Each run keeps a file of its own in the cache: one fixed-width row per agent, written over in place after each
answer. So a `kill -9` loses nothing that was answered, and many runs may write at once.
"""

import os
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np

_AGENT_CHARS: Final = 32


@dataclass
class Spending:
    """What one agent's answers cost."""

    asked: int = 0
    """Requests that went to the teacher, repairs included."""
    tokens_in: int = 0
    tokens_out: int = 0
    teacher_s: float = 0.0
    """Seconds summed over requests; concurrent requests count each."""
    money: float = 0.0


_ROW: Final = np.dtype(
    [("agent", f"S{_AGENT_CHARS}"), *((column.name, "<f8") for column in fields(Spending))]
)


class SpendingRecord:
    """The file of one run."""

    def __init__(self, folder: Path, teacher: str) -> None:
        """Opens the record of a teacher (16 hex digits); the file is made with the first entry."""
        self._path = folder / f"{teacher}-{uuid4().hex}.book"
        self._rows: dict[str, int] = {}
        self._file: int | None = None

    def write_agent_spending(self, agent: str, spent: Spending) -> None:
        """Writes what an agent's answers cost in this run so far."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        assert len(agent) <= _AGENT_CHARS
        row_number = self._rows.setdefault(agent, len(self._rows))
        amounts = [getattr(spent, column.name) for column in fields(Spending)]
        row_content = np.array([(agent.encode(), *amounts)], _ROW)
        # In place: a killed run leaves its latest sums, and the file never grows.
        os.pwrite(self._file, row_content.tobytes(), row_number * _ROW.itemsize)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)


def sum_spending_records(folder: Path, teacher: str) -> dict[str, Spending]:
    """What all runs together paid to a teacher, by agent."""
    spending_by_agent: dict[str, Spending] = defaultdict(Spending)
    for record_path in sorted(folder.glob(f"{teacher}-*.book")):
        # A torn last row is left out.
        for agent, asked, tokens_in, tokens_out, teacher_s, money in np.fromfile(record_path, _ROW).tolist():
            agent_spending = spending_by_agent[agent.decode()]
            agent_spending.asked += int(asked)
            agent_spending.tokens_in += int(tokens_in)
            agent_spending.tokens_out += int(tokens_out)
            agent_spending.teacher_s += teacher_s
            agent_spending.money += money
    return dict(spending_by_agent)
