"""A log as nasty as logs are: ties, events within one second, the same item twice, and lists among them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import create_artifact, write_table, write_text
from contracts.dataset import EVENT_SORT_COLUMNS, Split
from contracts.table_schema import UTC_TIME
from contracts.tables import EVENTS, ITEMS, RANKING_LISTS
from feature_repo.config import FeatureStoreConfig
from feature_repo.make_sample import write_sample_inputs
from feature_repo.offline.build_features import build_features
from feature_repo.offline.point_in_time_join import join_features

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=1)
NUM_USERS, NUM_EVENTS, NUM_LISTS = 8, 200, 120


class ReplayLog(NamedTuple):
    behaviors: pl.DataFrame
    features: Path
    training_rows: pl.DataFrame


def write_replay_log(root: Path, config: FeatureStoreConfig, *, cutoff: datetime = END) -> ReplayLog:
    """Writes features of what lies before `cutoff`, and the training set of all lists."""
    rng = np.random.default_rng(3)
    events = _draw_moments(rng, NUM_EVENTS).with_columns(
        item_id=pl.Series([f"item_{number}" for number in rng.integers(6, size=NUM_EVENTS)]),
        event_type=pl.Series(rng.choice(["click", "cart", "order", "impression"], NUM_EVENTS)),
    )
    events = EVENTS.validate_rows(events).valid.sort(EVENT_SORT_COLUMNS)
    # Half of the lists at the very moments of events, of which they must not know.
    moments = pl.concat(
        [
            _draw_moments(rng, NUM_LISTS // 2),
            events.sample(NUM_LISTS // 2, seed=1).select("user_id", "timestamp"),
        ]
    )
    whole = _write_features(root, "whole", events, END, config)
    with create_artifact(root / "lists", kind="ranking_lists", inputs={}) as artifact:
        lists = moments.with_columns(
            list_id=pl.format("list_{}", pl.int_range(pl.len())),
            split=pl.lit("train"),
            protocol=pl.lit("impressions"),
            item_ids=pl.lit(["item_0"]),
            clicks=pl.lit([True]),
            orders=pl.lit([False]),
            values=pl.lit([0.0]),
        )
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, lists)
    join_features(root / "lists", whole, config, out=root / "training_set")
    return ReplayLog(
        events.filter(pl.col("event_type") != "impression"),
        _write_features(root, "before_cutoff", events, cutoff, config),
        pl.read_parquet(root / "training_set" / "training_set.parquet"),
    )


def _draw_moments(rng: np.random.Generator, count: int) -> pl.DataFrame:
    seconds, micros = rng.integers(40, size=count), rng.choice([0, 1, 300_000, 999_999], size=count)
    return pl.DataFrame(
        {
            "user_id": [f"user_{number}" for number in rng.integers(NUM_USERS, size=count)],
            "timestamp": [
                START + timedelta(seconds=int(second), microseconds=int(micro))
                for second, micro in zip(seconds, micros, strict=True)
            ],
        },
        schema_overrides={"timestamp": UTC_TIME},
    )


def _write_features(
    root: Path, name: str, events: pl.DataFrame, cutoff: datetime, config: FeatureStoreConfig
) -> Path:
    sample_dataset, item_embeddings, inferred_behaviors = write_sample_inputs(root / name)
    third = (cutoff - START) / 3
    split = Split(train_end=START + third, validation_end=START + 2 * third, cutoff=cutoff)
    with create_artifact(root / name / "log", kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, pl.read_parquet(sample_dataset / "items.parquet"))
        write_table(artifact.path / "events.parquet", EVENTS, events)
        write_text(artifact.path / "split.json", split.model_dump_json())
    build_features(
        root / name / "log", item_embeddings, inferred_behaviors, config, out=root / name / "features"
    )
    return root / name / "features"
