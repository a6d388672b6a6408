"""What users have yet to do about earlier days' pages: late orders, and returns.

Shape letters: N acts.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, DoubleArray, IntArray
from contracts.events.order_returns import RETURN
from simulation.simulate_log import DAY_S, name_requests, select_event_columns
from simulation.simulated_shop import SimulatedShop


class PendingActs(NamedTuple):
    """Orders and returns that come on a later day."""

    due_days: DoubleArray
    """[N] when it comes, in days since the start of the log."""
    is_return: BoolArray
    """[N] is it a return, or else an order?"""
    users: IntArray
    """[N]"""
    items: IntArray
    """[N]"""
    requests: IntArray
    """[N] number of the request that showed the item."""
    positions: IntArray
    """[N] where it was shown."""

    @classmethod
    def create_empty(cls) -> "PendingActs":
        """Creates a list of nothing."""
        indices = np.empty(0, dtype=np.int64)
        return cls(np.empty(0), np.empty(0, dtype=np.bool_), indices, indices, indices, indices)

    def select_acts(self, is_selected: BoolArray) -> "PendingActs":
        """Selects some of the acts."""
        return PendingActs._make(column[is_selected] for column in self)

    def append(self, *others: "PendingActs") -> "PendingActs":
        """Appends others."""
        return PendingActs._make(np.concatenate(columns) for columns in zip(self, *others, strict=True))

    def list_events(self, shop: SimulatedShop) -> pl.DataFrame:
        """Lists the acts with the columns of EVENTS, sorted by time; a return has the event type `return`."""
        frame = pl.DataFrame(
            {
                "user_id": pl.Series(shop.population.user_ids, dtype=pl.String).gather(self.users),
                "item_id": shop.catalogue.items["item_id"].gather(self.items),
                "event_type": np.where(self.is_return, RETURN, "order"),
                "price": shop.item_prices[self.items],
                "quantity": np.ones(len(self.items), dtype=np.int32),
                "us": np.round(self.due_days * DAY_S * 1e6).astype(np.int64),
                "request": self.requests,
                "position": self.positions,
            }
        )
        events = frame.with_columns(
            timestamp=pl.lit(shop.config.start) + pl.duration(microseconds="us"),
            request_id=name_requests(pl.col("request")),
        )
        return select_event_columns(events).sort("timestamp", "user_id", "item_id")
