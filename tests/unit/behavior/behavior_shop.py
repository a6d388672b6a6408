"""A tiny shop: four tastes, ten items each; every user buys within one taste."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from contracts.artifacts import create_artifact, write_json, write_table
from contracts.complement_vectors import COMPLEMENTS_FILE
from contracts.dataset import EVENT_SORT_COLUMNS
from contracts.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS

START = datetime(2026, 1, 1, tzinfo=UTC)
TRAIN_END = START + timedelta(days=80)
CUTOFF = START + timedelta(days=100)
NUM_TASTES, PER_TASTE, NUM_USERS, PER_USER = 4, 10, 60, 8
NUM_ITEMS = NUM_TASTES * PER_TASTE
SMALL = {
    "max_history": 12,
    "network": {"dimension": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.1},
    "training": {"epochs": 6, "batch_size": 16, "learning_rate": 1e-2},
    "decoding": {"num_inferred": 5, "num_snapshots": 3},
}


class BehaviorShop(NamedTuple):
    """Artifact folders."""

    dataset: Path
    item_embeddings: Path


def make_shop_items() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [f"i{n:02d}" for n in range(NUM_ITEMS)],
            "title": [f"thing {n}" for n in range(NUM_ITEMS)],
            # The last item of the catalogue comes into being at the training's end.
            "available_at": [START] * (NUM_ITEMS - 1) + [TRAIN_END],
        }
    )


def make_shop_events() -> pl.DataFrame:
    rng = np.random.default_rng(7)
    user_tastes = np.arange(NUM_USERS) % NUM_TASTES
    items_within_taste = np.stack([rng.permutation(PER_TASTE - 1)[:PER_USER] for _ in range(NUM_USERS)])
    item = (user_tastes[:, None] * PER_TASTE + items_within_taste).ravel()
    user = np.repeat(np.arange(NUM_USERS), PER_USER)
    at_s = rng.integers(1, 99 * 86400, size=len(user))
    events = pl.DataFrame(
        {
            "user_id": [f"u{n:02d}" for n in user],
            "item_id": [f"i{n:02d}" for n in item],
            "timestamp": [START + timedelta(seconds=int(s)) for s in at_s],
            "event_type": np.where(rng.random(len(user)) < 0.2, "order", "click"),
        }
    )
    looker_event = {"user_id": "looker", "item_id": "i00", "timestamp": START, "event_type": "impression"}
    return pl.concat([events, pl.DataFrame([looker_event]).select(events.columns)]).sort(EVENT_SORT_COLUMNS)


def make_shop_embeddings(space: str = "space-a") -> pl.DataFrame:
    rng = np.random.default_rng(3)
    vectors_ID = np.repeat(np.eye(NUM_TASTES, 12), PER_TASTE, axis=0) + 0.2 * rng.standard_normal(
        (NUM_ITEMS, 12)
    )
    vectors_ID /= np.linalg.norm(vectors_ID, axis=1, keepdims=True)
    item_numbers = np.arange(NUM_ITEMS)
    codes_IL = np.stack([item_numbers // PER_TASTE, item_numbers % PER_TASTE // 5, item_numbers % 5], axis=1)
    embedding_rows = pl.DataFrame(
        {
            "item_id": make_shop_items()["item_id"],
            "embedding": pl.Series(vectors_ID.tolist(), dtype=pl.List(pl.Float32)),
            "semantic_id": pl.Series(codes_IL.tolist(), dtype=pl.List(pl.Int32)),
        }
    )
    return embedding_rows.with_columns(space=pl.lit(space), event_timestamp=pl.lit(START))


def write_shop(
    folder: Path,
    *,
    events: pl.DataFrame | None = None,
    embeddings: pl.DataFrame | None = None,
    complements: dict[str, np.ndarray] | None = None,
) -> BehaviorShop:
    """Writes both artifacts. `complements`: tensors of complements.safetensors, rows as in the embeddings."""
    shop = BehaviorShop(folder / "dataset", folder / "item_embeddings")
    split_times = {"train_end": TRAIN_END, "validation_end": START + timedelta(days=90), "cutoff": CUTOFF}
    with create_artifact(shop.dataset, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, make_shop_items())
        event_log = make_shop_events() if events is None else events
        write_table(artifact.path / "events.parquet", EVENTS, event_log.sort(EVENT_SORT_COLUMNS))
        write_json(
            artifact.path / "split.json", {name: time.isoformat() for name, time in split_times.items()}
        )
    with create_artifact(
        shop.item_embeddings, kind="item_embeddings", inputs={"dataset": shop.dataset}
    ) as artifact:
        embedding_rows = make_shop_embeddings() if embeddings is None else embeddings
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, embedding_rows)
        if complements:
            save_file(complements, artifact.path / COMPLEMENTS_FILE)
    return shop
