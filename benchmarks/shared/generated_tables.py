"""Generated tables: what is in them does not change the time or memory that is measured."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.array_types import FloatArray, IntArray
from contracts.artifacts import create_artifact, write_table, write_text
from contracts.dataset import Split
from contracts.table_schema import Table
from contracts.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS

START = datetime(2026, 1, 1, tzinfo=UTC)


def number_item_ids(num_items: int) -> list[str]:
    """Item ids in the order of their numbers."""
    return [f"i{number:05d}" for number in range(num_items)]


def click_items_once(items: pl.DataFrame) -> pl.DataFrame:
    """One event an item: enough to make a vocabulary, where lists stand for the log."""
    return items.select("item_id", user_id=pl.lit("u"), timestamp=pl.lit(START), event_type=pl.lit("click"))


def write_dataset(folder: Path, items: pl.DataFrame, events: pl.DataFrame, split: Split) -> None:
    """Writes a dataset artifact."""
    with create_artifact(folder, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items)
        write_table(artifact.path / "events.parquet", EVENTS, events)
        write_text(artifact.path / "split.json", split.model_dump_json())


def split_at(moment: datetime) -> Split:
    """A split whose training part ends with the log."""
    return Split(train_end=moment, validation_end=moment, cutoff=moment)


def write_single_table(folder: Path, name: str, schema: Table, rows: pl.DataFrame) -> None:
    """Writes an artifact that holds one table, both called `name`."""
    with create_artifact(folder / name, kind=name, inputs={}) as artifact:
        write_table(artifact.path / f"{name}.parquet", schema, rows)


def write_embeddings(folder: Path, rows: pl.DataFrame) -> None:
    """Writes the artifact `item_embeddings` into a folder."""
    write_single_table(folder, "item_embeddings", ITEM_EMBEDDINGS, rows)


def make_embeddings(
    item_ids: list[str], vectors: FloatArray, *, codes: IntArray | None = None, space: str = "random"
) -> pl.DataFrame:
    """Rows of contract ITEM_EMBEDDINGS; without `codes` the semantic id is the number of the item."""
    if codes is None:
        codes = np.arange(len(item_ids))[:, None]
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "embedding": make_list_column(vectors),
            "semantic_id": make_list_column(codes.astype(np.int32)),
        }
    ).with_columns(space=pl.lit(space), event_timestamp=pl.lit(START))


def make_list_column(values: npt.NDArray[Any]) -> pl.Series:
    """A column of lists, one for each row of a matrix."""
    return pl.Series(np.ascontiguousarray(values)).arr.to_list()


def normalize_rows(vectors: FloatArray) -> FloatArray:
    """Vectors of unit norm."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def write_catalogue(folder: Path, num_items: int, *, num_categories: int = 50) -> Path:
    """A dataset of distinct products, evenly in categories, without a log: distillation reads none."""
    item_number = pl.int_range(num_items, eager=True)
    number_text = item_number.cast(pl.String())
    filler_text = "It is made for every day and comes in several colors. " * 8
    items = pl.DataFrame(
        {
            "item_id": "i" + number_text,
            "title": "Useful thing number " + number_text,
            "brand": "Brand " + (item_number % 200).cast(pl.String()),
            "category": "Things > Kind " + (item_number % num_categories).cast(pl.String()),
            "description": "Thing " + number_text + ". " + filler_text,
            "price": None,
            "available_at": None,
        },
        schema=ITEMS.schema,
    )
    with create_artifact(folder, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items)
    return folder
