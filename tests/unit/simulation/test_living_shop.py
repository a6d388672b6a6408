"""The shop lives on: the same people for every ranker, states that resume, late and returned orders."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.array_types import IntArray
from contracts.errors import UserError
from contracts.tables import EVENTS, ITEMS
from simulation.config import LivingShopConfig, SimulationConfig
from simulation.living_shop import DayResult, LivingShop
from simulation.true_outcomes import RequestBatch, locate_slots, rank_as_given, rank_by_truth
from simulation.write_shop import write_shop

Ranker = Callable[[RequestBatch, int], IntArray]
LOG_DAYS = 20


def live_on(shop: LivingShop, num_days: int, rank: Ranker = rank_as_given) -> list[DayResult]:
    results = []
    for _ in range(num_days):
        day = shop.open_day()
        results.append(shop.close_day(day, rank(day.batch, 10)))
    return results


def test_days_follow_the_log_and_keep_the_contract(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig())
    log_ids = set(pl.read_parquet(shop / "events.parquet")["request_id"])
    events = pl.concat([result.events for result in live_on(living_shop, 3)])
    assert EVENTS.validate_rows(events).rejected.is_empty()
    start = SimulationConfig().start
    assert events["timestamp"].min() >= start + timedelta(days=LOG_DAYS)
    assert events["timestamp"].max() < start + timedelta(days=LOG_DAYS + 3)
    assert not log_ids & set(events["request_id"])
    assert living_shop.day == LOG_DAYS + 3


def test_opening_a_day_changes_nothing(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig())
    first, second = living_shop.open_day(), living_shop.open_day()
    assert first.requests == second.requests
    assert all(len(set(request.candidate_item_ids)) == 50 for request in first.requests)


def test_two_rankers_meet_the_same_people(shop: Path) -> None:
    given, oracle = (LivingShop.open_shop(shop, LivingShopConfig()) for _ in range(2))
    live_on(given, 4, rank_as_given)
    live_on(oracle, 4, rank_by_truth)
    given_day, oracle_day = given.open_day(), oracle.open_day()
    for column in ("user_id", "timestamp", "request_id"):
        assert [getattr(r, column) for r in given_day.requests] == [
            getattr(r, column) for r in oracle_day.requests
        ]
    # Clicks moved a part of what is retrieved, no more.
    shared = [
        len(set(first.candidate_item_ids) & set(second.candidate_item_ids))
        for first, second in zip(given_day.requests, oracle_day.requests, strict=True)
    ]
    assert 35 < np.mean(shared) < 50


def test_a_better_ranker_gets_more_clicks_and_orders(shop: Path) -> None:
    totals = []
    for rank in (rank_as_given, rank_by_truth):
        results = live_on(LivingShop.open_shop(shop, LivingShopConfig()), 5, rank)
        totals.append([sum(r.num_clicks for r in results), sum(r.gmv for r in results)])
    assert totals[1][0] > 1.5 * totals[0][0]
    assert totals[1][1] > totals[0][1]


def test_the_luck_of_an_item_does_not_depend_on_the_others(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig())
    day = living_shop.open_day()
    request = day.requests[3]
    ids = request.candidate_item_ids
    pages = [living_shop.list_page_reactions(day, request.request_id, page) for page in (ids, ids[:5])]
    in_both = pl.col("position") < 5
    assert pages[0].filter(in_both).equals(pages[1])


def test_a_page_reacts_as_its_day_does(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig())
    day = living_shop.open_day()
    rankings = {request.request_id: request.candidate_item_ids[:10] for request in day.requests}
    single = pl.concat([living_shop.list_page_reactions(day, key, ids) for key, ids in rankings.items()])
    events = living_shop.close_day(day, locate_slots(day.batch, rankings, 10)).events
    expected = events.filter(pl.col("event_type") != "impression")
    assert single.sort(EVENTS.key).equals(expected.sort(EVENTS.key))


def test_a_saved_state_resumes(shop: Path, tmp_path: Path) -> None:
    whole = LivingShop.open_shop(shop, LivingShopConfig())
    live_on(whole, 2, rank_by_truth)
    whole.save_state(tmp_path / "state.npz")
    resumed = LivingShop.resume_shop(shop, LivingShopConfig(), tmp_path / "state.npz")
    for first, second in zip(live_on(whole, 2), live_on(resumed, 2), strict=True):
        assert first.events.equals(second.events)
    assert whole.open_day().arrivals.equals(resumed.open_day().arrivals)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    with pytest.raises(UserError, match="another shop or configuration"):
        LivingShop.resume_shop(shop, LivingShopConfig(seed=1), tmp_path / "state.npz")


def test_orders_may_come_late_and_go_back(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig(late_order_share=0.5, return_share=0.5))
    orders, arrivals = [], []
    for _ in range(12):
        day = living_shop.open_day()
        arrivals.append(day.arrivals)
        start = SimulationConfig().start + timedelta(days=day.day)
        assert day.arrivals["timestamp"].is_between(start, start + timedelta(days=1)).all()
        events = living_shop.close_day(day, rank_by_truth(day.batch, 10)).events
        orders.append(events.filter(pl.col("event_type") == "order"))
    late = pl.concat(arrivals).filter(pl.col("event_type") == "order")
    returns = pl.concat(arrivals).filter(pl.col("event_type") == "return")
    assert EVENTS.validate_rows(late).rejected.is_empty()
    assert len(late) == pytest.approx(len(pl.concat(orders)), rel=0.4)
    sold = pl.concat([*orders, late])
    matched = returns.join(sold, on=["user_id", "request_id", "item_id"])
    assert len(matched) == len(returns) > 0
    assert (matched["timestamp"] > matched["timestamp_right"]).all()


def test_new_items_and_users_keep_coming(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig())
    first_items = living_shop.read_items()
    assert first_items.sort("item_id").equals(pl.read_parquet(shop / "items.parquet").sort("item_id"))
    shown: set[str] = set()
    users: set[str] = set()
    for _ in range(10):
        day = living_shop.open_day()
        catalogue = set(living_shop.read_items()["item_id"])
        assert set(day.batch.candidate_ids.ravel()) <= catalogue
        result = living_shop.close_day(day, rank_as_given(day.batch, 10))
        shown |= set(result.events["item_id"])
        users |= set(result.events["user_id"])
    items = living_shop.read_items()
    assert ITEMS.validate_rows(items).rejected.is_empty()
    # 15 % of 240 items came in 20 days, and come in the next 20.
    assert len(items) - len(first_items) == pytest.approx(0.15 * 240 / 20 * 10, abs=8)
    assert shown - set(first_items["item_id"])
    assert users - {f"u{number:06d}" for number in range(300)}


def test_bots_click_nearly_everything_and_buy_nothing(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig(bot_user_share=0.05))
    day = living_shop.open_day()
    bots = {r.user_id for r, is_bot in zip(day.requests, day.is_bot, strict=True) if is_bot}
    events = living_shop.close_day(day, rank_as_given(day.batch, 10)).events
    of_bots = dict(events.filter(pl.col("user_id").is_in(bots)).group_by("event_type").len().iter_rows())
    assert of_bots["click"] > 0.7 * of_bots["impression"]
    assert of_bots.keys() == {"impression", "click"}
    assert not LivingShop.open_shop(shop, LivingShopConfig()).is_bot.any()


def test_the_reserve_does_not_change_the_log_and_ends(tmp_path: Path) -> None:
    config = SimulationConfig(num_items=60, num_users=60, num_days=5, reserve_days=0)
    write_shop(config, out=tmp_path / "without")
    write_shop(config.model_copy(update={"reserve_days": 2}), out=tmp_path / "with")
    for name in ("items", "events"):
        without, with_reserve = (
            pl.read_parquet(tmp_path / p / f"{name}.parquet") for p in ("without", "with")
        )
        assert without.equals(with_reserve)
    with pytest.raises(UserError, match="reserve_days"):
        LivingShop.open_shop(tmp_path / "without", LivingShopConfig()).open_day()
    live_on(LivingShop.open_shop(tmp_path / "with", LivingShopConfig(num_candidates=20)), 2)


def test_a_day_is_closed_once(shop: Path) -> None:
    living_shop = LivingShop.open_shop(shop, LivingShopConfig())
    day = living_shop.open_day()
    slots = rank_as_given(day.batch, 10)
    living_shop.close_day(day, slots)
    with pytest.raises(ValueError, match="is not open"):
        living_shop.close_day(day, slots)
    with pytest.raises(UserError, match="no request of day"):
        living_shop.list_page_reactions(living_shop.open_day(), day.requests[0].request_id, [])
