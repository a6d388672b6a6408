from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranker_shop import NUM_EVENTS, START, Shop, make_events, write_dataset

from contracts.artifacts import read_table
from contracts.dataset import Dataset, read_dataset, select_events_before
from contracts.errors import UserError
from contracts.tables import EVENTS, RANKING_LISTS
from models.ranker.config import ListConfig
from models.ranker.lists.build_lists import build_lists
from models.ranker.lists.negative_sampling import (
    LARGEST_WIDENING,
    NO_ITEM,
    draw_negatives,
    index_log,
    measure_keep_chances,
    select_novel_targets,
)


def _read_lists(folder: Path) -> pl.DataFrame:
    return read_table(folder / "ranking_lists.parquet", RANKING_LISTS)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), window=st.integers(1, 60), count=st.integers(1, 12), start=st.integers(0, 200)
)
def test_negatives_keep_the_protocol(seed: int, window: int, count: int, start: int) -> None:
    events = make_events(seed)[:300]
    log = index_log(events)
    targets, pool = select_novel_targets(log, start, 300), np.arange(start, 300)
    drawn = draw_negatives(log, targets, pool, window=window, count=count, seed=seed)
    assert ((drawn.drawn_shares > 0) & (drawn.drawn_shares <= 1)).all()
    chances = measure_keep_chances(log, targets, pool, drawn)
    assert ((chances > 0) & (chances < 1 + 1e-9)).all()
    names = log.item_names.to_list()
    history, first_seen = defaultdict(set), {}
    at_row = {}
    for row, (user, item) in enumerate(events.select("user_id", "item_id").iter_rows()):
        at_row[row] = (set(history[user]), set(first_seen))
        history[user].add(item)
        first_seen.setdefault(item, row)
    users, items = events["user_id"].to_list(), events["item_id"].to_list()
    for target, row, widened in zip(targets, drawn.items, drawn.windows, strict=True):
        own_items, known_items = at_row[target]
        assert own_items
        assert items[target] in known_items

        def list_fair_items(length: int, target: int = target) -> set[str]:
            others = range(target + 1, min(target + 1 + length, 300))
            others_items = {
                items[other]
                for other in others
                if users[other] != users[target] and items[other] != items[target]
            }
            return (others_items - at_row[target][0]) & at_row[target][1]

        fair_items = list_fair_items(widened)
        if widened > window:
            assert len(list_fair_items(widened // 2)) < count
        if len(fair_items) < count:
            assert widened == LARGEST_WIDENING * window or target + 1 + widened >= 300
        chosen = [names[code] for code in row if code != NO_ITEM]
        assert len(chosen) == len(set(chosen)) == min(count, len(fair_items))
        assert set(chosen) <= fair_items


def test_lists_of_behaviors(shop: Shop, data: Dataset) -> None:
    lists = _read_lists(shop.lists)
    assert set(lists["protocol"]) >= {"contemporaneous"}
    train = lists.filter(pl.col("split") == "train")
    assert train["item_ids"].list.len().max() == 5
    assert (lists["clicks"].list.sum() == 1).all()
    assert (lists["item_ids"].list.n_unique() == lists["item_ids"].list.len()).all()
    target = lists.explode("item_ids", "clicks", "orders", "values").filter("clicks")
    events = data.events.rename({"item_id": "item_ids"})
    joined = target.join(events, on=["user_id", "timestamp", "item_ids"])
    assert len(joined) == len(lists)
    split = data.split
    split_name = pl.when(pl.col("timestamp") < split.train_end).then(pl.lit("train"))
    split_name = (
        split_name.when(pl.col("timestamp") < split.validation_end)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("test"))
    )
    bought = data.events.filter(pl.col("event_type") == "order").with_columns(split=split_name)
    order_counts = bought.group_by("user_id", "split", item_ids="item_id").agg(bought=pl.len())
    labeled_targets = target.join(order_counts, on=["user_id", "split", "item_ids"], how="left").with_columns(
        pl.col("bought").fill_null(0)
    )
    assert labeled_targets["orders"].any()
    assert (labeled_targets["orders"] == (labeled_targets["bought"] > 0)).all()
    assert (labeled_targets["values"] == labeled_targets["bought"] * 10.0).all()


def test_the_targets_seat_says_nothing(shop: Shop) -> None:
    lists = _read_lists(shop.lists).filter(
        (pl.col("split") == "train") & (pl.col("item_ids").list.len() == 5)
    )
    seats = lists["clicks"].list.arg_max().value_counts()["count"]
    assert len(seats) == 5
    assert seats.min() > 0.5 * len(lists) / 5


def test_within_cold_lists_hold_cold_items_only(tmp_path: Path) -> None:
    # The second half of the items appears only after the training end.
    events = make_events()
    late = pl.col("timestamp") >= START + timedelta(hours=int(NUM_EVENTS * 0.7))
    number = pl.col("item_id").str.strip_prefix("i").cast(pl.Int64)
    events = events.with_columns(item_id=pl.format("i{}", pl.when(late).then(number).otherwise(number % 30)))
    dataset = write_dataset(events, tmp_path / "dataset")
    build_lists(dataset, ListConfig(window=40, eval_negatives=15), out=tmp_path / "lists")
    data = read_dataset(dataset)
    counts = dict(
        select_events_before(data.behaviors, data.split.train_end).group_by("item_id").len().iter_rows()
    )
    lists = _read_lists(tmp_path / "lists")
    for protocol, limit in (("within_cold", 5), ("within_unseen", 1)):
        items = lists.filter(pl.col("protocol") == protocol)["item_ids"].explode()
        assert len(items)
        assert all(counts.get(item, 0) < limit for item in items)


def test_the_future_does_not_reach_training_lists(shop: Shop, data: Dataset, tmp_path: Path) -> None:
    start = data.split.train_end + timedelta(minutes=1)
    planted = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(40)],
            "timestamp": [start + timedelta(seconds=n) for n in range(40)],
            "item_id": "i3",
            "event_type": "order",
        }
    )
    events = pl.concat([data.events, EVENTS.check_rows(planted)]).sort("timestamp", "user_id", "item_id")
    build_lists(
        write_dataset(events, tmp_path / "d"), ListConfig(window=40, eval_negatives=15), out=tmp_path / "l"
    )
    train = pl.col("split") == "train"
    assert _read_lists(tmp_path / "l").filter(train).equals(_read_lists(shop.lists).filter(train))


