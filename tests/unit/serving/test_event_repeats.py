"""Events that were sent more than once count once; separate ones do not disappear."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.events.event_repeats import RepeatRuleConfig, drop_repeats, sum_order_lines
from contracts.events.order_prices import fill_order_prices
from contracts.tables import EVENTS, ITEMS

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULE = RepeatRuleConfig()


def _events(*rows):
    """Rows of (minute, changes): orders of one user and item unless they say otherwise."""
    order = {"user_id": "u", "item_id": "a", "event_type": "order"}
    return pl.DataFrame(
        [order | {"timestamp": START + timedelta(minutes=minute)} | change for minute, change in rows],
        schema={**EVENTS.schema, "event_id": pl.String()},
    )


WEEK = 7 * 24 * 60


@pytest.mark.parametrize(
    ("rows", "num_distinct"),
    [
        # Without an id, an order that follows within minutes is the same.
        ([(0, {}), (0.04, {})], 1),
        ([(0, {}), (30, {})], 1),
        ([(0, {}), (31, {})], 2),
        ([(0, {}), (20, {}), (40, {})], 1),
        ([(20, {}), (0, {})], 1),
        ([(0, {"quantity": 1}), (1, {})], 1),
        ([(0, {"quantity": 1}), (1, {"quantity": 2})], 2),
        ([(0, {"price": 1.0}), (1, {"price": 2.0})], 1),
        ([(0, {"request_id": "r"}), (1, {"request_id": "s"})], 2),
        ([(0, {"request_id": "r"}), (1, {})], 2),
        ([(0, {}), (1, {"user_id": "v"}), (1, {"item_id": "b"})], 3),
        ([(0, {"event_type": "return"}), (1, {"event_type": "return"})], 1),
        ([(0, {"event_type": "cancel"}), (1, {"event_type": "cancel"})], 1),
        ([(0, {"event_type": "return"}), (1, {"event_type": "return", "quantity": 1})], 2),
        # Other events are the same only at the same moment.
        ([(0, {"event_type": "click"}), (0, {"event_type": "click"})], 1),
        ([(0, {"event_type": "click"}), (0.01, {"event_type": "click"})], 2),
        # An id says it.
        ([(0, {"event_id": "1"}), (0.04, {"event_id": "2"})], 2),
        ([(0, {"event_id": "1"}), (0, {"event_id": "2"})], 2),
        ([(0, {"event_id": "1"}), (WEEK, {"event_id": "1"})], 1),
        ([(0, {"event_id": "1"}), (WEEK + 1, {"event_id": "1"})], 2),
        ([(0, {"event_id": "1"}), (1, {"event_id": "1", "quantity": 3, "request_id": "s"})], 1),
        ([(0, {"event_id": "1"}), (1, {"event_id": "1", "item_id": "b"})], 2),
        ([(0, {"event_id": "1"}), (1, {"event_id": "1", "event_type": "return"})], 2),
        ([(0, {"event_type": "click", "event_id": "1"}), (9, {"event_type": "click", "event_id": "1"})], 1),
        ([], 0),
    ],
)
def test_what_is_one_event(rows, num_distinct):
    distinct = drop_repeats(_events(*rows), RULE)
    assert len(distinct.events) == num_distinct
    assert distinct.num_repeats == len(rows) - num_distinct


def test_the_first_copy_stays_with_the_first_price_that_a_copy_has():
    distinct = drop_repeats(_events((5, {"price": 7.0}), (0, {}), (9, {"price": 8.0})), RULE)
    assert distinct.events.select("timestamp", "price").rows() == [(START, 7.0)]
    assert distinct.num_repeated_trades == 2


def test_what_came_before_the_rows_is_known():
    earlier, events = (
        _events((0, {}), (0, {"event_id": "1"})),
        _events((9, {}), (99, {"event_id": "1"}), (99, {})),
    )
    distinct = drop_repeats(events, RULE, earlier=earlier)
    assert distinct.events["timestamp"].to_list() == [START + timedelta(minutes=99)]
    assert distinct.events.columns == events.columns


def test_the_windows_can_be_closed():
    rule = RepeatRuleConfig(event_id_days=0, order_minutes=0)
    rows = [(0, {}), (0, {}), (1, {}), (2, {"event_id": "1"}), (2, {"event_id": "1"}), (3, {"event_id": "1"})]
    assert len(drop_repeats(_events(*rows), rule).events) == 4


def test_lines_of_one_order_add_up():
    lines = _events(
        (0, {"price": 4.0}),
        (0, {"price": 10.0, "quantity": 2, "returned": 1}),
        (1, {"price": 3.0}),
        (2, {}),
        (2, {}),
    )
    assert sum_order_lines(lines).select("price", "quantity", "returned").rows() == [
        (8.0, 3, 1),
        (3.0, 1, None),
        (None, 2, None),
    ]
    assert sum_order_lines(lines[2:4]).equals(lines[2:4])


def test_the_catalogues_price_stands_in_and_unknown_is_not_zero():
    items = pl.DataFrame({"item_id": ["a", "b"], "price": [5.0, None]}).match_to_schema(
        {name: ITEMS.schema[name] for name in ("item_id", "price")}
    )
    orders = _events(
        (0, {"price": 4.0}), (1, {}), (2, {"item_id": "b"}), (3, {"item_id": "elsewhere"}), (4, {"price": 0})
    )
    filled = fill_order_prices(orders, items)
    assert filled.select("price", "has_own_price").rows() == [
        (4.0, True),
        (5.0, False),
        (None, False),
        (None, False),
        (0.0, True),
    ]
