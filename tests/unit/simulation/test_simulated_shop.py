from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.artifacts import read_lineage, read_table
from contracts.tables import EVENTS, ITEMS
from simulation.config import SimulationConfig
from simulation.shop_world import load_shop_world
from simulation.write_shop import write_shop

SMALL = SimulationConfig(num_items=240, num_users=300, num_days=20, coarse_category_share=0)


@pytest.fixture(scope="module")
def items(shop: Path) -> pl.DataFrame:
    return read_table(shop / "items.parquet", ITEMS)


@pytest.fixture(scope="module")
def events(shop: Path) -> pl.DataFrame:
    return read_table(shop / "events.parquet", EVENTS)


def test_same_seed_same_shop(shop: Path, tmp_path: Path) -> None:
    write_shop(SMALL, out=tmp_path / "again")
    write_shop(SMALL.model_copy(update={"seed": 8}), out=tmp_path / "other")
    assert read_lineage(tmp_path / "again").digest == read_lineage(shop).digest
    assert read_lineage(tmp_path / "other").digest != read_lineage(shop).digest


def test_tables_keep_their_contracts(items: pl.DataFrame, events: pl.DataFrame) -> None:
    assert ITEMS.validate_rows(items).rejected.is_empty()
    assert EVENTS.validate_rows(events).rejected.is_empty()
    assert set(events["item_id"]) <= set(items["item_id"])
    assert events["timestamp"].is_sorted()


def test_public_tables_hold_no_truth(shop: Path) -> None:
    assert sorted(path.name for path in shop.iterdir()) == [
        "events.parquet",
        "items.parquet",
        "lineage.json",
        "truth",
    ]
    assert pl.read_parquet(shop / "items.parquet").columns == list(ITEMS.schema)
    assert pl.read_parquet(shop / "events.parquet").columns == list(EVENTS.schema)
    assert events_of(shop)["arm"].is_null().all()


def events_of(shop: Path) -> pl.DataFrame:
    return pl.read_parquet(shop / "events.parquet")


def test_log_stays_in_its_time_and_items_appear_when_available(
    items: pl.DataFrame, events: pl.DataFrame
) -> None:
    assert events["timestamp"].min() >= SMALL.start
    assert events["timestamp"].max() < SMALL.start + timedelta(days=SMALL.num_days)
    seen = events.join(items, on="item_id")
    assert (seen["available_at"] <= seen["timestamp"]).all()
    new = items.filter(pl.col("available_at") > SMALL.start)
    assert len(new) == pytest.approx(0.15 * len(items), rel=0.5)
    assert new["item_id"].is_in(events["item_id"].implode()).any()


def test_new_users_come_during_the_log(events: pl.DataFrame) -> None:
    first = events.group_by("user_id").agg(pl.col("timestamp").min())["timestamp"]
    assert (first > SMALL.start + timedelta(days=SMALL.num_days / 2)).any()


def test_every_act_was_shown_first(events: pl.DataFrame) -> None:
    page = ["request_id", "item_id"]
    shown = events.filter(pl.col("event_type") == "impression")
    clicks = events.filter(pl.col("event_type") == "click")
    orders = events.filter(pl.col("event_type") == "order")
    assert len(clicks.join(shown, on=page, how="semi")) == len(clicks)
    assert len(orders.join(clicks, on=page, how="semi")) == len(orders) > 0
    later = clicks.join(shown, on=page)
    assert (later["timestamp"] > later["timestamp_right"]).all()
    assert shown.select(pl.struct(page).is_unique().all()).item()


def test_clicks_fall_with_position_and_are_rare(events: pl.DataFrame) -> None:
    counts = events.group_by("position", "event_type").len().sort("position")
    clicks = counts.filter(pl.col("event_type") == "click")["len"]
    shown = events.filter(pl.col("event_type") == "impression")
    assert clicks[:3].sum() > 1.5 * clicks[-3:].sum()
    assert 0.03 < clicks.sum() / len(shown) < 0.1


def test_popularity_has_a_long_tail(events: pl.DataFrame) -> None:
    shown = events.filter(pl.col("event_type") == "impression")["item_id"].value_counts(sort=True)["count"]
    top = shown.head(24).sum() / shown.sum()
    assert top > 0.25
    assert shown.min() < shown.mean() / 4


def test_purchases_elsewhere_change_what_is_wanted_here(
    shop: Path, items: pl.DataFrame, events: pl.DataFrame
) -> None:
    """Who bought a stroller in another shop clicks rain covers here more than others who see them."""
    page = events.join(items.select("item_id", "category"), on="item_id")
    page = page.filter(pl.col("event_type").is_in(["impression", "click"]))
    elsewhere = pl.read_parquet(shop / "truth" / "elsewhere.parquet").rename({"timestamp": "bought_at"})
    called_for = elsewhere.join(followers(), on="product_type").select("user_id", "category", "bought_at")
    after = page.join(called_for, on=["user_id", "category"]).filter(
        pl.col("timestamp") > pl.col("bought_at")
    )
    assert ctr(after.unique(["request_id", "item_id", "event_type"])) > 2 * ctr(page)


def followers() -> pl.DataFrame:
    """Product type, category of a type that its purchase calls for."""
    world = load_shop_world()
    pairs = [
        (world.types[first].type_id, world.types[second].category)
        for first, second in np.argwhere(world.follows)
    ]
    return pl.DataFrame(pairs, schema=["product_type", "category"], orient="row")


def ctr(events: pl.DataFrame) -> float:
    kinds = dict(events.group_by("event_type").len().iter_rows())
    return kinds["click"] / kinds["impression"]


def test_one_item_and_one_user_are_a_shop(tmp_path: Path) -> None:
    config = SimulationConfig(num_items=1, num_users=1, num_days=2, requests_per_user_day=5, new_item_share=0)
    write_shop(config, out=tmp_path / "shop")
    events = read_table(tmp_path / "shop" / "events.parquet", EVENTS)
    assert set(events["item_id"]) == {"i00000"}


def test_a_shop_without_anything_to_show_has_an_empty_log(tmp_path: Path) -> None:
    config = SimulationConfig(num_items=1, num_users=2, num_days=2, new_item_share=1, seed=3)
    write_shop(config, out=tmp_path / "shop")
    assert read_table(tmp_path / "shop" / "events.parquet", EVENTS).columns == list(EVENTS.schema)


def test_sellers_file_some_items_under_an_aisle_or_a_department_only(tmp_path):
    config = SMALL.model_copy(update={"coarse_category_share": 0.7})
    write_shop(config, out=tmp_path / "shop")

    depths = pl.read_parquet(tmp_path / "shop" / "items.parquet")["category"].str.split(" > ").list.len()

    assert set(depths) == {1, 2, 3}
    assert 0.55 < (depths < 3).mean() < 0.85


def test_life_elsewhere_can_be_scaled(shop: Path, tmp_path: Path) -> None:
    write_shop(SMALL.model_copy(update={"elsewhere_factor": 0}), out=tmp_path / "none")
    write_shop(SMALL.model_copy(update={"elsewhere_factor": 2}), out=tmp_path / "more")
    folders = (tmp_path / "none", shop, tmp_path / "more")
    purchases = [len(pl.read_parquet(folder / "truth" / "elsewhere.parquet")) for folder in folders]
    orders = [int(read_lineage(folder).metrics["orders"]) for folder in folders]
    assert purchases[0] == 0 < 1.5 * purchases[1] < purchases[2]
    assert orders[0] > orders[2]
