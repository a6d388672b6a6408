"""Events that were sent more than once count once; orders of one moment add up.

An `event_id` names an event of a user, an item and a type, so that the lines of one order may share it. Where
an order, return or cancellation has none, it is the same one again when user, item, request and quantity are
the same and it follows within minutes: a retry, or a thank-you page that was loaded again. All other events
are the same only at the same moment.

A repeat follows within the window of the copy before it, not of the first: whether an event is one can be
told from the rows before it, whatever came earlier still.
"""

from datetime import timedelta
from typing import Final, NamedTuple

import polars as pl
from pydantic import Field

from contracts.config import Config
from contracts.events.order_returns import EVENT_ID, RETURN_TYPES
from contracts.tables import EVENTS

TRADE_TYPES: Final = ("order", *RETURN_TYPES)
"""Event types that move money, and have a window without an `event_id`."""
_IS_NAMED: Final = pl.col(EVENT_ID).is_not_null()
_IS_UNNAMED_TRADE: Final = ~_IS_NAMED & pl.col("event_type").is_in(TRADE_TYPES)
_IS_ORDER: Final = pl.col("event_type") == "order"
_UNITS: Final = pl.col("quantity").fill_null(1).cast(pl.Int64)


class RepeatRuleConfig(Config):
    """Which posted events are one event that was sent again."""

    event_id_days: int = Field(default=7, ge=0, le=31)
    """An event with the `event_id`, user, item and type of one up to so many days before is that one."""
    order_minutes: float = Field(default=30, ge=0, le=1440)
    """An order, return or cancellation without `event_id` that has user, item, request and quantity of one up
    to so many minutes before is that one. 0: only at the same moment."""

    @property
    def event_id_window(self) -> timedelta:
        """Longest time between copies with an `event_id`."""
        return timedelta(days=self.event_id_days)

    @property
    def order_window(self) -> timedelta:
        """Longest time between copies of an order without one."""
        return timedelta(minutes=self.order_minutes)


class DistinctEvents(NamedTuple):
    """Events, each once."""

    events: pl.DataFrame
    """The first copy of each, in the order of the rows, with the first price that a copy has."""
    num_repeats: int
    """Copies that were left out."""
    num_repeated_trades: int
    """Orders, returns and cancellations among them."""


def drop_repeats(
    events: pl.DataFrame, rule: RepeatRuleConfig, *, earlier: pl.DataFrame | None = None
) -> DistinctEvents:
    """Leaves out events that were sent before.

    Args:
        events: columns of EVENTS and `event_id`.
        rule: the windows.
        earlier: rows of the same columns from before, of which `events` may hold copies.
    """
    numbered = events.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    if earlier is not None and len(earlier):
        numbered = pl.concat([earlier.select(pl.lit(-1, pl.Int64).alias("row"), *events.columns), numbered])
    # An order of no quantity is one unit; a return of none is all units, which is no number.
    units = pl.when(_IS_ORDER).then(_UNITS).otherwise("quantity")
    identity = ("user_id", "item_id", "event_type", EVENT_ID, "request_of_trade", "units_of_trade")
    in_time = numbered.with_columns(
        request_of_trade=pl.when(_IS_UNNAMED_TRADE).then("request_id"),
        units_of_trade=pl.when(_IS_UNNAMED_TRADE).then(units),
        window=pl.when(_IS_NAMED)
        .then(rule.event_id_window)
        .when(_IS_UNNAMED_TRADE)
        .then(rule.order_window)
        .otherwise(timedelta(0)),
    ).sort("timestamp", "row", maintain_order=True)
    since_last = pl.col("timestamp") - pl.col("timestamp").shift(1).over(identity)
    chained = in_time.with_columns(is_repeat=(since_last <= pl.col("window")).fill_null(False)).with_columns(
        occurrence=(~pl.col("is_repeat")).cum_sum().over(identity)
    )
    priced = chained.with_columns(price=pl.col("price").drop_nulls().first().over(*identity, "occurrence"))
    own_rows = priced.filter(pl.col("row") >= 0)
    repeats = own_rows.filter("is_repeat")
    distinct = own_rows.filter(~pl.col("is_repeat")).sort("row").select(events.columns)
    num_trades = repeats.filter(pl.col("event_type").is_in(TRADE_TYPES)).height
    return DistinctEvents(distinct, len(repeats), num_trades)


def sum_order_lines(orders: pl.DataFrame) -> pl.DataFrame:
    """Adds up orders of one user, item and moment: lines of one order. The price becomes that of a mean unit.

    Args:
        orders: events of type `order`, each once, with the column `returned`.
    """
    if not orders.select(EVENTS.key).is_duplicated().any():
        return orders
    units_with_price = pl.when(pl.col("price").is_not_null()).then(_UNITS)
    summed = orders.group_by(EVENTS.key, maintain_order=True).agg(
        pl.exclude("price", "quantity", "returned").first(),
        price=(pl.col("price") * _UNITS).sum() / units_with_price.sum(),
        quantity=_UNITS.sum().clip(upper_bound=2**31 - 1).cast(pl.Int32),
        returned=pl.when(pl.col("returned").is_not_null().any())
        .then(pl.col("returned").sum())
        .cast(pl.Int32),
    )
    has_price = pl.col("price").is_finite()
    return summed.with_columns(price=pl.when(has_price).then("price")).select(orders.columns)
