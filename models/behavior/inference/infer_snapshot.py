"""Inference piece by piece: the users of one partition at one snapshot."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from contracts.dataset import select_events_before
from contracts.progress import report_progress
from contracts.shards import Shard
from contracts.table_schema import UTC_TIME
from models.behavior.behavior_model import BehaviorModel, make_decoder
from models.behavior.config import BehaviorConfig
from models.behavior.decoding.shortlist_decoder import build_shortlist_decoder, needs_shortlists
from models.behavior.decoding.top_items import (
    LogSnapshot,
    TopItems,
    mark_unavailable_items,
    mix_trend_prior,
    rank_shortlists,
    rank_whole_catalogue,
)
from models.behavior.inference.finished_pieces import PieceTally, is_piece_finished, name_piece, write_piece
from models.behavior.inference.user_partitions import UserPartitions, count_behaviors_before
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.user_sequences import NO_ITEM, find_distinct_behaviors
from models.behavior.training.recall_metrics import measure_validity

ListMaker = Callable[..., TopItems]
"""`rank_whole_catalogue` or `rank_shortlists`, with what scores bound to it."""


def spread_snapshots(first: datetime, last: datetime, count: int) -> list[datetime]:
    """Spreads moments evenly from `first` to `last`, both included; the last alone when `count` is 1."""
    num_steps = max(count - 1, 1)
    return [last - (last - first) * (num_steps - i) / num_steps for i in range(num_steps + 1)][-count:]


@dataclass(frozen=True)
class SnapshotInference:
    """All that a run of inference reads."""

    catalogue: BehaviorCatalogue
    model: BehaviorModel
    config: BehaviorConfig
    partitions: UserPartitions
    moments: list[datetime]

    def write_missing_pieces(self, folder: Path, shard: Shard) -> list[str]:
        """Writes the shard's pieces that a folder does not hold yet. Returns the names of all its pieces."""
        piece_names: list[str] = []
        for number, as_of in enumerate(self.moments):
            owned_partitions = shard.slice_of(self.partitions.num_partitions)
            owned_names = {partition: name_piece(number, partition) for partition in owned_partitions}
            missing_names = {
                partition: name
                for partition, name in owned_names.items()
                if not is_piece_finished(folder, name)
            }
            if missing_names:
                list_maker = self._make_list_maker(number)
                for partition, name in missing_names.items():
                    write_piece(folder, name, *self._infer_piece(list_maker, partition, as_of))
            piece_names += owned_names.values()
            report_progress("infer behaviors", number + 1, len(self.moments), "snapshots")
        return piece_names

    def _infer_piece(
        self, list_maker: ListMaker, partition: int, as_of: datetime
    ) -> tuple[pl.DataFrame, PieceTally]:
        """INFERRED_BEHAVIORS rows of the partition's users, sorted by user, and their counts."""
        started_s = time.perf_counter()
        events = select_events_before(self.partitions.read_events(partition), as_of)
        logged_behaviors = events.filter(pl.col("event_type") != "impression")
        users = events["user_id"].unique().sort()
        top_items = list_maker(
            LogSnapshot(as_of, find_distinct_behaviors(logged_behaviors, self.catalogue), self.catalogue),
            users,
            max_history=self.model.card.network.max_length - self.config.decoding.num_slots,
            num_items=self.config.decoding.num_inferred,
        )
        table = _tabulate_lists(top_items, users, self.catalogue).with_columns(
            behavior_model_version=pl.lit(self.model.card.version),
            space=pl.lit(self.catalogue.space),
            event_timestamp=pl.lit(as_of).cast(UTC_TIME),
        )
        num_inferred = int(table["inferred_item_ids"].list.len().sum())
        validity = measure_validity(table, logged_behaviors, self.catalogue.item_ids)
        tally = PieceTally(
            rows=len(table),
            users=len(table) if as_of == self.moments[-1] else 0,
            inferred=num_inferred,
            valid=round(validity * num_inferred),
            seconds=time.perf_counter() - started_s,
        )
        return table, tally

    def _make_list_maker(self, snapshot_number: int) -> ListMaker:
        ever, recent = self._behavior_counts
        log_prior_I = mix_trend_prior(ever[snapshot_number], recent[snapshot_number])
        decoder = make_decoder(self.model, self.catalogue, log_prior_I, self.config.decoding)
        if not needs_shortlists(len(self.catalogue)):
            return partial(rank_whole_catalogue, scorer=decoder.compute_confidences)
        is_unavailable_I = mark_unavailable_items(self.catalogue, self.moments[snapshot_number])
        shortlist_decoder = build_shortlist_decoder(decoder, is_unavailable_I)
        return partial(rank_shortlists, scorer=shortlist_decoder.compute_confidences)

    @cached_property
    def _behavior_counts(self) -> tuple[FloatArray, FloatArray]:
        trend_days = self.config.decoding.trend_days
        return count_behaviors_before(self.partitions, self.catalogue, self.moments, trend_days)


def _tabulate_lists(top_items: TopItems, users: pl.Series, catalogue: BehaviorCatalogue) -> pl.DataFrame:
    rows, columns = (top_items.items != NO_ITEM).nonzero()
    lists = (
        pl.DataFrame(
            {
                "row": rows.astype(np.uint32),
                "inferred_item_ids": catalogue.item_ids.gather(top_items.items[rows, columns]),
                "inferred_scores": top_items.scores[rows, columns],
            }
        )
        .group_by("row", maintain_order=True)
        .agg("inferred_item_ids", "inferred_scores")
    )
    # Who has met every available item gets an empty list.
    user_rows = pl.DataFrame({"user_id": users}).with_row_index("row")
    all_users = user_rows.join(lists, on="row", how="left", maintain_order="left")
    return all_users.select("user_id", pl.col("inferred_item_ids", "inferred_scores").fill_null([]))
