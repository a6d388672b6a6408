"""What orders look like as a whole, where that says that a column means something else."""

from typing import Final, NamedTuple

import polars as pl

_MIN_ORDERS: Final = 20
"""Of fewer orders nothing is said."""
_MANY_UNITS: Final = 100
_LARGEST_SHARE: Final = 0.5
_TIMES_LISTED: Final = 5
_PART_OF_LISTED: Final = 1 / 20
"""No rise of prices and no sale is as large; many currencies are further apart."""
_MIN_ODD_PRICES: Final = 3


class _LargestOrder(NamedTuple):
    revenue: float
    said: str


class OrderDoubts:
    """Looks at all orders of a log, some users at a time."""

    def __init__(self) -> None:
        """Knows no order yet."""
        self._num_orders = self._num_free = self._num_large = self._num_added = 0
        self._num_odd_prices = 0
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
            .filter((ratio > _TIMES_LISTED) | (ratio < _PART_OF_LISTED))
        )
        self._num_odd_prices += len(odd)
        if len(odd) and not self._odd_price:
            row = odd.row(0, named=True)
            self._odd_price = (
                f"item '{row['item_id']}' at {row['price']:g}, in the catalogue {row['listed']:g}"
            )

    def describe(self) -> list[str]:
        """Says what a person should look at, a sentence each."""
        always = {
            f"{self._num_odd_prices:,} orders cost more than {_TIMES_LISTED} times what the catalogue says, "
            f"or less than a {1 / _PART_OF_LISTED:.0f}th of it ({self._odd_price}): are they in cents or in "
            "another currency, or does a number stand for no price?": (
                self._num_odd_prices >= _MIN_ODD_PRICES
            ),
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
