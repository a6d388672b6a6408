"""What the teacher cost, agent by agent."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.knowledge.teachers.base import Price, Response


@dataclass
class Account:
    """One agent's account."""

    requests: int = 0
    """Answers needed, cached ones included; the one repair of an answer is not counted."""
    cached: int = 0
    asked: int = 0
    """Requests that went to the teacher, repairs included."""
    repaired: int = 0
    """First answers that were not valid and asked for once more."""
    invalid: int = 0
    """Requests without a valid answer in the end."""
    tokens_in: int = 0
    tokens_out: int = 0
    teacher_s: float = 0.0
    """Seconds summed over requests; concurrent requests count each."""
    money: float = 0.0


@dataclass
class Ledger:
    """Accounts by agent. Only what was really asked of the teacher costs tokens, seconds and money."""

    price: Price
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

    @classmethod
    def sum(cls, books: Iterable[Mapping[str, Any]]) -> "Ledger":
        """One ledger of several, each as `as_dict` gives it."""
        ledger = cls(Price())
        for book in books:
            for agent, entries in book["agents"].items():
                account = ledger.accounts[agent]
                for name, value in entries.items():
                    setattr(account, name, getattr(account, name) + value)
        return ledger

    def total(self) -> dict[str, float]:
        """All accounts together."""
        total: dict[str, float] = defaultdict(float)
        for account in self.accounts.values():
            for name, value in asdict(account).items():
                total[name] += value
        return {**asdict(Account()), **total}

    def metrics(self) -> dict[str, float]:
        """Flat figures: `requests`, `money`, ... of all, and `critic_requests`, `critic_money`, ... of each agent."""
        by_agent = {f"{agent}_{name}": value for agent in self.accounts for name, value in self._entries(agent)}
        return self.total() | by_agent

    def _entries(self, agent: str) -> Iterable[tuple[str, float]]:
        return asdict(self.accounts[agent]).items()

    def as_dict(self) -> dict[str, Any]:
        """For `ledger.json`."""
        return {"total": self.total(), "agents": {name: asdict(account) for name, account in self.accounts.items()}}
