"""Builds the offline feature tables: a folder of Parquet files that Feast reads."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from contracts.artifacts import Artifact, new_artifact, read_table
from contracts.dataset import Dataset, before, read_dataset
from contracts.errors import UserError
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS
from contracts.vectors import VECTOR_DTYPE, to_halves
from feature_repo.config import FeatureConfig
from feature_repo.histories import iter_histories


def build_features(
    dataset: Path, item_embeddings: Path, inferred_behaviors: Path, config: FeatureConfig, *, out: Path
) -> None:
    """Writes the offline feature tables of `feature_repo.views`, nothing of which lies at or after the cut-off.

    Raises:
        UserError: the embeddings and the inferred behaviours belong to different spaces, or there are no embeddings.
    """
    data = read_dataset(dataset)
    embeddings = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    if embeddings.is_empty():
        raise UserError(f"no item embedding in {item_embeddings}; run the embed_items step on a catalogue with items")
    inferred = read_table(inferred_behaviors / "inferred_behaviors.parquet", INFERRED_BEHAVIORS)
    space = _one_space(embeddings, inferred)
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings, "inferred_behaviors": inferred_behaviors}
    with new_artifact(out, kind="features", inputs=inputs, config=config) as artifact:
        dim = len(embeddings["embedding"][0])
        artifact.labels |= {"space": space, "vector_dim": str(dim), "cutoff": data.split.cutoff.isoformat()}
        _write_behaviors(artifact, data, config)
        _write_inferred(artifact, before(inferred, data.split.cutoff, "event_timestamp"))
        _write_items(artifact, data)
        _write_knowledge(artifact, embeddings)


def vectors_to_bytes(embeddings: pl.Series) -> pa.Array:
    """Embeddings as raw half floats (`VECTOR_DTYPE`), one binary value each: read online without any parsing.

    Raises:
        UserError: a number is not finite, or too large.
    """
    matrix = to_halves(np.vstack(embeddings.to_list()))
    width = VECTOR_DTYPE.itemsize * matrix.shape[1]
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(embeddings), [None, pa.py_buffer(matrix)])
    return fixed.cast(pa.binary())


def _one_space(embeddings: pl.DataFrame, inferred: pl.DataFrame) -> str:
    spaces = pl.concat([embeddings["space"], inferred["space"]]).unique().sort().to_list()
    if len(spaces) != 1:
        raise UserError(
            f"features must belong to one embedding space, found {spaces or 'none'}; "
            "run embed_items and infer_behaviors again from the same knowledge."
        )
    return str(spaces[0])


def _write_behaviors(artifact: Artifact, data: Dataset, config: FeatureConfig) -> None:
    log = before(data.behaviors, data.split.cutoff)
    if log.is_empty():
        raise UserError("the log holds no click, cart or order before the cut-off: there is no behaviour to build on")
    writer: pq.ParquetWriter | None = None
    rows = 0
    for batch in iter_histories(log, history_length=config.history_length, batch_rows=config.batch_rows):
        table = batch.with_columns(history_as_of="event_timestamp").to_arrow()
        writer = writer or pq.ParquetWriter(artifact.path / "user_behaviors.parquet", table.schema, compression="zstd")
        writer.write_table(table)
        rows += table.num_rows
    assert writer is not None
    writer.close()
    artifact.metrics |= {"user_behavior_rows": rows, "users": log["user_id"].n_unique()}


def _write_inferred(artifact: Artifact, inferred: pl.DataFrame) -> None:
    named = inferred.rename({"space": "inferred_space"}).with_columns(inferred_as_of="event_timestamp")
    frame = named.sort("user_id", "event_timestamp")
    frame.write_parquet(artifact.path / "inferred_behaviors.parquet", compression="zstd")
    artifact.metrics |= {"inferred_rows": len(frame), "users_inferred": frame["user_id"].n_unique()}


def _write_items(artifact: Artifact, data: Dataset) -> None:
    known_from = data.events["timestamp"].min()
    frame = data.items.select(
        "item_id",
        item_category="category",
        item_brand="brand",
        item_price="price",
        event_timestamp=pl.col("available_at").fill_null(known_from),
    ).with_columns(item_as_of="event_timestamp")
    frame.write_parquet(artifact.path / "items.parquet", compression="zstd")
    artifact.metrics["items"] = len(frame)


def _write_knowledge(artifact: Artifact, embeddings: pl.DataFrame) -> None:
    rest = embeddings.select(
        "item_id",
        "event_timestamp",
        item_space="space",
        item_semantic_id=pl.col("semantic_id").cast(pl.List(pl.Int64)),
    )
    table = rest.to_arrow().append_column("item_vector", vectors_to_bytes(embeddings["embedding"]))
    pq.write_table(table, artifact.path / "item_knowledge.parquet", compression="zstd")
    artifact.metrics["item_vectors"] = len(embeddings)
