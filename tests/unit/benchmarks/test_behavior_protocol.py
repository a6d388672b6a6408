"""Hidden behaviors, slices, metrics and the paired ratio."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.behavior.hidden_behaviors import (
    MIN_VISIBLE,
    average_metric,
    hide_behaviors,
    measure_lists,
    read_task,
    write_visible,
)
from benchmarks.behavior.quality import bootstrap_ratio
from contracts.dataset import Dataset, Split, read_dataset
from contracts.tables import EVENTS, ITEMS

START = datetime(2026, 1, 1, tzinfo=UTC)
NUM_ITEMS = 30


def whole(num_users: int = 40, per_user: int = 8) -> Dataset:
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(NUM_ITEMS)[:per_user] for _ in range(num_users)])
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n // per_user:02d}" for n in range(num_users * per_user)],
            "item_id": [f"i{n:02d}" for n in items],
            "timestamp": [START + timedelta(hours=3 * n + n % 2) for n in range(num_users * per_user)],
            "event_type": "order",
        }
    )
    again = frame.filter(pl.col("user_id") == "u00").with_columns(pl.col("timestamp") + timedelta(days=90))
    absent = [
        pl.lit(None).cast(dtype).alias(name)
        for name, dtype in EVENTS.schema.items()
        if name not in frame.columns
    ]
    events = pl.concat([frame, again]).with_columns(absent).select(EVENTS.schema.names()).cast(EVENTS.schema)
    ids = [f"i{n:02d}" for n in range(NUM_ITEMS)]
    items_frame = pl.DataFrame({"item_id": ids, "title": ids})
    blank = [
        pl.lit(None).cast(dtype).alias(name)
        for name, dtype in ITEMS.schema.items()
        if name not in items_frame
    ]
    end = START + timedelta(days=400)
    split = Split(train_end=end, validation_end=end, cutoff=end)
    return Dataset(items_frame.with_columns(blank).cast(ITEMS.schema), events.sort("timestamp"), split)


def distinct(data: Dataset) -> pl.DataFrame:
    return (
        data.events.group_by("user_id", "item_id").agg(pl.col("timestamp").min()).sort("user_id", "timestamp")
    )


def test_enough_stays_visible_and_nothing_hidden_is_seen(tmp_path: Path) -> None:
    data = whole()
    hidden = hide_behaviors(distinct(data), seed=0)
    write_visible(data, hidden, out=tmp_path / "dataset")
    visible = read_dataset(tmp_path / "dataset").events
    assert visible.join(hidden, on=["user_id", "item_id"], how="semi").is_empty()
    assert visible.group_by("user_id").agg(pl.col("item_id").n_unique())["item_id"].min() >= MIN_VISIBLE
    assert len(hidden) == pytest.approx(96, abs=25)
    assert hidden.equals(hide_behaviors(distinct(data), seed=0))


def test_metrics_of_known_lists(tmp_path: Path) -> None:
    data = whole()
    hidden = distinct(data).group_by("user_id", maintain_order=True).tail(2)
    write_visible(data, hidden, out=tmp_path / "dataset")
    task = read_task("made up", tmp_path / "dataset", hidden, seed=0)
    lists = np.full((len(task.users), 50), -1, dtype=np.int64)
    first = task.hidden.group_by("user").agg(pl.col("item").first()).sort("user")
    lists[first["user"].to_numpy(), 1] = first["item"].to_numpy()
    scores = measure_lists(task, lists)
    assert average_metric(scores, task, validation=False) == pytest.approx(0.5)
    assert np.isnan(scores["nonhead"]["recall10"]).any()


def test_ratio_of_equal_models_is_one_and_of_a_better_one_is_surely_above() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random(400)
    assert bootstrap_ratio(theirs, theirs).value == 1.0
    better = bootstrap_ratio(theirs + 0.1, theirs)
    assert better.value - 3 * better.sd > 1.1
    assert better.sd > 0
