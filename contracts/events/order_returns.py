"""Returns and cancellations: each order is told how many of its units came back.

A return has the columns of an event. It takes back its `quantity`, or all units of the user's latest earlier
order of the item where it names none. The latest orders before it are marked first. Where it names a request
that sold the item, only orders of that request are.

A cancellation is the same before delivery: it takes back an order in the same way.

The orders stay: they stand in histories, since nobody knew at the time what would come back.
"""

from typing import Final, Literal, NamedTuple, get_args

import polars as pl

ReturnType = Literal["return", "cancel"]
RETURN_TYPES: Final[tuple[str, ...]] = get_args(ReturnType)
"""Event types that take back an order. They are none of the contract's: they mark an order, and are no
behavior."""
RETURN: Final[ReturnType] = "return"
_UNITS: Final = pl.col("quantity").fill_null(1).cast(pl.Int64)
_USER_ITEM: Final = ("user_id", "item_id")
_NAMED_ORDER: Final = ("user_id", "item_id", "request_id")


class MarkedOrders(NamedTuple):
    """Orders that say what of them came back."""

    orders: pl.DataFrame
    """All orders in their order, with the column `returned`."""
    num_matched: int
    """Returns that found an order."""


def mark_returns(orders: pl.DataFrame, returns: pl.DataFrame) -> MarkedOrders:
    """Notes returned units at their orders.

    Args:
        orders: events of type `order`; `quantity` null is one unit.
        returns: events of the types `RETURN_TYPES`.
    """
    if returns.is_empty() or orders.is_empty():
        return MarkedOrders(orders.with_columns(returned=pl.lit(None, pl.Int32)), 0)
    numbered_orders = orders.with_row_index("order").with_columns(units=_UNITS)
    sold_requests = orders.select(_NAMED_ORDER).drop_nulls().unique()
    named_returns = returns.join(sold_requests, on=_NAMED_ORDER, how="semi")
    other_returns = returns.join(sold_requests, on=_NAMED_ORDER, how="anti")
    num_matched = 0
    for keys, group in ((_NAMED_ORDER, named_returns), (_USER_ITEM, other_returns)):
        units_back = _find_units(numbered_orders, group, keys)
        num_matched += len(units_back)
        numbered_orders = _take_units(numbered_orders, units_back, keys)
    units_returned = (_UNITS - pl.col("units")).cast(pl.Int32)
    marked_orders = numbered_orders.sort("order").with_columns(
        returned=pl.when(units_returned > 0).then(units_returned)
    )
    return MarkedOrders(marked_orders.drop("order", "units"), num_matched)


def _find_units(orders: pl.DataFrame, returns: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """Units of each return that follows an order: `keys`, `timestamp`, `units_back`."""
    earlier_orders = orders.filter(pl.col("units") > 0).select(*keys, "timestamp", ordered="units")
    matched_returns = (
        returns.select(*keys, "timestamp", "quantity")
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
    units_back = pl.coalesce(pl.col("quantity").cast(pl.Int64), "ordered")
    return matched_returns.select(*keys, "timestamp", units_back=units_back)


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
