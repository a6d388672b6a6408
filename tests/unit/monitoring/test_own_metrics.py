"""Metrics of the user's own: counted as told, judged by their direction and role, and never in the way."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from contracts.tables import EVENTS, EXPOSURES, OUTCOMES
from monitoring.config import MetricConfig, MonitoringConfig
from monitoring.decision_rule import Decision, decide_by_lift_and_drift
from monitoring.lift.lift_report import measure_lift

START = datetime(2025, 5, 1, tzinfo=UTC)
CARTS = {"name": "carts_per_user", "title": "Carts per user", "event": "cart"}
RETURNS = {
    "name": "return_rate",
    "title": "Returned orders",
    "event": "return",
    "per": "order",
    "better": "lower",
    "role": "guardrail",
}


def write_experiment(
    folder: Path, *, users: int = 2000, events: list[dict[str, Any]] | None = None, orders: bool = True
) -> dict[str, Path]:
    """Users 0, 2, 4 ... saw the control, the others `new`; each saw a page and every third clicked."""
    number = np.arange(users)
    rows = pl.DataFrame(
        {
            "request_id": [f"r{user}" for user in number],
            "item_id": "i",
            "user_id": [f"u{user}" for user in number],
            "timestamp": [START + timedelta(minutes=int(user)) for user in number],
            "arm": np.where(number % 2, "new", "control").tolist(),
            "click": (number // 2) % 3 == 0,
            "order": ((number // 2) % 6 == 0) & orders,
        }
    ).with_columns(
        revenue=pl.col("order") * 20.0,
        model_version=pl.lit("m"),
        routed_version=pl.lit("m"),
        score=0.5,
        position=0,
        degraded=pl.lit([], dtype=pl.List(pl.String())),
    )
    paths = {name: folder / f"{name}.parquet" for name in ("exposures", "outcomes")}
    EXPOSURES.check_rows(rows).write_parquet(paths["exposures"])
    OUTCOMES.check_rows(rows).write_parquet(paths["outcomes"])
    if events is not None:
        paths["events"] = folder / "events.parquet"
        EVENTS.check_rows(pl.DataFrame(events)).write_parquet(paths["events"])
    return paths


def event(user: int, kind: str, *, day: float = 3.0, **values: Any) -> dict[str, Any]:
    row = {
        "user_id": f"u{user}",
        "item_id": "i",
        "event_type": kind,
        "timestamp": START + timedelta(days=day),
    }
    return row | {"price": 10.0, "quantity": 1, "returned": None} | values


def measure(paths: dict[str, Path], *metrics: dict[str, Any], **values: Any) -> dict[str, Any]:
    config = MonitoringConfig(metrics=[MetricConfig(**metric) for metric in metrics], **values)
    _, summary = measure_lift(config=config, **paths)
    return json.loads(json.dumps(summary, default=str, allow_nan=False))  # type: ignore[no-any-return]


def find_row(summary: dict[str, Any], arm: str, metric: str) -> dict[str, Any]:
    (row,) = (row for row in summary["rows"] if (row["arm"], row["metric"]) == (arm, metric))
    return row  # type: ignore[no-any-return]


def decide(folder: Path, summary: dict[str, Any], *metrics: dict[str, Any], **values: Any) -> Decision:
    (folder / "lift.json").write_text(json.dumps(summary))
    (folder / "drift.json").write_text('{"drifted": false}')
    config = MonitoringConfig(metrics=[MetricConfig(**metric) for metric in metrics], **values)
    return decide_by_lift_and_drift(folder / "drift.json", folder / "lift.json", config)


def test_an_event_counts_since_the_users_first_page(tmp_path: Path) -> None:
    events = [event(0, "cart"), event(0, "cart", day=4), event(2, "cart", day=-1), event(1, "cart")]
    summary = measure(write_experiment(tmp_path, events=events), CARTS, deciding_users="raw")
    assert find_row(summary, "control", "carts_per_user")["value"]["value"] == pytest.approx(2 / 1000)
    assert find_row(summary, "new", "carts_per_user")["value"]["value"] == pytest.approx(1 / 1000)
    assert summary["titles"]["carts_per_user"] == "Carts per user"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"measure": "price"}, 10 + 2 * 30 + 50),
        ({"measure": "price", "min_price": 30}, 2 * 30 + 50),
        ({"measure": "price", "max_price": 30}, 10),
        ({"measure": "count", "min_price": 30, "max_price": 50}, 1),
        ({"measure": "count"}, 3),
        ({"event": "return", "measure": "price"}, 30),
        ({"event": "click", "per": "users"}, 0),
    ],
)
def test_what_is_counted_is_as_told(tmp_path: Path, change: dict[str, Any], expected: float) -> None:
    """Three orders: one unit at 10, three at 30 of which one came back, one at 50; one is all sent back."""
    events = [
        event(0, "order"),
        event(2, "order", price=30.0, quantity=3, returned=1),
        event(4, "order", price=50.0, day=5),
        event(6, "order", price=70.0, quantity=2, returned=2),
        event(8, "order", price=None),
    ]
    priced = events[:4] if change.get("event") != "return" else events[:3]
    metric = {"name": "own", "title": "Own", "event": "order"} | change
    summary = measure(write_experiment(tmp_path, events=priced), metric, deciding_users="raw")
    assert find_row(summary, "control", "own")["value"]["value"] == pytest.approx(expected / 1000)


def test_a_metric_can_be_per_exposure_or_per_another_event(tmp_path: Path) -> None:
    events = [*(event(user, "order") for user in range(0, 40, 2)), event(0, "cart"), event(2, "cart")]
    per_order = CARTS | {"name": "per_order", "per": "order"}
    per_exposure = CARTS | {"name": "per_exposure", "per": "exposures"}
    summary = measure(
        write_experiment(tmp_path, events=events), per_order, per_exposure, deciding_users="raw"
    )
    assert find_row(summary, "control", "per_order")["value"]["value"] == pytest.approx(2 / 20)
    assert find_row(summary, "control", "per_exposure")["value"]["value"] == pytest.approx(2 / 1000)


def test_an_order_that_came_back_whole_is_one_of_the_orders(tmp_path: Path) -> None:
    orders = [event(user, "order", quantity=1, returned=user % 4 // 2 or None) for user in range(0, 40, 2)]
    rate = {"name": "rate", "title": "Returned orders", "event": "return", "per": "order", "better": "lower"}
    summary = measure(write_experiment(tmp_path, events=orders), rate, deciding_users="raw")
    assert find_row(summary, "control", "rate")["value"]["value"] == pytest.approx(10 / 20)


def test_without_a_table_of_events_what_was_shown_is_counted(tmp_path: Path) -> None:
    paths = write_experiment(tmp_path)
    dear = {"name": "dear", "title": "Dear orders", "event": "order", "min_price": 15}
    cheap = dear | {"name": "cheap", "min_price": None, "max_price": 15}
    summary = measure(paths, dear, cheap, deciding_users="raw")
    orders = find_row(summary, "control", "orders_per_user")["value"]["value"]
    assert find_row(summary, "control", "dear")["value"]["value"] == pytest.approx(orders)
    assert not find_row(summary, "control", "cheap")["is_measured"]


@pytest.mark.parametrize("role", ["guardrail", "watched"])
def test_a_metric_that_the_shop_does_not_have_blocks_nothing(tmp_path: Path, role: str) -> None:
    metric = CARTS | {"role": role}
    summary = measure(write_experiment(tmp_path, events=[event(0, "click")]), metric)
    without = measure(write_experiment(tmp_path, events=[event(0, "click")]))
    assert decide(tmp_path, summary, metric) == decide(tmp_path, without)


def test_a_stray_order_makes_no_shop_with_orders(tmp_path: Path) -> None:
    """A guardrail on a handful of orders could never be met, and would forbid every promotion."""
    events = [event(0, "click"), event(0, "cart"), event(3, "cart")]
    metric = CARTS | {"role": "guardrail"}
    paths = write_experiment(tmp_path, users=30_000, events=events)
    assert not find_row(measure(paths, metric), "new", "carts_per_user")["is_measured"]
    many = [event(user, "cart") for user in range(12)]
    paths = write_experiment(tmp_path, users=30_000, events=many)
    assert find_row(measure(paths, metric), "new", "carts_per_user")["is_measured"]


@pytest.mark.parametrize(
    ("returned_of", "role", "action"),
    [("new", "guardrail", "rollback"), ("new", "watched", "hold"), ("control", "guardrail", "hold")],
)
def test_more_returns_are_worse_and_only_a_guardrail_acts(
    tmp_path: Path, returned_of: str, role: str, action: str
) -> None:
    first = 1 if returned_of == "new" else 0
    events = [
        event(user, "order", quantity=2, returned=1 if user % 2 == first and user % 4 < 2 else None)
        for user in range(2000)
    ]
    metric = RETURNS | {"role": role}
    summary = measure(write_experiment(tmp_path, events=events), metric)
    verdict = decide(tmp_path, summary, metric)
    assert verdict.action == action, verdict.reasons
    if action == "rollback":
        assert "return_rate" in verdict.reasons[0]
        assert "surely above +10%" in verdict.reasons[0]


def test_a_metric_whose_role_is_to_decide_is_the_primary_one(tmp_path: Path) -> None:
    events = [event(user, "cart") for user in range(2000) if user % 2 or user % 4 == 0]
    metric = CARTS | {"role": "deciding"}
    assert MonitoringConfig(metrics=[metric]).primary_metric == "carts_per_user"
    summary = measure(write_experiment(tmp_path, events=events, orders=False), metric)
    verdict = decide(tmp_path, summary, metric, guardrail_margin=0.5)
    assert verdict.action == "promote", verdict.reasons
    assert "carts_per_user" in verdict.reasons[0]


def test_a_deciding_metric_that_nobody_moved_holds_and_says_so(tmp_path: Path) -> None:
    metric = CARTS | {"role": "deciding"}
    summary = measure(write_experiment(tmp_path, events=[event(0, "click")], orders=False), metric)
    verdict = decide(tmp_path, summary, metric)
    assert verdict.action == "hold"
    assert any("carts_per_user" in reason and "primary_metric" in reason for reason in verdict.reasons)


def test_one_users_fortune_counts_no_more_than_the_cap(tmp_path: Path) -> None:
    events = [event(user, "order", price=10.0 + user % 7) for user in range(2000)]
    events.append(event(1, "order", price=1e9, day=4))
    per_order = {"name": "basket", "title": "Basket", "event": "order", "measure": "price", "per": "order"}
    summary = measure(write_experiment(tmp_path, events=events), per_order)
    lift = find_row(summary, "new", "basket")["deciding"]
    assert lift["low"] < 0 < lift["high"] < 0.2


@pytest.mark.parametrize(
    ("metrics", "values", "message"),
    [
        ([CARTS | {"name": "ctr"}], {}, "a metric of every report"),
        ([CARTS | {"name": "Carts!"}], {}, "pattern"),
        ([CARTS, CARTS], {}, "twice"),
        ([CARTS | {"role": "deciding"}, RETURNS | {"role": "deciding"}], {}, "one metric decides"),
        ([CARTS | {"role": "deciding"}], {"primary_metric": "ctr"}, "leave one of them out"),
        ([CARTS | {"min_price": 5, "max_price": 5}], {}, "no price lies"),
        ([CARTS | {"event": "wish"}], {}, "'click', 'cart', 'order' or 'return'"),
        ([], {"primary_metric": "happiness"}, "none of ipv_per_user, ctr"),
    ],
)
def test_wrong_metrics_are_refused(
    metrics: list[dict[str, Any]], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        MonitoringConfig.model_validate({"metrics": metrics, **values})


def test_own_metrics_are_told_by_day_and_by_slice(tmp_path: Path) -> None:
    """Pages of even minutes are home, the others search; a day has 1,440 users."""
    events = []
    for user in range(2000):
        at = {"day": user / 1440 + 0.0001, "request_id": f"r{user}"}
        # The treatment puts twice as many into the cart, on the second day only.
        if user % 10 < 2 or (user >= 1440 and user % 10 in (3, 5)):
            events.append(event(user, "cart", **at))
        events.append(event(user, "order", **at | {"returned": 1 if user % 7 == 0 else None, "quantity": 2}))
    # Without a page it belongs to its day, and to no slice.
    events.append(event(1999, "cart", day=1999 / 1440 + 0.0002))
    paths = write_experiment(tmp_path, events=events)
    exposures = pl.read_parquet(paths["exposures"])
    is_home = (pl.col("timestamp").dt.minute() // 2) % 2 == 0
    scenes = exposures.with_columns(scene=pl.when(is_home).then(pl.lit("home")).otherwise(pl.lit("search")))
    EXPOSURES.check_rows(scenes).write_parquet(paths["exposures"])
    per_page = {"name": "carts_per_page", "title": "Carts per page", "event": "cart", "per": "exposures"}
    summary = measure(paths, CARTS, RETURNS | {"role": "watched"}, per_page)

    shown = scenes.select("user_id", "request_id", "arm", "scene", day=pl.col("timestamp").dt.date())
    acts = EVENTS.check_rows(pl.DataFrame(events, infer_schema_length=None)).with_columns(
        day=pl.col("timestamp").dt.date()
    )

    def find_lift(
        part: str, value: object, keys: list[str], numerator: pl.Expr, denominator: pl.Expr
    ) -> float:
        rates = []
        for arm in ("new", "control"):
            users = shown.filter((pl.col(part) == value) & (pl.col("arm") == arm))
            done = acts.join(users.select(keys), on=keys, how="semi")
            rates.append(done.select(numerator).item() / (done.select(denominator).item() or len(users)))
        return rates[0] / rates[1] - 1

    carts = (pl.col("event_type") == "cart").sum()
    orders = (pl.col("event_type") == "order").sum()
    returns = (pl.col("returned") > 0).sum()
    days = {(row["day"], row["metric"]): row["relative"]["value"] for row in summary["by_day"]}
    slices = {
        (row["slice"], row["metric"]): row["relative"]["value"]
        for row in summary["by_slice"]
        if row["kind"] == "scene"
    }
    per_user = pl.lit(0)
    for day in shown["day"].unique():
        for metric, parts in {"carts_per_user": (carts, per_user), "return_rate": (returns, orders)}.items():
            expected = find_lift("day", day, ["user_id", "day"], *parts)
            assert days[str(day), metric] == pytest.approx(expected), (day, metric)
        # One item a page: per page is per user.
        assert days[str(day), "carts_per_page"] == pytest.approx(days[str(day), "carts_per_user"])
    assert days["2025-05-02", "carts_per_user"] > 1 > abs(days["2025-05-01", "carts_per_user"]) + 0.9
    for scene in ("home", "search"):
        for metric, parts in {"carts_per_user": (carts, per_user), "return_rate": (returns, orders)}.items():
            expected = find_lift("scene", scene, ["request_id"], *parts)
            assert slices[scene, metric] == pytest.approx(expected), (scene, metric)


def test_without_events_own_metrics_by_day_count_what_was_shown(tmp_path: Path) -> None:
    clicks = {"name": "own_clicks", "title": "Own clicks", "event": "click"}
    rows = measure(write_experiment(tmp_path), clicks)["by_day"]
    lifts = {(row["day"], row["metric"]): row["relative"] for row in rows}
    for day in ("2025-05-01", "2025-05-02"):
        assert lifts[day, "own_clicks"] == pytest.approx(lifts[day, "ipv_per_user"])
