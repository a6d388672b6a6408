"""What orders look like as a whole, where that says that a column means something else."""

from datetime import timedelta
from typing import Final, NamedTuple

import polars as pl

_MIN_ORDERS: Final = 20
"""Of fewer orders nothing is said."""
_MANY_UNITS: Final = 100
_LARGEST_SHARE: Final = 0.5
_SUBMITTED_AGAIN: Final = timedelta(seconds=10)
"""Who presses a button twice, or whose page is sent again, does so within."""
_TIMES_LISTED: Final = 20
"""No sale and no rise of prices is as large."""
_MIN_ODD_PRICES: Final = 3
_PART_OF_PRICE: Final = 0.9
"""A refund of less than this part of what a unit cost is none of a unit."""


class _LargestOrder(NamedTuple):
    revenue: float
    said: str


class OrderDoubts:
    """Looks at all orders of a log, some users at a time."""

    def __init__(self) -> None:
        """Knows no order yet."""
        self._num_orders = self._num_free = self._num_large = self._num_added = 0
        self._num_again = self._num_odd_prices = self._num_part_refunds = 0
        self._odd_price = ""
        self._revenue = 0.0
        self._largest = _LargestOrder(0.0, "")

    def add_orders(self, orders: pl.DataFrame, *, num_added: int) -> None:
        """Adds orders with their prices.

        Args:
            orders: EVENTS of type `order`.
            num_added: lines whose units were added to another line's.
        """
        self._num_added += num_added
        if orders.is_empty():
            return
        units = pl.col("quantity").fill_null(1)
        paid = orders.with_columns(units=units, revenue=(pl.col("price") * units).fill_null(0.0))
        self._num_orders += len(paid)
        self._num_free += int((paid["price"] == 0).sum())
        self._num_large += int((paid["units"] >= _MANY_UNITS).sum())
        self._revenue += float(paid["revenue"].sum())
        self._num_again += _count_submitted_again(orders)
        first = paid.row(int(paid["revenue"].arg_max() or 0), named=True)
        if first["revenue"] > self._largest.revenue:
            said = f"user '{first['user_id']}', item '{first['item_id']}', {first['units']:,} units"
            self._largest = _LargestOrder(first["revenue"], f"{said} at {first['price']:g}")

    def add_listed_prices(self, orders: pl.DataFrame, items: pl.DataFrame) -> None:
        """Compares prices of orders with those of the catalogue.

        Args:
            orders: EVENTS of type `order`, with the prices that they came with.
            items: the catalogue.
        """
        listed = items.select("item_id", listed="price").filter(pl.col("listed") > 0)
        ratio = pl.col("price") / pl.col("listed")
        odd = (
            orders.filter(pl.col("price") > 0)
            .join(listed, on="item_id")
            .filter((ratio > _TIMES_LISTED) | (ratio < 1 / _TIMES_LISTED))
        )
        self._num_odd_prices += len(odd)
        if len(odd) and not self._odd_price:
            row = odd.row(0, named=True)
            self._odd_price = (
                f"item '{row['item_id']}' at {row['price']:g}, in the catalogue {row['listed']:g}"
            )

    def add_returns(self, returns: pl.DataFrame, orders: pl.DataFrame) -> None:
        """Looks for refunds of a part of the price, which take back whole units all the same.

        Args:
            returns: EVENTS of the types `RETURN_TYPES`.
            orders: EVENTS of type `order`, with prices.
        """
        priced = returns.filter(pl.col("price") > 0)
        if priced.is_empty():
            return
        paid = orders.select("user_id", "item_id", "timestamp", paid="price").sort("timestamp")
        matched = priced.sort("timestamp").join_asof(
            paid, on="timestamp", by=["user_id", "item_id"], strategy="backward", check_sortedness=False
        )
        is_part = pl.col("price") < _PART_OF_PRICE * pl.col("paid")
        self._num_part_refunds += int(matched.select(is_part.sum()).item())

    def describe(self) -> list[str]:
        """Says what a person should look at, a sentence each."""
        always = {
            f"{self._num_part_refunds:,} returns are of less than a unit cost, and take back whole units all "
            "the same: are they refunds of a part of the price? Then set their type to `ignore`, or leave "
            "them out by a query": self._num_part_refunds > 0,
            f"{self._num_again:,} orders have user, item, price and quantity of one up to "
            f"{_SUBMITTED_AGAIN.seconds} seconds before, and count beside it: were they sent twice? Then map "
            "what names an order (`columns: {event_id: ...}`), or leave the second out by a query": (
                self._num_again > 0
            ),
            f"{self._num_odd_prices:,} orders cost more than {_TIMES_LISTED} times what the catalogue says, "
            f"or less than such a part of it ({self._odd_price}): are they in cents, or does a number stand "
            "for no price?": (self._num_odd_prices >= _MIN_ODD_PRICES),
        }
        doubts = [sentence for sentence, is_doubtful in always.items() if is_doubtful]
        if self._num_orders < _MIN_ORDERS:
            return doubts
        sentences = {
            f"{self._num_free:,} of {self._num_orders:,} orders cost 0: does it stand for no price? Then "
            "leave the column out with `columns: {price: null}`, and they count at the catalogue's": (
                2 * self._num_free > self._num_orders
            ),
            f"{self._num_large:,} of {self._num_orders:,} orders are of {_MANY_UNITS} units or more: does "
            "the quantity count grams or another measure?": 2 * self._num_large > self._num_orders,
            f"one order holds {self._largest.revenue / max(self._revenue, 1e-9):.0%} of all revenue "
            f"({self._largest.said}): is it real?": (
                self._largest.revenue > _LARGEST_SHARE * self._revenue and self._revenue > 0
            ),
            f"{self._num_added:,} order lines repeat another one of the same user, item and moment, and "
            "their units were added up. If the export holds them twice, map what names a line: "
            "`columns: {event_id: ...}`": 10 * self._num_added > self._num_orders,
        }
        return doubts + [sentence for sentence, is_doubtful in sentences.items() if is_doubtful]


def _count_submitted_again(orders: pl.DataFrame) -> int:
    """Orders that follow one of the same user, item, price and quantity within seconds."""
    alike = ["user_id", "item_id", "price", "quantity"]
    # Few orders have such another one: those alone are put in order.
    again = orders.select(*alike, "timestamp").filter(pl.struct(alike).is_duplicated())
    since_last = pl.col("timestamp").diff().over(alike)
    return int(again.sort("timestamp").select((since_last <= _SUBMITTED_AGAIN).sum()).item())