def test_requests_become_lists(shown_shop: Shop) -> None:
    lists = _read_lists(shown_shop.lists)
    assert set(lists.filter(pl.col("split") == "train")["protocol"]) == {"impressions"}
    assert {"impressions", "contemporaneous"} <= set(lists.filter(pl.col("split") == "test")["protocol"])
    requests = lists.filter(pl.col("protocol") == "impressions")
    # A click that fell beyond its request's part is no label: at most one per boundary.
    assert (requests["clicks"].list.sum() == 0).sum() <= 2
    assert requests["clicks"].list.sum().max() == 1
    assert 0.2 < requests["orders"].list.sum().mean() < 0.4
    assert requests["item_ids"].list.len().mean() > 5


def test_an_order_after_the_part_is_no_label_of_it(shown_shop: Shop, tmp_path: Path) -> None:
    data = read_dataset(shown_shop.inputs.dataset)
    events = select_events_before(data.events, data.split.train_end)
    shown = events.filter(pl.col("event_type") == "impression").tail(3)
    late = shown.with_columns(
        event_type=pl.lit("order"), timestamp=pl.lit(data.split.train_end, pl.Datetime("us", "UTC"))
    )
    planted = pl.concat([data.events, late]).sort("timestamp", "user_id", "item_id")
    build_lists(
        write_dataset(planted, tmp_path / "d"), ListConfig(window=40, eval_negatives=15), out=tmp_path / "l"
    )
    train = pl.col("split") == "train"
    assert _read_lists(tmp_path / "l").filter(train).equals(_read_lists(shown_shop.lists).filter(train))


def test_the_cap_keeps_a_seeded_sample(shop: Shop, tmp_path: Path) -> None:
    config = ListConfig(window=40, eval_negatives=15, max_eval_lists=20)
    for name in ("a", "b"):
        build_lists(shop.inputs.dataset, config, out=tmp_path / name)
    lists = _read_lists(tmp_path / "a")
    assert lists.equals(_read_lists(tmp_path / "b"))
    assert lists.filter(pl.col("split") != "train").group_by("protocol", "split").len()["len"].max() == 20


def test_a_log_of_strangers_is_refused(tmp_path: Path) -> None:
    events = make_events().with_columns(user_id=pl.format("u{}", pl.int_range(pl.len())))
    dataset = write_dataset(EVENTS.check_rows(events), tmp_path / "d")
    with pytest.raises(UserError, match="no training list"):
        build_lists(dataset, ListConfig(), out=tmp_path / "l")
