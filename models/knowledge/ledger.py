"""What the teacher cost, agent by agent."""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from models.knowledge.teachers.base import Price, Response


@dataclass
class Account:
    """One agent's account."""

    requests: int = 0
    """Answers needed, cached ones included."""
    cached: int = 0
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

    def charge(self, agent: str, response: Response) -> None:
        """Books one response that came from the teacher."""
        account = self.accounts[agent]
        account.tokens_in += response.tokens_in
        account.tokens_out += response.tokens_out
        account.teacher_s += response.seconds
        cost = response.tokens_in * self.price.tokens_in + response.tokens_out * self.price.tokens_out
        account.money += cost / 1e6

    def total(self) -> dict[str, float]:
        """All accounts together."""
        total: dict[str, float] = defaultdict(float)
        for account in self.accounts.values():
            for name, value in asdict(account).items():
                total[name] += value
        return dict(total)

    def as_dict(self) -> dict[str, Any]:
        """For `ledger.json`."""
        return {"total": self.total(), "agents": {name: asdict(account) for name, account in self.accounts.items()}}
