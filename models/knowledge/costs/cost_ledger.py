"""What the teacher cost, agent by agent."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.knowledge.costs.spending_history import Spending, SpendingRecord
from models.knowledge.teachers.teacher import TeacherResponse, TokenPrice


@dataclass
class AgentAccount(Spending):
    """One agent's account in one run."""

    requests: int = 0
    """Answers needed, cached ones included; the one repair of an answer is not counted."""
    cached: int = 0
    repaired: int = 0
    """First answers that were not valid and asked for once more."""
    invalid: int = 0
    """Requests without a valid answer in the end."""


@dataclass
class CostLedger:
    """Accounts by agent. Only what was really asked of the teacher costs tokens, seconds and money."""

    price: TokenPrice
    spending_record: SpendingRecord | None = None
    """Where what is paid is noted at once, so that it is known even of a run that is killed."""
    accounts: dict[str, AgentAccount] = field(default_factory=lambda: defaultdict(AgentAccount))
    total_spent: Spending = field(default_factory=Spending)
    """What all agents asked and spent together, for the budget."""

    def count_request(self, agent: str) -> None:
        """Counts one request before it is sent."""
        self.accounts[agent].asked += 1
        self.total_spent.asked += 1

    def charge_response(self, agent: str, response: TeacherResponse) -> None:
        """Charges one response that came from the teacher."""
        own_account = self.accounts[agent]
        money = compute_money(response, self.price) if response.money is None else response.money
        for spending in (own_account, self.total_spent):
            spending.tokens_in += response.tokens_in
            spending.tokens_out += response.tokens_out
            spending.teacher_s += response.seconds
            spending.money += money
        if self.spending_record:
            self.spending_record.write_agent_spending(agent, own_account)

    @classmethod
    def sum_shard_ledgers(cls, ledger_dicts: Iterable[Mapping[str, Any]]) -> "CostLedger":
        """One ledger of several, each as `as_dict` gives it."""
        ledger = cls(TokenPrice())
        for ledger_dict in ledger_dicts:
            for agent, figures in ledger_dict["paid"]["agents"].items():
                account = ledger.accounts[agent]
                for name, value in figures.items():
                    setattr(account, name, getattr(account, name) + value)
        return ledger

    def flatten_metrics(self, spent_ever: Mapping[str, Spending]) -> dict[str, float]:
        """Flat figures: `requests`, ... of all, `critic_requests`, ... of an agent, `spent_money`, ... ever.

        Args:
            spent_ever: What all runs together paid, by agent.
        """
        agent_figures = {
            f"{agent}_{name}": value
            for agent, account in self.accounts.items()
            for name, value in asdict(account).items()
        }
        spent_figures = {
            f"spent_{name}": value for name, value in _sum_accounts(Spending, spent_ever).items()
        }
        return _sum_accounts(AgentAccount, self.accounts) | agent_figures | spent_figures

    def as_dict(self, spent_ever: Mapping[str, Spending]) -> dict[str, Any]:
        """For `ledger.json`: what this run `paid`, and what was `spent` by all runs together."""
        return {
            "paid": _describe_accounts(AgentAccount, self.accounts),
            "spent": _describe_accounts(Spending, spent_ever),
        }


def compute_money(response: TeacherResponse, price: TokenPrice) -> float:
    """What a response costs by a price."""
    return (response.tokens_in * price.tokens_in + response.tokens_out * price.tokens_out) / 1e6


def _describe_accounts(account_type: type[Spending], accounts: Mapping[str, Spending]) -> dict[str, Any]:
    by_agent = {agent: asdict(account) for agent, account in accounts.items()}
    return {"total": _sum_accounts(account_type, accounts), "agents": by_agent}


def _sum_accounts(account_type: type[Spending], accounts: Mapping[str, Spending]) -> dict[str, float]:
    total: dict[str, float] = asdict(account_type())
    for account in accounts.values():
        for name, value in asdict(account).items():
            total[name] += value
    return total
