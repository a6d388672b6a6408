"""Builds the offline feature tables: a folder of Parquet files that Feast reads."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from contracts.artifacts import Artifact, create_artifact, read_table
from contracts.dataset import Dataset, read_dataset, select_events_before
from contracts.embedding_aspects import QUERY_ENCODER_FOLDER
from contracts.errors import UserError
from contracts.half_vectors import VECTOR_DTYPE, convert_to_half
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS
from feature_repo.config import FeatureStoreConfig
from feature_repo.offline.behavior_histories import iter_histories


def build_features(
    dataset: Path, item_embeddings: Path, inferred_behaviors: Path, config: FeatureStoreConfig, *, out: Path
) -> None:
    """Writes the offline feature tables of `feature_repo.feature_views`.

    No event at or after the cut-off is read. A snapshot of inferred behaviors at the cut-off itself is kept:
    it was made from what lies strictly before, and it is the newest that serving can have.

    Raises:
        UserError: the embeddings and the inferred behaviors belong to different spaces, or there are no
            embeddings.
    """
    data = read_dataset(dataset)
    embeddings = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    if embeddings.is_empty():
        raise UserError(
            f"no item embedding in {item_embeddings}; run the embed_items step on a catalogue with items"
        )
    inferred = read_table(inferred_behaviors / "inferred_behaviors.parquet", INFERRED_BEHAVIORS)
    space = _require_one_space(embeddings, inferred)
    inputs = {
        "dataset": dataset,
        "item_embeddings": item_embeddings,
        "inferred_behaviors": inferred_behaviors,
    }
    with create_artifact(out, kind="features", inputs=inputs, config=config) as artifact:
        dim = len(embeddings["embedding"][0])
        artifact.labels |= {"space": space, "vector_dim": str(dim), "cutoff": data.split.cutoff.isoformat()}
        _write_behaviors(artifact, data, config)
        _write_inferred(artifact, inferred.filter(pl.col("event_timestamp") <= data.split.cutoff))
        _write_items(artifact, data)
        _write_knowledge(artifact, embeddings)
        if (item_embeddings / QUERY_ENCODER_FOLDER).is_dir():
            # The store places queries where its vectors are: both come from here.
            shutil.copytree(item_embeddings / QUERY_ENCODER_FOLDER, artifact.path / QUERY_ENCODER_FOLDER)


def pack_vectors(embeddings: pl.Series) -> pa.Array:
    """Packs embeddings as raw half floats (`VECTOR_DTYPE`), one binary value each: no parsing online.

    Raises:
        UserError: a number is not finite, or too large.
    """
    matrix = convert_to_half(np.vstack(embeddings.to_list()))
    vector_bytes = VECTOR_DTYPE.itemsize * matrix.shape[1]
    # The matrix itself is the buffer: no Python object for a vector.
    fixed_size_blobs = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(vector_bytes), len(embeddings), [None, pa.py_buffer(matrix)]
    )
    return fixed_size_blobs.cast(pa.binary())


def _require_one_space(embeddings: pl.DataFrame, inferred: pl.DataFrame) -> str:
    space_names = pl.concat([embeddings["space"], inferred["space"]]).unique().sort().to_list()
    if len(space_names) != 1:
        raise UserError(
            f"features must belong to one embedding space, found {space_names or 'none'}; "
            "run embed_items and infer_behaviors again from the same knowledge."
        )
    return str(space_names[0])


def _write_behaviors(artifact: Artifact, data: Dataset, config: FeatureStoreConfig) -> None:
    log = select_events_before(data.behaviors, data.split.cutoff)
    if log.is_empty():
        raise UserError(
            "the log holds no click, cart or order before the cut-off: there is no behavior to build on"
        )
    writer: pq.ParquetWriter | None = None  # opened with the first batch, which brings the schema
    num_rows = 0
    for batch in iter_histories(log, history_length=config.history_length, batch_rows=config.batch_rows):
        table = batch.with_columns(history_as_of="event_timestamp").to_arrow()
        writer = writer or pq.ParquetWriter(
            artifact.path / "user_behaviors.parquet", table.schema, compression="zstd"
        )
        writer.write_table(table)
        num_rows += table.num_rows
    assert writer is not None
    writer.close()
    artifact.metrics |= {"user_behavior_rows": num_rows, "users": log["user_id"].n_unique()}


def _write_inferred(artifact: Artifact, inferred: pl.DataFrame) -> None:
    renamed_frame = inferred.rename({"space": "inferred_space"}).with_columns(
        inferred_as_of="event_timestamp"
    )
    sorted_frame = renamed_frame.sort("user_id", "event_timestamp")
    sorted_frame.write_parquet(artifact.path / "inferred_behaviors.parquet", compression="zstd")
    artifact.metrics |= {
        "inferred_rows": len(sorted_frame),
        "users_inferred": sorted_frame["user_id"].n_unique(),
    }


def _write_items(artifact: Artifact, data: Dataset) -> None:
    # An item without a date was there before the log began.
    first_event_time = data.events["timestamp"].min()
    item_features = data.items.select(
        "item_id",
        item_category="category",
        item_brand="brand",
        item_price="price",
        event_timestamp=pl.col("available_at").fill_null(first_event_time),
    ).with_columns(item_as_of="event_timestamp")
    item_features.write_parquet(artifact.path / "items.parquet", compression="zstd")
    artifact.metrics["items"] = len(item_features)


def _write_knowledge(artifact: Artifact, embeddings: pl.DataFrame) -> None:
    id_columns = embeddings.select(
        "item_id",
        "event_timestamp",
        item_space="space",
        item_semantic_id=pl.col("semantic_id").cast(pl.List(pl.Int64)),
    )
    table = id_columns.to_arrow().append_column("item_vector", pack_vectors(embeddings["embedding"]))
    pq.write_table(table, artifact.path / "item_knowledge.parquet", compression="zstd")
    artifact.metrics["item_vectors"] = len(embeddings)
