"""Whatever way posts come in, orders and revenue are those that happened: a generator with a known truth."""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.served_log import read_manifest, read_served_events
from contracts.tables import KEPT_UNITS
from serving.config import ServedLogConfig
from serving.event_log.log_records import build_event_record
from serving.event_log.log_tables import read_events, read_outcomes
from serving.gateway.messages import PostedEvent
from serving.served_log.collect_log import collect_log
from serving.served_log.log_sources import LogFiles

START = datetime(2026, 1, 1, 22, tzinfo=UTC)
LATER = START + timedelta(days=60)
ITEMS = pl.DataFrame({"item_id": ["a", "b"], "price": [5.0, None]})
CATALOGUE = {"a": 5.0, "b": None}
PAGES = {"r1": "u1", "r2": "u2", "r3": "u1"}
WINDOW = timedelta(minutes=30)


@dataclass(frozen=True)
class Act:
    """Something that happened, and how it was posted: bodies and the seconds after which each came."""

    request: str
    item: str
    second: int
    quantity: int
    price: float | None
    is_named: bool
    copies: tuple[int, ...]
    says_when: bool
    returned: int
    return_style: str


def _acts():
    return st.lists(
        st.builds(
            Act,
            request=st.sampled_from(sorted(PAGES)),
            item=st.sampled_from(sorted(CATALOGUE)),
            second=st.integers(0, 3 * 86_400),
            quantity=st.integers(1, 3),
            price=st.none() | st.sampled_from([2.0, 8.0]),
            is_named=st.booleans(),
            copies=st.lists(st.integers(0, 1700), max_size=3).map(tuple),
            says_when=st.booleans(),
            returned=st.integers(0, 3),
            return_style=st.sampled_from(["return", "cancel", "negative"]),
        ),
        max_size=6,
        # One order of a user and item: which of several comes back is another test's question.
        unique_by=lambda act: (PAGES[act.request], act.item),
    )


def _list_posts(number: int, act: Act) -> list[tuple[datetime, dict]]:
    """Arrival and body of each post of an act; copies may lose their price, or spell out their time."""
    happened = START + timedelta(seconds=act.second)
    body = {"user_id": PAGES[act.request], "item_id": act.item, "request_id": act.request}
    name = {"event_id": f"order {number}"} if act.is_named else {}
    priced = {} if act.price is None else {"price": act.price}
    order = body | {"event_type": "order", "quantity": act.quantity} | name
    stretch = 300 if act.is_named else 1  # an id holds for days
    delays = [timedelta()] + [timedelta(seconds=copy * stretch) for copy in act.copies]
    posts = []
    for copy, delay in enumerate(delays):
        stamp = {"timestamp": happened.isoformat()} if act.says_when else {}
        posts.append((happened + delay, order | stamp | (priced if copy % 2 == 0 else {})))
    if act.returned:
        came_back = happened + timedelta(days=9)
        if act.return_style == "negative":
            back = body | {"event_type": "order", "quantity": -act.returned, "price": -1.0}
        else:
            back = body | {"event_type": act.return_style, "quantity": act.returned}
        posts += [(came_back + timedelta(seconds=delay), back | name) for delay in (0, *act.copies)]
    return posts


def _expected_outcomes(acts: list[Act]) -> dict[tuple[str, str], tuple[bool, float | None, int]]:
    """(request, item) -> ordered, revenue, orders without price."""
    expected: dict[tuple[str, str], tuple[bool, float | None, int]] = defaultdict(lambda: (False, 0.0, 0))
    for act in acts:
        if (kept := act.quantity - act.returned) > 0:
            price = CATALOGUE[act.item] if act.price is None else act.price
            revenue = None if price is None else price * kept
            expected[act.request, act.item] = (True, revenue, int(act.price is None))
    return expected


def _write_exposures(folder: Path) -> None:
    for request, user in PAGES.items():
        line = {"request_id": request, "user_id": user, "timestamp": START.isoformat(), "arm": "control"}
        line |= {"assignment": "drawn", "model_version": "v", "routed_version": "v", "item_ids": ["a", "b"]}
        line |= {"scores": [1.0, 0.0], "propensities": [1.0, 1.0], "degraded": [[], []], "layers": []}
        with (folder / "exposures-1.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


@settings(max_examples=15, deadline=None)
@given(_acts(), st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 3))
def test_orders_and_revenue_are_those_that_happened(acts, rng, num_gateways, num_collections):
    posts = [post for number, act in enumerate(acts) for post in _list_posts(number, act)]
    rng.shuffle(posts)
    with TemporaryDirectory() as name:
        folder, served_log = Path(name) / "events", Path(name) / "served"
        folder.mkdir()
        _write_exposures(folder)
        for part in range(num_collections):
            for number, (arrival, body) in enumerate(posts[part::num_collections]):
                record = build_event_record(PostedEvent.model_validate(body), arrival)
                with (folder / f"events-{number % num_gateways}.jsonl").open("a") as stream:
                    stream.write(json.dumps(record) + "\n")
            counts = collect_log(
                LogFiles(folder), ServedLogConfig(), served_log=served_log, collected_at=LATER
            )
        outcomes = read_outcomes(folder, items=ITEMS)
        reported = read_events(folder)
        served = read_served_events(served_log, digest=read_manifest(served_log).digest)
    expected = _expected_outcomes(acts)
    for row in outcomes.iter_rows(named=True):
        told = row["order"], row["revenue"], row["orders_without_price"]
        assert told == expected[row["request_id"], row["item_id"]]
    columns = ["user_id", "item_id", "timestamp", "quantity", "returned", "request_id"]
    orders = served.filter(event_type="order")
    assert orders.select(columns).sort(columns).equals(reported.select(columns).sort(columns))
    assert len(orders) == len(acts)
    assert orders.select(KEPT_UNITS.sum()).item() == sum(max(a.quantity - a.returned, 0) for a in acts)
    assert counts["orders_without_price"] >= sum(a.price is None for a in acts)
    assert counts["quarantined_rows"] == 0
