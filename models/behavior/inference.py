"""Inference piece by piece: the users of one cell at one snapshot."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import polars as pl

from contracts.dataset import before
from contracts.schema import UTC_TIME
from contracts.shards import Shard
from models.behavior.catalogue import Catalogue, FloatArray
from models.behavior.cells import Cells, count_behaviors
from models.behavior.choice import Choice
from models.behavior.config import BehaviorConfig
from models.behavior.histories import EMPTY, distinct_behaviors
from models.behavior.metrics import validity
from models.behavior.model import BehaviorModel, make_decoder
from models.behavior.parts import Tally, is_done, part_name, write_part
from models.behavior.recommend import Moment, TopItems, smoothed_prior, top_items, top_of_shortlists, unavailable
from models.behavior.shortlist import make_shortlists

Ranker = Callable[..., TopItems]
"""`top_items` or `top_of_shortlists`, knowing what scores."""


def snapshots(first: datetime, last: datetime, count: int) -> list[datetime]:
    """`count` moments from `first` to `last`, evenly spread, both included; the last alone when `count` is 1."""
    steps = max(count - 1, 1)
    return [last - (last - first) * (steps - i) / steps for i in range(steps + 1)][-count:]


@dataclass(frozen=True)
class Inference:
    """All that a run of inference reads."""

    catalogue: Catalogue
    model: BehaviorModel
    config: BehaviorConfig
    cells: Cells
    moments: list[datetime]

    def run(self, folder: Path, shard: Shard) -> list[str]:
        """Writes the shard's pieces that `folder` does not hold yet; returns the names of all that are its own."""
        names: list[str] = []
        for number, as_of in enumerate(self.moments):
            owned = {cell: part_name(number, cell) for cell in shard.part_of(self.cells.number)}
            missing = {cell: name for cell, name in owned.items() if not is_done(folder, name)}
            ranker = self._ranker(number) if missing else None
            for cell, name in missing.items():
                assert ranker is not None
                write_part(folder, name, *self._infer(ranker, cell, as_of))
            names += owned.values()
        return names

    def _infer(self, ranker: Ranker, cell: int, as_of: datetime) -> tuple[pl.DataFrame, Tally]:
        started = time.perf_counter()
        events = before(self.cells.read(cell), as_of)
        table = infer_snapshot(events, self.catalogue, self.model, ranker, self.config, as_of=as_of)
        inferred = int(table["inferred_item_ids"].list.len().sum())
        logged = events.filter(pl.col("event_type") != "impression")
        tally = Tally(
            rows=len(table),
            users=len(table) if as_of == self.moments[-1] else 0,
            inferred=inferred,
            valid=round(validity(table, logged, self.catalogue.item_ids) * inferred),
            seconds=time.perf_counter() - started,
        )
        return table, tally

    def _ranker(self, number: int) -> Ranker:
        ever, recent = self._counts
        prior = smoothed_prior(ever[number], recent[number])
        decoder = make_decoder(self.model, self.catalogue, prior, self.config.decoding)
        if len(self.catalogue) <= self.config.decoding.max_exact_items:
            return partial(top_items, scorer=decoder.confidences)
        shortlists = make_shortlists(decoder, unavailable(self.catalogue, self.moments[number]))
        return partial(top_of_shortlists, shortlister=shortlists.confidences)

    @cached_property
    def _counts(self) -> tuple[FloatArray, FloatArray]:
        return count_behaviors(self.cells, self.catalogue, self.moments, self.config.decoding.trend_days)


def infer_snapshot(
    events: pl.DataFrame,
    catalogue: Catalogue,
    model: BehaviorModel,
    ranker: Ranker,
    config: BehaviorConfig,
    *,
    as_of: datetime,
) -> pl.DataFrame:
    """Infers for every user of `events`, all of which are before `as_of`, by a ranker of that moment.

    Returns:
        INFERRED_BEHAVIORS rows, sorted by user.
    """
    behaviors = distinct_behaviors(events.filter(pl.col("event_type") != "impression"), catalogue)
    users = events["user_id"].unique().sort()
    found = ranker(
        Moment(as_of, behaviors, catalogue),
        users,
        max_history=model.card.network.max_length - config.decoding.num_slots,
        num_items=config.decoding.num_inferred,
        choice=Choice(config.decoding.temperature, config.decoding.diversity, config.seed),
    )
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
