"""What one run may cost: it stops asking when the budget is reached; answers that are in flight are still kept."""

import time
from collections.abc import Callable

from models.knowledge.config import BudgetConfig
from models.knowledge.ledger import Ledger


class BudgetReachedError(Exception):
    """The run stopped cleanly; everything answered so far is cached."""


class Budget:
    """Compares the ledger with the limits before each request is sent."""

    def __init__(self, config: BudgetConfig, ledger: Ledger, *, now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._ledger = ledger
        self._now = now
        self._start = now()

    def reached(self) -> str:
        """The limit that is reached, in words; empty while there is room for one more request."""
        limits = self._config
        spent = self._ledger.spent
        hours = (self._now() - self._start) / 3600
        checks = (
            ("max_requests", limits.max_requests, spent.asked),
            ("max_tokens", limits.max_tokens, spent.tokens_in + spent.tokens_out),
            ("max_money", limits.max_money, spent.money),
            ("max_hours", limits.max_hours, hours),
        )
        for name, limit, value in checks:
            if limit is not None and value >= limit:
                return f"{name} {limit:g} is reached ({value:.6g} spent)"
        return ""
