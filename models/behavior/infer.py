"""The step that infers the behaviours which the log does not hold."""

import time
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from contracts.artifacts import new_artifact, write_table
from contracts.dataset import Dataset, before, read_dataset
from contracts.errors import UserError
from contracts.schema import UTC_TIME
from contracts.tables import INFERRED_BEHAVIORS
from models.behavior.catalogue import Catalogue, read_catalogue
from models.behavior.config import BehaviorConfig
from models.behavior.histories import EMPTY, distinct_behaviors
from models.behavior.metrics import validity
from models.behavior.model import BehaviorModel, load_model, make_decoder
from models.behavior.recommend import Moment, TopItems, top_items
from models.behavior.similarity import Neighbors, nearest_neighbors


def infer_behaviors(
    dataset: Path, item_embeddings: Path, behavior_model: Path, config: BehaviorConfig, *, out: Path
) -> None:
    """Writes `inferred_behaviors.parquet`: one row per user and snapshot, for every user in the log before it.

    A user without a behaviour (only impressions, or only items without an embedding) gets what the model expects of a
    user it knows nothing of: mostly what is popular at that moment.

    Args:
        dataset: dataset artifact.
        item_embeddings: artifact of the embed step, in the model's space.
        behavior_model: artifact of `train_behavior_model`.
        config: the settings; network and training are the model's own.
        out: the artifact to write.

    Raises:
        UserError: model and embeddings are of different spaces, or the model has too few positions for the slots.
    """
    log = read_dataset(dataset)
    catalogue = read_catalogue(log.items, item_embeddings)
    model = load_model(behavior_model, catalogue)
    _refuse_crowding(config.decoding.num_slots, model.card.network.max_length)
    neighbors = nearest_neighbors(catalogue.vectors, config.decoding.similarity_neighbors)
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings, "behavior_model": behavior_model}
    with new_artifact(out, kind="inferred_behaviors", inputs=inputs, config=config) as artifact:
        started = time.perf_counter()
        moments = snapshots(model.card.trained_until, log.split.cutoff, config.decoding.num_snapshots)
        frames = [infer_snapshot(log, catalogue, model, neighbors, config, as_of=as_of) for as_of in moments]
        table = pl.concat(frames)
        write_table(artifact.path / "inferred_behaviors.parquet", INFERRED_BEHAVIORS, table)
        artifact.metrics |= {
            "rows": len(table),
            "users": table["user_id"].n_unique(),
            "catalogue_validity": validity(table, log.behaviors, catalogue.item_ids),
            "users_per_s": len(table) / (time.perf_counter() - started),
        }
        artifact.labels |= {"behavior_model_version": model.card.version, "space": catalogue.space}


def _refuse_crowding(num_slots: int, max_length: int) -> None:
    if num_slots >= max_length:
        raise UserError(
            f"behavior.decoding.num_slots {num_slots} leaves no position for behaviours: the model has {max_length}; "
            f"give at most {max_length - 1} or train a model with a larger max_history"
        )


def snapshots(first: datetime, last: datetime, count: int) -> list[datetime]:
    """`count` moments from `first` to `last`, evenly spread, both included; the last alone when `count` is 1."""
    steps = max(count - 1, 1)
    return [last - (last - first) * (steps - i) / steps for i in range(steps + 1)][-count:]


def infer_snapshot(
    log: Dataset,
    catalogue: Catalogue,
    model: BehaviorModel,
    neighbors: Neighbors,
    config: BehaviorConfig,
    *,
    as_of: datetime,
) -> pl.DataFrame:
    """Infers for every user in the log before `as_of`, from nothing but what is before it.

    Returns:
        INFERRED_BEHAVIORS rows, sorted by user.
    """
    behaviors = distinct_behaviors(before(log.behaviors, as_of), catalogue)
    users = before(log.events, as_of)["user_id"].unique().sort()
    moment = Moment(as_of, behaviors, catalogue)
    weight = model.card.similarity_weight
    decoder = make_decoder(model.denoiser, moment, config.decoding, neighbors=neighbors, similarity_weight=weight)
    num_items = config.decoding.num_inferred
    max_visible = model.card.network.max_length - config.decoding.num_slots
    found = top_items(moment, users, decoder.confidences, max_history=max_visible, num_items=num_items)
    return _as_table(found, users, catalogue).with_columns(
        behavior_model_version=pl.lit(model.card.version),
        space=pl.lit(catalogue.space),
        event_timestamp=pl.lit(as_of).cast(UTC_TIME),
    )


def _as_table(found: TopItems, users: pl.Series, catalogue: Catalogue) -> pl.DataFrame:
    row, column = (found.items != EMPTY).nonzero()
    lists = (
        pl.DataFrame(
            {
                "row": row.astype(np.uint32),
                "inferred_item_ids": catalogue.item_ids.gather(found.items[row, column]),
                "inferred_scores": found.scores[row, column],
            }
        )
        .group_by("row", maintain_order=True)
        .agg("inferred_item_ids", "inferred_scores")
    )
    all_users = (
        pl.DataFrame({"user_id": users}).with_row_index("row").join(lists, on="row", how="left", maintain_order="left")
    )
    return all_users.select("user_id", pl.col("inferred_item_ids", "inferred_scores").fill_null([]))
