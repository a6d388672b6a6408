"""Orders say what of them came back."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.events.order_returns import mark_returns
from contracts.tables import EVENTS

COLUMNS = ("user_id", "item_id", "timestamp", "quantity", "request_id", "price")
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
            }
            for day, quantity, *request in rows
        ],
        schema={
            n: EVENTS.schema[n]
            for n in ("user_id", "item_id", "timestamp", "quantity", "request_id", "price")
        },
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
