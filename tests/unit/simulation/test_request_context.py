"""Scenes, queries and devices of the log's pages, and the propensities of what they show."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.tables import CONTEXT_COLUMNS, EVENTS
from simulation.config import SimulationConfig
from simulation.logging_policy import compute_draw_propensities, draw_without_replacement
from simulation.page_visits import PAGE_SCENES, SCENE_SHARES
from simulation.search_box import match_queries, split_words
from simulation.shop_world import load_shop_world


@pytest.fixture(scope="module")
def pages(shop: Path) -> pl.DataFrame:
    impressions = pl.read_parquet(shop / "events.parquet").filter(pl.col("event_type") == "impression")
    return impressions.unique("request_id", keep="first", maintain_order=True)


def test_pages_have_the_documented_scenes(pages: pl.DataFrame) -> None:
    shares = dict(pages["scene"].value_counts(normalize=True).iter_rows())
    assert shares == pytest.approx(dict(zip(PAGE_SCENES, SCENE_SHARES, strict=True)), abs=0.05)


def test_only_category_pages_have_a_category_and_only_searches_a_query(pages: pl.DataFrame) -> None:
    assert (pages["page_category"].is_not_null() == (pages["scene"] == "category")).all()
    assert (pages["query"].is_not_null() == (pages["scene"] == "search")).all()
    assert pages["device"].is_in(["phone", "desktop", "tablet"]).all()
    assert set(pages["page_category"].drop_nulls()) <= {kind.category for kind in load_shop_world().types}


def test_a_similar_page_is_about_an_item_that_it_does_not_show(shop: Path, pages: pl.DataFrame) -> None:
    assert (pages["seed_item_id"].is_not_null() == (pages["scene"] == "similar")).all()
    events = pl.read_parquet(shop / "events.parquet").filter(pl.col("scene") == "similar")
    assert (events["item_id"] != events["seed_item_id"]).mean() > 0.999
    categories = pl.read_parquet(shop / "items.parquet").select("item_id", "category")
    shown = events.join(categories, on="item_id")
    seeds = categories.rename({"item_id": "seed_item_id"})
    both = shown.join(seeds, on="seed_item_id", suffix="_of_seed")
    departments = both.select(pl.col("category", "category_of_seed").str.split(" > ").list.first())
    # Chance alone would give about one in ten.
    assert (departments["category"] == departments["category_of_seed"]).mean() > 0.18


def test_all_items_of_a_page_have_its_context_and_other_events_none(shop: Path) -> None:
    events = pl.read_parquet(shop / "events.parquet")
    is_impression = pl.col("event_type") == "impression"
    contexts = events.filter(is_impression).group_by("request_id").agg(pl.col(CONTEXT_COLUMNS).n_unique())
    assert (contexts.select(CONTEXT_COLUMNS) == 1).to_numpy().all()
    other_events = events.filter(~is_impression).select(*CONTEXT_COLUMNS, "propensity")
    assert other_events.null_count().row(0) == (len(other_events),) * other_events.width


def test_some_searches_name_the_situation(pages: pl.DataFrame) -> None:
    world = load_shop_world()
    first_situation = world.query_starts[len(world.types)]
    situations = pl.Series(world.queries[first_situation:])
    names_situation = pages["query"].drop_nulls().is_in(situations.implode())
    # Four of nine endings leave the phrase as it is.
    assert 0.08 < names_situation.mean() < 0.3


def test_propensities_are_probabilities_and_fall_where_others_are_likelier(shop: Path) -> None:
    impressions = pl.read_parquet(shop / "events.parquet").filter(pl.col("event_type") == "impression")
    assert EVENTS.validate_rows(impressions).rejected.is_empty()
    assert impressions["propensity"].is_not_null().all()
    by_position = impressions.group_by("position").agg(pl.col("propensity").median()).sort("position")
    assert by_position["propensity"][0] > by_position["propensity"][9]


def test_a_propensity_is_the_share_of_draws_given_those_above() -> None:
    weights = np.tile(np.array([1.0, 2.0, 5.0], dtype=np.float32), (40_000, 1))
    drawn = draw_without_replacement(weights, 2, np.random.default_rng(3))
    propensities = compute_draw_propensities(weights, drawn)
    assert propensities[:, 0] == pytest.approx(weights[0][drawn[:, 0]] / 8)
    after_last = drawn[drawn[:, 0] == 2]
    share_of_second = (after_last[:, 1] == 1).mean()
    expected = propensities[(drawn == [2, 1]).all(axis=1)][0, 1]
    assert expected == pytest.approx(2 / 3)
    assert share_of_second == pytest.approx(expected, abs=0.01)


def test_the_inverse_propensities_of_a_position_count_the_catalogue(shop: Path) -> None:
    """The mean of 1/propensity is the number of items that could have stood there."""
    config = SimulationConfig(num_items=240, num_users=300, num_days=20)
    events = pl.read_parquet(shop / "events.parquet")
    first_places = events.filter((pl.col("event_type") == "impression") & (pl.col("position") == 0))
    num_available = (1 - config.new_item_share / 2) * config.num_items
    assert (1 / first_places["propensity"]).mean() == pytest.approx(num_available, rel=0.15)


def test_the_search_field_counts_shared_words() -> None:
    world = load_shop_world()
    columns = {"brand": ["B"] * 2, "category": ["Sports", "Pets"], "description": [None, None]}
    items = pl.DataFrame({"title": ["Running shoes, wide fit", "Dog bed"], **columns})
    match = match_queries(world, items)
    query = world.queries.index("running shoes for flat feet")
    assert match[query, 0] > 0
    assert match[query, 1] == 0


def test_the_search_field_ignores_plurals_and_small_words() -> None:
    assert split_words("The boots, for 2 Dresses!", frozenset({"the", "for"})) == {"boot", "dresse"}
