"""What the teacher cost, agent by agent."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from models.knowledge.books import Book, Spent
from models.knowledge.teachers.base import Price, Response


@dataclass
class Account(Spent):
    """One agent's account in one run."""

    requests: int = 0
    """Answers needed, cached ones included; the one repair of an answer is not counted."""
    cached: int = 0
    repaired: int = 0
    """First answers that were not valid and asked for once more."""
    invalid: int = 0
    """Requests without a valid answer in the end."""


@dataclass
class Ledger:
    """Accounts by agent. Only what was really asked of the teacher costs tokens, seconds and money."""

    price: Price
    book: Book | None = None
    """Where what is paid is noted at once, so that it is known even of a run that is killed."""
    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))

    spent: Account = field(default_factory=Account)
    """What all agents asked and spent together, for the budget."""

    def count(self, agent: str) -> None:
        """Books one request before it is sent."""
        self.accounts[agent].asked += 1
        self.spent.asked += 1

    def charge(self, agent: str, response: Response) -> None:
        """Books one response that came from the teacher."""
        cost = response.tokens_in * self.price.tokens_in + response.tokens_out * self.price.tokens_out
        for account in (self.accounts[agent], self.spent):
            account.tokens_in += response.tokens_in
            account.tokens_out += response.tokens_out
            account.teacher_s += response.seconds
            account.money += cost / 1e6
        if self.book:
            paid = self.accounts[agent]
            self.book.note(agent, Spent(*(getattr(paid, column.name) for column in fields(Spent))))

    @classmethod
    def sum(cls, books: Iterable[Mapping[str, Any]]) -> "Ledger":
        """One ledger of several, each as `as_dict` gives it."""
        ledger = cls(Price())
        for book in books:
            for agent, entries in book["paid"]["agents"].items():
                account = ledger.accounts[agent]
                for name, value in entries.items():
                    setattr(account, name, getattr(account, name) + value)
        return ledger

    def total(self) -> dict[str, float]:
        """All accounts together."""
        return _total(Account, self.accounts)

    def metrics(self, spent: Mapping[str, Spent]) -> dict[str, float]:
        """Flat figures: `requests`, `money`, ... of all, `critic_requests`, ... of each agent, `spent_money`, ... ever.

        Args:
            spent: What all runs together paid, by agent.
        """
        by_agent = {f"{agent}_{name}": value for agent in self.accounts for name, value in self._entries(agent)}
        return self.total() | by_agent | {f"spent_{name}": value for name, value in _total(Spent, spent).items()}

    def _entries(self, agent: str) -> Iterable[tuple[str, float]]:
        return asdict(self.accounts[agent]).items()

    def as_dict(self, spent: Mapping[str, Spent]) -> dict[str, Any]:
        """For `ledger.json`: what this run `paid`, and what was `spent` by all runs together."""
        return {
            "paid": {"total": self.total(), "agents": _as_dicts(self.accounts)},
            "spent": {"total": _total(Spent, spent), "agents": _as_dicts(spent)},
        }


def _as_dicts(accounts: Mapping[str, Spent]) -> dict[str, dict[str, float]]:
    return {agent: asdict(account) for agent, account in accounts.items()}


def _total(kind: type[Spent], accounts: Mapping[str, Spent]) -> dict[str, float]:
    total: dict[str, float] = asdict(kind())
    for account in accounts.values():
        for name, value in asdict(account).items():
            total[name] += value
    return total
