"""Generated inputs of a served shop: its tables, and rankers with random weights.

Random weights do not change any time. Vectors have the aspects of the default embedding; every user has a
full history and a full list of inferred behaviors.
"""

from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from benchmarks.serving.generated_encoder import write_query_encoder
from benchmarks.shared import generated_tables as tables
from benchmarks.shared.generated_tables import START
from contracts.array_types import FloatArray
from contracts.artifacts import create_artifact
from contracts.dataset import EVENT_SORT_COLUMNS, Split
from contracts.embedding_aspects import QUERY_ENCODER_FOLDER
from contracts.tables import INFERRED_BEHAVIORS
from models.behavior.config import BehaviorConfig
from models.ranker.config import RankerConfig
from models.ranker.export.export_ranker import export_ranker, write_golden_rows
from models.ranker.inputs.input_table import ANY_NUM_CANDIDATES
from models.ranker.inputs.item_encoder import Feed, ItemEncoder
from models.ranker.inputs.ranker_spec import RankerSpec, TensorSpec
from models.ranker.lists.encode_catalogue import NUM_PRICE_BUCKETS
from models.ranker.network.ranker_network import Ranker

ASPECTS: Final = (256, 128, 32, 64)
"""Of the default embedding: learned, words, brand, knowledge."""
DIM: Final = sum(ASPECTS)
HISTORY, INFERRED = 50, 20
"""Behaviors that a ranker reads of a user."""
_STORED_INFERRED: Final = BehaviorConfig().decoding.num_inferred
SPACE: Final = "benchmark-space"
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


def write_shop_inputs(root: Path, size: ShopSize) -> tuple[Path, Path, Path]:
    """Writes the artifacts that features are built from: dataset, item embeddings, inferred behaviors."""
    rng = np.random.default_rng(0)
    split = Split(train_end=END - timedelta(days=3), validation_end=END - timedelta(days=2), cutoff=END)
    events = _make_events(size, rng).sort(EVENT_SORT_COLUMNS)
    tables.write_dataset(root / "dataset", _make_items(size), events, split)
    vectors = rng.standard_normal((size.items, DIM), dtype=np.float32)
    tables.write_embeddings(root, make_two_code_embeddings(size.item_ids, vectors))
    write_query_encoder(root / "item_embeddings" / QUERY_ENCODER_FOLDER, space=SPACE, aspects=ASPECTS)
    tables.write_single_table(root, "inferred_behaviors", INFERRED_BEHAVIORS, _make_inferred(size, rng))
    return root / "dataset", root / "item_embeddings", root / "inferred_behaviors"


def make_two_code_embeddings(item_ids: list[str], vectors: FloatArray) -> pl.DataFrame:
    """Rows of contract ITEM_EMBEDDINGS with semantic ids of two codes."""
    item_numbers = np.arange(len(item_ids))
    codes = np.stack([item_numbers // 256, item_numbers % 256], axis=1)
    return tables.make_embeddings(item_ids, vectors, codes=codes, space=SPACE)


def write_ranker(dataset: Path, out: Path, *, seed: int) -> RankerSpec:
    """Exports a ranker of default size, through the ranker's own export."""
    torch.manual_seed(seed)
    config = RankerConfig(seed=seed, history_length=HISTORY, inferred_length=INFERRED)
    items = pl.read_parquet(dataset / "items.parquet")
    item_encoder = ItemEncoder.fit_vocabularies(
        items, training_ids=items["item_id"], num_price_buckets=NUM_PRICE_BUCKETS, dim=DIM
    )
    network = Ranker(config, item_encoder.table_sizes, ASPECTS)
    with create_artifact(out, kind="ranker", inputs={"dataset": dataset}, config=config) as ranker_artifact:
        spec = export_ranker(
            network, item_encoder, config, space=SPACE, vector_dim=DIM, folder=ranker_artifact.path
        )
        write_golden_rows(network, spec, _make_golden_rows(spec), ranker_artifact.path)
    return spec


def draw_random_tensor(
    tensor: TensorSpec, rng: np.random.Generator, *, batch: int, candidates: int
) -> npt.NDArray[np.int64 | np.float32 | np.float16]:
    """Random values that every vocabulary holds."""
    tensor_shape = (batch, *(candidates if size == ANY_NUM_CANDIDATES else size for size in tensor.dims))
    if tensor.dtype == "int64":
        return rng.integers(2, 4, tensor_shape)
    return rng.random(tensor_shape, dtype=np.float32).astype(tensor.dtype)


def _make_golden_rows(spec: RankerSpec) -> Feed:
    rng = np.random.default_rng(1)
    return {tensor.name: draw_random_tensor(tensor, rng, batch=2, candidates=30) for tensor in spec.inputs}


def _make_items(size: ShopSize) -> pl.DataFrame:
    number = pl.int_range(size.items)
    return pl.select(
        item_id=pl.format("item_{}", number),
        title=pl.format("Thing number {}", number),
        category=pl.format("Home > Aisle {}", number % _CATEGORIES),
        brand=pl.format("Brand {}", number % _BRANDS),
        price=(number % 97 + 1).cast(pl.Float64),
    )


def _make_events(size: ShopSize, rng: np.random.Generator) -> pl.DataFrame:
    num_events = size.users * _EVENTS_PER_USER
    row_number = pl.int_range(num_events)
    item_numbers = pl.Series(rng.integers(0, size.items, num_events))
    return pl.select(
        user_id=pl.format("user_{}", row_number % size.users),
        timestamp=START + pl.duration(seconds=row_number // size.users * 3600),
        item_id=pl.format("item_{}", item_numbers),
        event_type=pl.when(row_number % 5 == 0).then(pl.lit("order")).otherwise(pl.lit("click")),
    )


def _make_inferred(size: ShopSize, rng: np.random.Generator) -> pl.DataFrame:
    shape = (size.users, _STORED_INFERRED)
    item_ids = np.array(size.item_ids)
    descending_scores = np.sort(rng.random(shape, dtype=np.float32))[:, ::-1]
    return pl.DataFrame(
        {
            "user_id": size.user_ids,
            "inferred_item_ids": item_ids[rng.integers(0, size.items, shape)].tolist(),
            "inferred_scores": tables.make_list_column(descending_scores),
        }
    ).with_columns(
        behavior_model_version=pl.lit("benchmark"),
        space=pl.lit(SPACE),
        event_timestamp=pl.lit(END - timedelta(days=1)),
    )
