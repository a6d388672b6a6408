"""What one run may cost. A reached budget stops the asking; answers that are in flight are still kept."""

import time

from models.knowledge.config import BudgetConfig
from models.knowledge.costs.cost_ledger import CostLedger


class BudgetReachedError(Exception):
    """The run stopped cleanly; everything answered so far is cached."""


class Budget:
    """Compares the ledger with the limits before each request is sent."""

    def __init__(self, config: BudgetConfig, ledger: CostLedger) -> None:
        self._config = config
        self._ledger = ledger
        self._start = time.monotonic()

    def find_reached_limit(self) -> str:
        """The limit that is reached, in words; empty while there is room for one more request."""
        limits = self._config
        spending = self._ledger.total_spent
        elapsed_hours = (time.monotonic() - self._start) / 3600
        checks = (
            ("max_requests", limits.max_requests, spending.asked),
            ("max_tokens", limits.max_tokens, spending.tokens_in + spending.tokens_out),
            ("max_money", limits.max_money, spending.money),
            ("max_hours", limits.max_hours, elapsed_hours),
        )
        for limit_name, limit, amount_spent in checks:
            if limit is not None and amount_spent >= limit:
                return f"{limit_name} {limit:g} is reached ({amount_spent:.6g} spent)"
        return ""
