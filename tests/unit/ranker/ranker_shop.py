"""A little shop in which users stay true to one of four tastes, with and without impressions."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import create_artifact, read_table, write_json, write_table
from contracts.dataset import Dataset, Split, read_dataset
from contracts.table_schema import UTC_TIME
from contracts.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS, RANKING_LISTS, TRAINING_SET
from models.ranker.config import ListConfig, RankerConfig
from models.ranker.inputs.item_encoder import RawItems
from models.ranker.lists.build_lists import build_lists

START = datetime(2025, 1, 1, tzinfo=UTC)
NUM_ITEMS, NUM_USERS, NUM_EVENTS, NUM_TASTES, DIM = 60, 40, 900, 4, 8
SPACE = "test-space"


class Inputs(NamedTuple):
    training_set: Path
    dataset: Path
    item_embeddings: Path


class Shop(NamedTuple):
    inputs: Inputs
    lists: Path


def make_items() -> pl.DataFrame:
    number = np.arange(NUM_ITEMS)
    return pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in number],
            "title": [f"thing {n}" for n in number],
            "brand": [None if n % 7 == 0 else f"b{n % 5}" for n in number],
            "category": [f"all > c{n % 10}" for n in number],
            "price": [None if n % 9 == 0 else 5.0 + n for n in number],
        }
    )


def make_events(seed: int = 0) -> pl.DataFrame:
    """One behavior an hour; users like items of their own taste (item number modulo number of tastes)."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, NUM_USERS, NUM_EVENTS)
    faithful = rng.random(NUM_EVENTS) < 0.9
    taste = np.where(faithful, users % NUM_TASTES, rng.integers(0, NUM_TASTES, NUM_EVENTS))
    items = taste + NUM_TASTES * rng.integers(0, NUM_ITEMS // NUM_TASTES, NUM_EVENTS)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in users],
            "timestamp": pl.Series([START + timedelta(hours=n) for n in range(NUM_EVENTS)], dtype=UTC_TIME),
            "item_id": [f"i{n}" for n in items],
            "event_type": np.where(rng.random(NUM_EVENTS) < 0.3, "order", "click"),
            "price": 10.0,
        }
    )
    return EVENTS.check_rows(frame)


def make_requests(behaviors: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Behaviors with the requests that led to them: six items shown, a minute before the click."""
    rng = np.random.default_rng(seed)
    request = [f"r{n}" for n in range(len(behaviors))]
    clicked = behaviors.with_columns(request_id=pl.Series(request))
    others = pl.DataFrame(
        {
            "request_id": np.repeat(request, 5),
            "item_id": [f"i{n}" for n in rng.integers(0, NUM_ITEMS, 5 * len(behaviors))],
        }
    )
    shown = pl.concat([clicked.select("request_id", "item_id"), others]).unique(maintain_order=True)
    impressions = shown.join(
        clicked.select("request_id", "user_id", "timestamp"), on="request_id"
    ).with_columns(
        pl.col("timestamp") - timedelta(minutes=1),
        event_type=pl.lit("impression"),
        position=pl.int_range(pl.len()).over("request_id"),
    )
    return EVENTS.check_rows(pl.concat([clicked, impressions], how="diagonal_relaxed")).sort(
        "timestamp", "user_id", "item_id", "event_type"
    )


def write_dataset(events: pl.DataFrame, out: Path) -> Path:
    split = Split(
        train_end=START + timedelta(hours=int(NUM_EVENTS * 0.7)),
        validation_end=START + timedelta(hours=int(NUM_EVENTS * 0.85)),
        cutoff=START + timedelta(hours=NUM_EVENTS),
    )
    with create_artifact(out, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, make_items())
        write_table(artifact.path / "events.parquet", EVENTS, events)
        write_json(artifact.path / "split.json", split.model_dump(mode="json"))
    return out


def write_embeddings(dataset: Path, out: Path, *, space: str = SPACE) -> Path:
    rng = np.random.default_rng(1)
    centers = np.eye(NUM_TASTES, DIM)
    vectors = centers[np.arange(NUM_ITEMS) % NUM_TASTES] + 0.1 * rng.standard_normal((NUM_ITEMS, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    frame = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(NUM_ITEMS)],
            "embedding": vectors.tolist(),
            "semantic_id": [[n] for n in range(NUM_ITEMS)],
            "space": space,
            "event_timestamp": START,
        }
    )
    with create_artifact(out, kind="item_embeddings", inputs={"dataset": dataset}) as artifact:
        # The last item has no vector: a hole that every step must bear.
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, frame[:-1])
        artifact.labels["space"] = space
    return out


def write_training_set(dataset: Path, lists: Path, out: Path) -> Path:
    """What the feature room joins, by a plain join: histories, and as inferences the taste's first items."""
    rows = read_table(lists / "ranking_lists.parquet", RANKING_LISTS)
    past_behaviors = read_dataset(dataset).behaviors.select(
        "user_id", "event_type", history_item_id="item_id", seen_at="timestamp"
    )
    moments = rows.select("user_id", "timestamp").unique().join(past_behaviors, on="user_id")
    earlier = moments.filter(pl.col("seen_at") < pl.col("timestamp")).sort("seen_at", descending=True)
    histories = earlier.group_by("user_id", "timestamp", maintain_order=True).agg(
        history_as_of=pl.col("seen_at").first(),
        history_item_ids=pl.col("history_item_id").head(10),
        history_event_types=pl.col("event_type").head(10),
        history_ages_s=(pl.col("seen_at").first() - pl.col("seen_at")).dt.total_seconds().head(10),
    )
    taste = pl.col("user_id").str.strip_prefix("u").cast(pl.Int64) % NUM_TASTES
    inferred = [pl.format("i{}", taste + NUM_TASTES * step) for step in range(3)]
    frame = rows.join(histories, on=["user_id", "timestamp"], how="left", maintain_order="left").with_columns(
        inferred_item_ids=pl.concat_list(inferred),
        inferred_scores=pl.lit([0.9, 0.5, 0.2], dtype=pl.List(pl.Float32)),
    )
    with create_artifact(out, kind="training_set", inputs={"lists": lists}) as artifact:
        write_table(artifact.path / "training_set.parquet", TRAINING_SET, frame)
    return out


def make_shop(root: Path, events: pl.DataFrame) -> Shop:
    dataset = write_dataset(events, root / "dataset")
    build_lists(dataset, ListConfig(window=40, eval_negatives=15), out=root / "lists")
    training_set = write_training_set(dataset, root / "lists", root / "training_set")
    embeddings = write_embeddings(dataset, root / "item_embeddings")
    return Shop(Inputs(training_set, dataset, embeddings), root / "lists")


def tiny_config(**changes: object) -> RankerConfig:
    defaults: dict[str, object] = {
        "history_length": 10,
        "inferred_length": 4,
        "dim": 16,
        "batch_size": 64,
        "learning_rate": 5e-3,
        "max_epochs": 3,
        "min_steps": 1,
        "num_threads": 1,
    }
    return RankerConfig.model_validate(defaults | changes)


def make_raw_items(data: Dataset, vectors: pl.DataFrame, item_ids: list[str]) -> RawItems:
    items = pl.DataFrame({"item_id": item_ids}).join(
        data.items, on="item_id", how="left", maintain_order="left"
    )
    vector_by_item = dict(vectors.iter_rows())
    item_vectors = np.array([vector_by_item.get(item, np.zeros(DIM)) for item in item_ids], np.float32)
    return RawItems(
        item_ids,
        items["category"].to_list(),
        items["brand"].to_list(),
        items["price"].to_list(),
        item_vectors,
    )
