"""Returns and cancellations: each order is told how many of its units came back.

A return has the columns of an event. It takes back its `quantity`, or all units of the user's latest earlier
order of the item where it names none. The latest orders before it are marked first. Where it has the
`event_id` of an order, or names a request that sold the item, only those orders are.

In exports of shops a return of clearly less than a unit cost is money for something that was kept: it lowers
the price of the order, and takes back no unit. What is posted to the gateway takes back units alone.

A cancellation is the same before delivery: it takes back an order in the same way.

The orders stay: they stand in histories, since nobody knew at the time what would come back.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, get_args

import polars as pl

ReturnType = Literal["return", "cancel"]
RETURN_TYPES: Final[tuple[str, ...]] = get_args(ReturnType)
"""Event types that take back an order. They are none of the contract's: they mark an order, and are no
behavior."""
RETURN: Final[ReturnType] = "return"
EVENT_ID: Final = "event_id"
"""Column of events that names one; the lines of one order may share it."""
_PART_OF_PRICE: Final = 0.75
"""A return of less than this part of what a unit cost is money alone. Taxes, and fees that a shop keeps, make
the refund of a whole unit smaller, but not as small."""
_UNITS: Final = pl.col("quantity").fill_null(1).cast(pl.Int64)
_USER_ITEM: Final = ("user_id", "item_id")
_NAMES: Final = (EVENT_ID, "request_id")
"""Columns by which a return may name its order, the surest first."""


class MarkedOrders(NamedTuple):
    """Orders that say what of them came back."""

    orders: pl.DataFrame
    """All orders in their order, with the column `returned`."""
    num_matched: int
    """Returns that found an order."""
    num_lowered: int = 0
    """Returns of them that lowered its price."""


def mark_returns(orders: pl.DataFrame, returns: pl.DataFrame, *, lowers_prices: bool = False) -> MarkedOrders:
    """Notes returned units at their orders.

    Args:
        orders: events of type `order`; `quantity` null is one unit.
        returns: events of the types `RETURN_TYPES`.
        lowers_prices: whether a return of a part of a unit's price lowers the price, and takes back no unit.
    """
    if returns.is_empty() or orders.is_empty():
        return MarkedOrders(orders.with_columns(returned=pl.lit(None, pl.Int32)), 0)
    numbered_orders = orders.with_row_index("order").with_columns(units=_UNITS)
    num_matched, refunds = 0, list[pl.DataFrame]()
    for keys, group in _group_by_name(orders, returns):
        matched = _match_orders(numbered_orders, group, keys)
        num_matched += len(matched)
        if not lowers_prices:
            matched = matched.with_columns(is_refund=False)
        refunds.append(matched.filter("is_refund").select("order", "refund"))
        units_back = matched.filter(~pl.col("is_refund")).select(*keys, "timestamp", "units_back")
        numbered_orders = _take_units(numbered_orders, units_back, keys)
    units_returned = (_UNITS - pl.col("units")).cast(pl.Int32)
    marked_orders = _lower_prices(numbered_orders, pl.concat(refunds)).with_columns(
        returned=pl.when(units_returned > 0).then(units_returned)
    )
    num_lowered = sum(map(len, refunds))
    return MarkedOrders(marked_orders.sort("order").drop("order", "units"), num_matched, num_lowered)


def _group_by_name(
    orders: pl.DataFrame, returns: pl.DataFrame
) -> Iterator[tuple[tuple[str, ...], pl.DataFrame]]:
    """Yields the columns by which returns find their order, and these returns."""
    for name in _NAMES:
        if name in orders.columns and name in returns.columns:
            keys = (*_USER_ITEM, name)
            sold = orders.select(keys).drop_nulls().unique()
            yield keys, returns.join(sold, on=keys, how="semi")
            returns = returns.join(sold, on=keys, how="anti")
    yield _USER_ITEM, returns


def _match_orders(orders: pl.DataFrame, returns: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """Each return that follows an order: `keys`, `timestamp`, the `order`, `units_back`, the money `refund`,
    and whether it is that alone (`is_refund`)."""
    # Whether a return is of less than a price that the catalogue filled in says nothing.
    paid = pl.when("has_own_price").then("price") if "has_own_price" in orders.columns else pl.col("price")
    earlier_orders = orders.filter(pl.col("units") > 0).select(
        *keys, "timestamp", "order", ordered="units", paid=paid
    )
    matched_returns = (
        returns.select(*keys, "timestamp", "event_type", "quantity", "price")
        .sort("timestamp")
        .join_asof(
            earlier_orders.sort("timestamp"),
            on="timestamp",
            by=list(keys),
            strategy="backward",
            check_sortedness=False,
        )
        .drop_nulls("ordered")
    )
    is_part = (pl.col("price") > 0) & (pl.col("price") < _PART_OF_PRICE * pl.col("paid"))
    return matched_returns.with_columns(
        is_refund=(is_part & (pl.col("event_type") == RETURN)).fill_null(False),
        units_back=pl.coalesce(pl.col("quantity").cast(pl.Int64), "ordered"),
        refund=pl.col("price") * _UNITS,
    )


def _lower_prices(orders: pl.DataFrame, refunds: pl.DataFrame) -> pl.DataFrame:
    """The orders at the prices that are left of them, spread over the units that were kept."""
    if refunds.is_empty():
        return orders
    totals = refunds.group_by("order").agg(pl.col("refund").sum())
    lowered = (pl.col("price") - pl.col("refund").fill_null(0) / pl.col("units")).clip(lower_bound=0)
    joined = orders.join(totals, on="order", how="left", maintain_order="left")
    return joined.with_columns(price=pl.when(pl.col("units") > 0).then(lowered).otherwise("price")).drop(
        "refund"
    )


def _take_units(orders: pl.DataFrame, units_back: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """The orders with fewer units: of those before the last return, the latest ones lose theirs first."""
    totals = units_back.group_by(keys).agg(pl.col("units_back").sum(), last_return=pl.col("timestamp").max())
    joined_orders = orders.join(totals, on=keys, how="left", maintain_order="left").sort(
        "timestamp", descending=True, maintain_order=True
    )
    units_before_return = pl.when(pl.col("timestamp") <= pl.col("last_return")).then("units").otherwise(0)
    taken_already = units_before_return.cum_sum().over(keys) - units_before_return
    units_taken = (pl.col("units_back").fill_null(0) - taken_already).clip(0, units_before_return)
    return joined_orders.with_columns(units=pl.col("units") - units_taken.fill_null(0)).drop(
        "units_back", "last_return"
    )
