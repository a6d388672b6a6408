"""Sampled lists of logs with repeats: only knowing the user may pay."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ranker_shop import NUM_EVENTS, START, write_dataset

from contracts.artifacts import read_lineage, read_table
from contracts.table_schema import UTC_TIME
from contracts.tables import EVENTS, RANKING_LISTS
from models.ranker.config import ListConfig
from models.ranker.evaluation.ranking_metrics import compute_auc, measure_lists
from models.ranker.lists.build_lists import build_lists

NUM_RETAIL_EVENTS, NUM_RETAIL_USERS, NUM_RETAIL_ITEMS = 24_000, 1_200, 300


def _make_retail_events() -> pl.DataFrame:
    """Two of three events buy again what the user owns; a few staples are owned by nearly everybody."""
    rng = np.random.default_rng(0)
    popularity = (1.0 + np.arange(NUM_RETAIL_ITEMS)) ** -1.0
    first_choices = rng.choice(NUM_RETAIL_ITEMS, NUM_RETAIL_EVENTS, p=popularity / popularity.sum())
    activity = rng.gamma(1.0, 1.0, NUM_RETAIL_USERS)
    users = rng.choice(NUM_RETAIL_USERS, NUM_RETAIL_EVENTS, p=activity / activity.sum())
    owned: list[list[int]] = [[] for _ in range(NUM_RETAIL_USERS)]
    items = first_choices.copy()
    for event, user in enumerate(users):
        if owned[user] and rng.random() < 0.67:
            items[event] = rng.choice(owned[user])
        elif items[event] not in owned[user]:
            owned[user].append(items[event])
    step = timedelta(hours=NUM_EVENTS) / NUM_RETAIL_EVENTS
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "timestamp": pl.Series([START + step * event for event in range(len(users))], dtype=UTC_TIME),
            "item_id": [f"i{item}" for item in items],
            "event_type": "order",
        }
    )
    return EVENTS.check_rows(frame)


@pytest.fixture(scope="module")
def retail(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    """The log, and its ranking lists."""
    root, events = tmp_path_factory.mktemp("retail"), _make_retail_events()
    build_lists(
        write_dataset(events, root / "dataset"), ListConfig(window=200, eval_negatives=40), out=root / "l"
    )
    return events, root / "l"


def test_popularity_newness_and_recency_are_at_chance(retail: tuple[pl.DataFrame, Path]) -> None:
    events, folder = retail
    lists = read_table(folder / "ranking_lists.parquet", RANKING_LISTS).filter(
        pl.col("protocol") == "contemporaneous", pl.col("split") != "train"
    )
    candidates = lists.with_row_index("row").explode("item_ids", "clicks").with_row_index("place")
    earlier = candidates.select("place", "item_ids", moment="timestamp").join(
        events.select(item_ids="item_id", seen="timestamp"), on="item_ids"
    )
    known = (
        earlier.filter(pl.col("seen") < pl.col("moment"))
        .group_by("place")
        .agg(popularity=pl.len(), newness=pl.col("seen").min(), recency=pl.col("seen").max())
        .sort("place")
    )
    assert len(known) == len(candidates), "every candidate was met before"
    clicks = candidates["clicks"].to_numpy()
    offsets = np.concatenate([[0], lists["item_ids"].list.len().cum_sum().to_numpy()])
    chance = measure_lists(np.zeros(len(clicks), np.float32), clicks, offsets).ndcg
    for name in ("popularity", "newness", "recency"):
        scores = known[name].cast(pl.Int64).rank("dense").cast(pl.Float32).to_numpy()
        assert compute_auc(scores, clicks) == pytest.approx(0.5, abs=0.03), name
        for signed_scores in (scores, -scores):
            gain = measure_lists(signed_scores, clicks, offsets).ndcg - chance
            assert abs(gain.mean()) < 0.01 + 2 * gain.std() / len(gain) ** 0.5, name


def test_negatives_are_no_repeats(retail: tuple[pl.DataFrame, Path]) -> None:
    events, folder = retail
    first_times = events.unique(["user_id", "item_id"], keep="first").select("item_id", met="timestamp")
    lists = read_table(folder / "ranking_lists.parquet", RANKING_LISTS).filter(pl.col("split") == "test")
    candidates = lists.filter(pl.col("protocol") == "contemporaneous").explode("item_ids")
    last_met = first_times.group_by(item_ids="item_id").agg(pl.col("met").max())
    joined = candidates.join(last_met, on="item_ids")
    assert (joined["met"] >= joined["timestamp"]).all(), "somebody turns to it for the first time later on"


def test_the_artifact_says_what_became_of_the_events(retail: tuple[pl.DataFrame, Path]) -> None:
    events, folder = retail
    counts = read_lineage(folder).metrics
    lists = read_table(folder / "ranking_lists.parquet", RANKING_LISTS)
    for split in ("train", "validation", "test"):
        part = f"contemporaneous.{split}"
        made = lists.filter(pl.col("protocol") == "contemporaneous", pl.col("split") == split)
        skipped = {
            name.rsplit(".", 1)[1]: count
            for name, count in counts.items()
            if name.startswith(f"skipped.{part}.")
        }
        assert counts[f"lists.{part}"] == len(made)
        assert counts[f"events.{part}"] == len(made) + sum(skipped.values())
        assert counts[f"candidates_mean.{part}"] == pytest.approx(made["item_ids"].list.len().mean())
        assert counts[f"candidates_min.{part}"] == made["item_ids"].list.len().min()
        assert skipped["repeat"] > 0.5 * counts[f"events.{part}"]
    assert sum(counts[f"events.contemporaneous.{split}"] for split in ("train", "validation", "test")) == len(
        events
    )
