"""Orders say what of them came back."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.events.order_returns import mark_returns
from contracts.tables import EVENTS

COLUMNS = ("user_id", "item_id", "timestamp", "quantity", "request_id", "price", "event_type")
START = datetime(2026, 1, 1, tzinfo=UTC)


def _rows(*rows):
    """Rows of (day, quantity) or (day, quantity, request id), of one user and item."""
    return pl.DataFrame(
        [
            {
                "user_id": "u",
                "item_id": "a",
                "timestamp": START + timedelta(days=day),
                "quantity": quantity,
                "request_id": request[0] if request else None,
                "price": 2.0,
                "event_type": "return",
            }
            for day, quantity, *request in rows
        ],
        schema={name: EVENTS.schema[name] for name in COLUMNS},
    )


@pytest.mark.parametrize(
    ("orders", "returns", "returned", "num_matched"),
    [
        ([(0, None)], [(1, None)], [1], 1),
        ([(0, 3)], [(1, 1)], [1], 1),
        ([(0, 3)], [(1, None)], [3], 1),
        ([(0, 3)], [(1, 1), (2, 2)], [3], 2),
        ([(0, 1), (2, 1)], [(1, None), (3, None)], [1, 1], 2),
        ([(0, 1), (2, 1)], [(1, None)], [1, None], 1),
        ([(2, 1), (0, 1)], [(3, None)], [1, None], 1),
        ([(1, 1)], [(0, None)], [None], 0),
        ([(0, 1)], [(1, 5)], [1], 1),
        ([(0, 1, "r1"), (1, 1, "r2")], [(2, None, "r1")], [1, None], 1),
        ([(0, 1, "r1"), (1, 1, "r2")], [(2, None, "elsewhere")], [None, 1], 1),
        ([(0, None)], [], [None], 0),
        ([], [(0, 1)], [], 0),
    ],
)
def test_the_latest_orders_before_a_return_are_marked(orders, returns, returned, num_matched):
    marked = mark_returns(_rows(*orders), _rows(*returns))
    assert marked.orders.drop("returned").equals(_rows(*orders)), "the orders stay as they are"
    assert marked.orders["returned"].to_list() == returned
    assert marked.num_matched == num_matched


def test_other_users_and_items_keep_their_orders():
    others = pl.concat(
        [_rows((0, 1)).with_columns(user_id=pl.lit("v")), _rows((0, 1)).with_columns(item_id=pl.lit("b"))]
    )
    assert mark_returns(others, _rows((1, None))).orders["returned"].to_list() == [None, None]


def test_a_return_that_has_the_id_of_an_order_takes_back_that_one():
    orders = _rows((0, 1), (1, 1)).with_columns(event_id=pl.Series(["o1", "o2"]))
    returns = _rows((2, None)).with_columns(event_id=pl.lit("o1"))
    assert mark_returns(orders, returns).orders["returned"].to_list() == [1, None]
    of_another = returns.with_columns(event_id=pl.lit("refund-7"))
    assert mark_returns(orders, of_another).orders["returned"].to_list() == [None, 1]


def test_no_more_units_come_back_than_the_named_order_has():
    orders = _rows((0, 1), (1, 1)).with_columns(event_id=pl.Series(["o1", "o2"]))
    canceled_and_refunded = _rows((2, 1), (3, 1)).with_columns(event_id=pl.lit("o2"))
    assert mark_returns(orders, canceled_and_refunded).orders["returned"].to_list() == [None, 1]


@pytest.mark.parametrize(
    ("price", "units", "kind", "left", "returned"),
    [
        (0.5, 1, "return", 1.75, None),
        (0.5, None, "return", 1.75, None),
        (0.5, 2, "return", 1.5, None),
        (1.7, 1, "return", 2.0, 1),
        (0.5, 2, "cancel", 2.0, 2),
        (None, 2, "return", 2.0, 2),
        (0.0, 2, "return", 2.0, 2),
    ],
)
def test_a_refund_of_a_part_lowers_the_price_alone(price, units, kind, left, returned):
    back = _rows((1, units)).with_columns(price=pl.lit(price, pl.Float64), event_type=pl.lit(kind, pl.String))
    marked = mark_returns(_rows((0, 2)), back, lowers_prices=True)
    assert marked.orders["price"].to_list() == [left]
    assert marked.orders["returned"].to_list() == [returned]
    assert (marked.num_matched, marked.num_lowered) == (1, int(left < 2))
    units_alone = mark_returns(_rows((0, 2)), back)
    assert units_alone.orders["returned"].to_list() == [units or 2], "the gateway's are units"


def test_a_price_of_the_catalogue_says_nothing_of_a_refund():
    orders = _rows((0, 1)).with_columns(has_own_price=pl.lit(False))
    marked = mark_returns(orders, _rows((1, 1)).with_columns(price=pl.lit(0.5)), lowers_prices=True)
    assert marked.orders["returned"].to_list() == [1]
