"""Whether the price of an order is that of a unit, as the contract says, or the total of its line."""

from typing import Final

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import LINE_TOTAL

_MIN_ORDERS: Final = 20
_FEW_ORDERS: Final = 5
"""So many that all cost as much as their units together are no chance."""
_MANY: Final = 0.2
"""Share of the orders that a file of another export may hold; no sale divides a price by 100 as often."""
_MONEY_FACTORS: Final = (100.0, 0.01, 1000.0, 0.001, 1e6, 1e-6)
"""Euros and cents, currencies of three decimals, and the millionths of advertising tools."""
_NEAR: Final = 0.1
"""Relative distance within which two prices are one."""


def divide_line_totals(events: pl.DataFrame) -> pl.DataFrame:
    """Prices of a unit where the log holds totals of order lines."""
    if LINE_TOTAL not in events.columns:
        return events
    units = pl.col("quantity").fill_null(1)
    return events.with_columns(
        price=pl.when(pl.col(LINE_TOTAL).is_not_null()).then(pl.col(LINE_TOTAL) / units).otherwise("price")
    ).drop(LINE_TOTAL)


def check_unit_prices(events: pl.DataFrame, items: pl.DataFrame) -> None:
    """Refuses prices that grow with the quantity, and quantities that count thousandths.

    Raises:
        UserError: most orders of several units cost as many times the catalogue's price.
    """
    _refuse_other_units_of_money(events, items)
    several = events.filter((pl.col("event_type") == "order") & (pl.col("quantity") > 1))
    if len(several) < _FEW_ORDERS:
        return
    if (
        len(several) >= _MIN_ORDERS
        and several["quantity"].n_unique() > 1
        and (several["quantity"] % 1000 == 0).all()
    ):
        raise UserError(
            "every quantity of more than one unit is a multiple of 1,000: they seem to count thousandths, "
            "and revenue would be a thousand times too large. If the column writes 1,000 for one, set "
            "`decimal: ','`; else divide it, for example by "
            '`uri: "duckdb:select * replace (quantity / 1000 as quantity) from ..."`'
        )
    orders = several.filter(pl.col("price") > 0)
    listed = items.select("item_id", listed_price="price").filter(pl.col("listed_price") > 0)
    priced = orders.join(listed, on="item_id")
    ratio, units = pl.col("price") / pl.col("listed_price"), pl.col("quantity")
    if len(priced) >= _FEW_ORDERS:
        is_total, is_unit = priced.select(
            ((ratio / units - 1).abs() < _NEAR).mean().alias("is_total"),
            ((ratio - 1).abs() < _NEAR).mean().alias("is_unit"),
        ).row(0)
    else:
        is_total, is_unit = _compare_within_items(events)
    num_compared = len(priced) if len(priced) >= _FEW_ORDERS else len(orders)
    is_sure = is_total > (0.6 if num_compared >= _MIN_ORDERS else 0.9)
    if is_sure and is_unit < 0.3:
        example = (priced if len(priced) else orders).row(0, named=True)
        raise UserError(
            f"the price of orders seems to be the total of the line: {is_total:.0%} of those of several "
            f"units cost as many times the price of one (item {example['item_id']}: "
            f"{example['quantity']} units, "
            f"{example['price']:g}). Map it as `columns: {{line_total: <your column>, price: null}}`"
        )


def _refuse_other_units_of_money(events: pl.DataFrame, items: pl.DataFrame) -> None:
    """Refuses orders in cents of a catalogue in euros, or the other way round.

    Raises:
        UserError: many orders cost a hundred or a thousand times the catalogue's price, or such a part of it.
    """
    listed = items.select("item_id", listed_price="price").filter(pl.col("listed_price") > 0)
    priced = events.filter((pl.col("event_type") == "order") & (pl.col("price") > 0)).join(
        listed, on="item_id"
    )
    if len(priced) < _MIN_ORDERS:
        return
    ratio = pl.col("price") / pl.col("listed_price")
    for factor in _MONEY_FACTORS:
        share = priced.select(((ratio / factor - 1).abs() < _NEAR).mean()).item()
        if share > _MANY:
            example = priced.row(0, named=True)
            raise UserError(
                f"{share:.0%} of the orders cost {factor:g} times what the catalogue says (item "
                f"{example['item_id']}: {example['price']:g}, in the catalogue {example['listed_price']:g}). "
                "One of the two seems to be in cents or the like: divide it by a query (`uri: duckdb:...`)"
            )


def _compare_within_items(events: pl.DataFrame) -> tuple[float, float]:
    """Shares of orders of several units that cost as much as so many single ones, or as one."""
    orders = events.filter((pl.col("event_type") == "order") & (pl.col("price") > 0)).with_columns(
        units=pl.col("quantity").fill_null(1)
    )
    singles = orders.filter(pl.col("units") == 1).group_by("item_id").agg(single=pl.col("price").median())
    several = orders.filter(pl.col("units") > 1).join(singles, on="item_id")
    if len(several) < _MIN_ORDERS:
        return 0.0, 1.0
    ratio = pl.col("price") / pl.col("single")
    total, unit = several.select(
        ((ratio / pl.col("units") - 1).abs() < _NEAR).mean().alias("total"),
        ((ratio - 1).abs() < _NEAR).mean().alias("unit"),
    ).row(0)
    return float(total), float(unit)
