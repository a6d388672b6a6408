"""What the amounts of orders and returns mean: signs, weights, and numbers that stand for none."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from contracts.events.order_returns import RETURN, RETURN_TYPES
from contracts.table_schema import Table

_LARGEST_INTEGER: Final = 2**31 - 1


def settle_amounts(
    event_types: pl.Series,
    values: dict[str, pl.Series],
    filled: dict[str, pl.Series],
    unknown_prices: Mapping[str, float],
    table: Table,
) -> pl.Series:
    """Gives amounts their meaning, in place; returns the event types, of which some turn out to be returns.

    Args:
        event_types: [N] of ours.
        values: our column -> [N] its values.
        filled: our column -> [N] whether a cell says something.
        unknown_prices: column -> the number below zero that stands for no price.
        table: the contract.
    """
    _drop_unknown_prices(values, unknown_prices)
    _count_weights_as_units(values, table)
    _drop_empty_units(values, filled, event_types)
    return _tell_returns(event_types, values, filled)


def fit_amount(numbers: pl.Series, table: Table, name: str) -> pl.Series:
    """Numbers in the type of their column; null where they do not fit it. Those of units stay as they are."""
    # Amounts wait for the prices that belong to them. Some tools write what came back as a negative number.
    if name == "quantity":
        return numbers
    return _fit_number(numbers.abs() if name == "returned" else numbers, table, name)


def _drop_unknown_prices(values: dict[str, pl.Series], unknown_prices: Mapping[str, float]) -> None:
    """Leaves prices such as -1 empty where units are not negative: such a row is an order, not a return."""
    units = values.get("quantity")
    for name in ("price", "line_total"):
        if name in values and name in unknown_prices:
            is_unknown = values[name] == unknown_prices[name]
            if units is not None:
                is_unknown = is_unknown & ~(units < 0).fill_null(False)
            values[name] = values[name].set(is_unknown.fill_null(False), None)


def _count_weights_as_units(values: dict[str, pl.Series], table: Table) -> None:
    """Makes 0.35 kg at 20 a kilogram one unit at 7: the contract counts whole units."""
    amounts = values.get("quantity")
    if amounts is None:
        return
    is_weight = (amounts != amounts.round()).fill_null(False)
    if is_weight.any():
        if "price" in values:
            values["price"] = (values["price"] * amounts.abs()).zip_with(is_weight, values["price"])
        amounts = amounts.sign().zip_with(is_weight, amounts)
    values["quantity"] = _fit_number(amounts, table, "quantity")


def _drop_empty_units(
    values: dict[str, pl.Series], filled: dict[str, pl.Series], event_types: pl.Series
) -> None:
    """Leaves units of 0 empty where that says nothing: of a click, and where nothing came back."""
    is_trade = event_types.is_in(["order", *RETURN_TYPES]).fill_null(False)
    for name in ("returned", "quantity"):
        if name in values:
            is_empty = (values[name] == 0).fill_null(False)
            is_empty = is_empty & ~is_trade if name == "quantity" else is_empty
            values[name] = values[name].set(is_empty, None)
            filled[name] = filled[name] & ~is_empty


def _tell_returns(
    event_types: pl.Series, values: dict[str, pl.Series], filled: dict[str, pl.Series]
) -> pl.Series:
    """Orders of negative units or price are returns; both are made positive in `values`.

    Negative units say that they came back, whatever was paid for that: only a price without them is money.
    """
    if "quantity" in values:
        are_units_back = (values["quantity"] < 0).fill_null(False)
        for name in ("price", "line_total"):
            if name in values:
                values[name] = values[name].set(are_units_back, None)
                filled[name] = filled[name] & ~are_units_back
    is_return = event_types.is_in(RETURN_TYPES)
    for name in ("quantity", "price", "line_total"):
        if name in values:
            is_negative = (values[name] < 0).fill_null(False) & event_types.is_in(["order", *RETURN_TYPES])
            is_return = is_return | is_negative
            values[name] = values[name].abs().zip_with(is_negative, values[name])
    returns = pl.Series([RETURN]).new_from_index(0, len(event_types))
    return returns.zip_with(is_return.fill_null(False), event_types)


def _fit_number(numbers: pl.Series, table: Table, name: str) -> pl.Series:
    dtype = table.schema.get(name)
    if dtype is None or not dtype.is_integer():
        return numbers
    is_whole = (numbers == numbers.round()) & (numbers.abs() <= _LARGEST_INTEGER)
    return numbers.set(~is_whole.fill_null(False), None).cast(dtype)
