"""Generated inputs of a served shop: catalogue, log, vectors, inferred behaviours, rankers with random weights.

Random weights do not change any time. Vectors have the aspects of the default embedding; every user has a full history
and a full list of inferred behaviours.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from contracts.artifacts import new_artifact, write_table, write_text
from contracts.dataset import EVENT_ORDER, Split
from contracts.schema import Table
from contracts.tables import EVENTS, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS
from models.behavior.config import BehaviorConfig
from models.ranker.config import RankerConfig
from models.ranker.encoding import Feed, ItemEncoder
from models.ranker.export import export_ranker, write_golden_rows
from models.ranker.network import Ranker
from models.ranker.spec import DYNAMIC, RankerSpec, TensorSpec

ASPECTS: Final = (256, 128, 32, 64)
"""Of the default embedding: learnt, words, brand, knowledge."""
DIM: Final = sum(ASPECTS)
HISTORY, INFERRED = 50, 20
"""Behaviours that a ranker reads of a user."""
_STORED_INFERRED: Final = BehaviorConfig().decoding.num_inferred
SPACE: Final = "benchmark-space"
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
END: Final = START + timedelta(days=10)
_EVENTS_PER_USER: Final = HISTORY + 10
_CATEGORIES, _BRANDS = 200, 500


class ShopSize(NamedTuple):
    """How much is generated."""

    items: int
    users: int

    @property
    def item_ids(self) -> list[str]:
        """All items."""
        return [f"item_{number}" for number in range(self.items)]

    @property
    def user_ids(self) -> list[str]:
        """All users."""
        return [f"user_{number}" for number in range(self.users)]


FULL, QUICK = ShopSize(20_000, 2_000), ShopSize(2_000, 200)


def write_inputs(root: Path, size: ShopSize) -> tuple[Path, Path, Path]:
    """Writes the artifacts that features are built from: dataset, item embeddings, inferred behaviours."""
    rng = np.random.default_rng(0)
    _write_dataset(root / "dataset", size, rng)
    vectors = rng.standard_normal((size.items, DIM), dtype=np.float32)
    _write("item_embeddings", ITEM_EMBEDDINGS, embeddings(size.item_ids, vectors), root)
    _write("inferred_behaviors", INFERRED_BEHAVIORS, _inferred(size, rng), root)
    return root / "dataset", root / "item_embeddings", root / "inferred_behaviors"


def embeddings(item_ids: list[str], vectors: npt.NDArray[np.float32]) -> pl.DataFrame:
    """Rows of contract ITEM_EMBEDDINGS."""
    codes = np.stack([np.arange(len(item_ids)) // 256, np.arange(len(item_ids)) % 256], axis=1).astype(np.int32)
    return pl.DataFrame({"item_id": item_ids, "embedding": _lists(vectors), "semantic_id": _lists(codes)}).with_columns(
        space=pl.lit(SPACE), event_timestamp=pl.lit(START)
    )


def write_ranker(dataset: Path, out: Path, *, seed: int) -> RankerSpec:
    """Exports a ranker of default size, through the ranker's own export."""
    torch.manual_seed(seed)
    config = RankerConfig(seed=seed, history_length=HISTORY, inferred_length=INFERRED)
    items = pl.read_parquet(dataset / "items.parquet")
    encoder = ItemEncoder.fit(items, training_ids=items["item_id"], num_price_buckets=config.num_price_buckets, dim=DIM)
    network = Ranker(config, encoder.sizes, ASPECTS)
    with new_artifact(out, kind="ranker", inputs={"dataset": dataset}, config=config) as artifact:
        spec = export_ranker(network, encoder, config, space=SPACE, vector_dim=DIM, folder=artifact.path)
        write_golden_rows(network, spec, _golden(spec), artifact.path)
    return spec


def random_tensor(
    tensor: TensorSpec, rng: np.random.Generator, *, batch: int, candidates: int
) -> npt.NDArray[np.int64 | np.float32 | np.float16]:
    """Random values that every vocabulary holds."""
    shape = (batch, *(candidates if size == DYNAMIC else size for size in tensor.dims))
    if tensor.dtype == "int64":
        return rng.integers(2, 4, shape)
    return rng.random(shape, dtype=np.float32).astype(tensor.dtype)


def _golden(spec: RankerSpec) -> Feed:
    rng = np.random.default_rng(1)
    return {tensor.name: random_tensor(tensor, rng, batch=2, candidates=30) for tensor in spec.inputs}


def _write_dataset(out: Path, size: ShopSize, rng: np.random.Generator) -> None:
    number = pl.int_range(size.items)
    items = pl.select(
        item_id=pl.format("item_{}", number),
        title=pl.format("Thing number {}", number),
        category=pl.format("Home > Aisle {}", number % _CATEGORIES),
        brand=pl.format("Brand {}", number % _BRANDS),
        price=(number % 97 + 1).cast(pl.Float64),
    )
    split = Split(train_end=END - timedelta(days=3), validation_end=END - timedelta(days=2), cutoff=END)
    with new_artifact(out, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items)
        write_table(artifact.path / "events.parquet", EVENTS, _events(size, rng).sort(EVENT_ORDER))
        write_text(artifact.path / "split.json", split.model_dump_json())


def _events(size: ShopSize, rng: np.random.Generator) -> pl.DataFrame:
    count = size.users * _EVENTS_PER_USER
    row = pl.int_range(count)
    items = pl.Series(rng.integers(0, size.items, count))
    return pl.select(
        user_id=pl.format("user_{}", row % size.users),
        timestamp=START + pl.duration(seconds=row // size.users * 3600),
        item_id=pl.format("item_{}", items),
        event_type=pl.when(row % 5 == 0).then(pl.lit("order")).otherwise(pl.lit("click")),
    )


def _inferred(size: ShopSize, rng: np.random.Generator) -> pl.DataFrame:
    names = np.array(size.item_ids)
    scores = np.sort(rng.random((size.users, _STORED_INFERRED), dtype=np.float32))[:, ::-1]
    return pl.DataFrame(
        {
            "user_id": size.user_ids,
            "inferred_item_ids": names[rng.integers(0, size.items, (size.users, _STORED_INFERRED))].tolist(),
            "inferred_scores": _lists(np.ascontiguousarray(scores)),
        }
    ).with_columns(
        behavior_model_version=pl.lit("benchmark"),
        space=pl.lit(SPACE),
        event_timestamp=pl.lit(END - timedelta(days=1)),
    )


def _lists(values: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(values, dtype=pl.Array(pl.Series(values.flat[:1]).dtype, values.shape[1])).arr.to_list()


def _write(name: str, table: Table, frame: pl.DataFrame, root: Path) -> None:
    with new_artifact(root / name, kind=name, inputs={}) as artifact:
        write_table(artifact.path / f"{name}.parquet", table, frame)
