"""Events before an experiment and in it: each counts once, on its own side of the start."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from components.traffic_events import TrafficEvents, gather_events
from contracts.artifacts import write_text
from contracts.events.event_repeats import RepeatRuleConfig
from contracts.tables import EVENTS, ITEMS
from serving.event_log.log_tables import read_exposures

START = datetime(2025, 5, 1, tzinfo=UTC)
ITEM = ITEMS.check_rows(pl.DataFrame({"item_id": ["i"], "title": ["I"], "price": [7.0]}))


def page(user: str, day: float, experiment: str | None) -> dict[str, Any]:
    return {
        "request_id": f"{user}-{day}",
        "user_id": user,
        "timestamp": (START + timedelta(days=day)).isoformat(),
        "arm": "control",
        "layers": [],
        "assignment": "drawn",
        "model_version": "m",
        "routed_version": "m",
        "item_ids": ["i"],
        "scores": [0.5],
        "propensities": [1.0],
        "degraded": [[]],
    } | ({} if experiment is None else {"experiment_id": experiment})


def act(user: str, day: float, kind: str, **values: Any) -> dict[str, Any]:
    moment = (START + timedelta(days=day)).isoformat()
    return {"user_id": user, "item_id": "i", "event_type": kind, "timestamp": moment} | values


def gather(folder: Path, past: list[tuple[str, float, str]]) -> TrafficEvents:
    pages = [page("a", -2, None), page("a", -40, None), page("a", 0, "e"), page("b", 1, "e")]
    acts = [
        act("a", -2, "click"),
        act("a", 0.5, "cart"),
        act("b", 2, "order"),
        act("c", 2, "cart"),
        act("b", -0.5, "order", price=3.0),
    ]
    for kind, rows in (("exposures", pages), ("events", acts)):
        write_text(folder / f"{kind}-1.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    dataset = pl.DataFrame(
        [
            {"user_id": user, "item_id": "i", "event_type": kind, "timestamp": START + timedelta(days=day)}
            for user, day, kind in past
        ]
    )
    return gather_events(
        read_exposures(folder, experiment_id="e"),
        EVENTS.check_rows(dataset),
        ITEM,
        event_log=folder,
        repeats=RepeatRuleConfig(),
        history_days=28,
    )


def list_events(events: pl.DataFrame) -> set[tuple[str, str]]:
    return set(events.select("user_id", "event_type").iter_rows())


def test_what_the_experiments_users_did_since_its_start_is_meanwhile(tmp_path: Path) -> None:
    meanwhile = gather(tmp_path, [("a", -10, "click")]).meanwhile
    assert list_events(meanwhile) == {("a", "cart"), ("b", "order")}
    assert meanwhile.filter(pl.col("event_type") == "order")["price"].to_list() == [7.0]


def test_history_is_the_datasets_and_what_the_log_has_since(tmp_path: Path) -> None:
    before = gather(tmp_path, [("a", -10, "click"), ("z", -5, "impression"), ("z", -100, "click")]).before
    assert len(before) == 5
    assert before["timestamp"].max() < START  # type: ignore[operator]
    assert list_events(before) == {
        ("a", "click"),
        ("z", "impression"),
        ("a", "impression"),
        ("b", "order"),
    }


def test_what_was_served_and_is_in_the_dataset_counts_once(tmp_path: Path) -> None:
    before = gather(tmp_path, [("a", -2, "click"), ("a", -2, "impression"), ("a", -1, "click")]).before
    assert sorted(before.select("user_id", "event_type").iter_rows()) == [
        ("a", "click"),
        ("a", "click"),
        ("a", "impression"),
        ("b", "order"),
    ]
