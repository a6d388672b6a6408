"""Ranking lists: what rankers are trained and measured on.

Two label regimes, named as what they are:
- `impressions`: a request, what it showed, what was clicked and ordered.
- `contemporaneous` (and its slices `within_cold`, `within_unseen`): a behavior against sampled negatives of
  its own time. Its labels say which candidate the user chose, not what a shown item would have earned.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, IntArray
from contracts.artifacts import create_artifact, write_table
from contracts.dataset import Dataset, Split, read_dataset, select_events_before
from contracts.errors import UserError
from contracts.tables import CONTEXT_COLUMNS, KEPT_UNITS, RANKING_LISTS
from models.ranker.config import ListConfig
from models.ranker.lists.negative_sampling import (
    NO_ITEM,
    IndexedLog,
    TargetConditions,
    check_targets,
    draw_negatives,
    index_log,
    measure_keep_chances,
)

TRAIN, VALIDATION, TEST = "train", "validation", "test"
COLD_EVENTS = 5
"""An item is cold with fewer training events than this: too few to learn an id from."""
_SEED = 0
"""Of the candidate draws. It is fixed, so that lists of the same log can be compared."""


class SampledLists(NamedTuple):
    """Lists of one part and protocol, and what became of the events that they are made from."""

    lists: pl.DataFrame
    events: int
    """Behaviors of the part with the protocol's items."""
    skipped: dict[str, int]
    """Reason -> events that became no list."""


def build_lists(dataset: Path, config: ListConfig, *, out: Path) -> None:
    """Writes `ranking_lists.parquet` for every part of the log and every protocol that the log allows.

    Raises:
        UserError: no training list can be made.
    """
    data = read_dataset(dataset)
    sampled_lists = _build_sampled_lists(data, config)
    lists = pl.concat([*_build_impression_lists(data, config), *(sample.lists for sample in sampled_lists)])
    if not (lists["split"] == TRAIN).any():
        raise UserError(
            "no training list can be made: before the split's train_end no user did two things, or nobody "
            "else met the same items; give a longer log or a later data.split.train"
        )
    with create_artifact(out, kind="ranking_lists", inputs={"dataset": dataset}, config=config) as artifact:
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, lists)
        artifact.metrics |= _count_lists(lists, sampled_lists)


def make_split_conditions(split: Split) -> dict[str, pl.Expr]:
    """Part of the log -> the condition on `timestamp` that makes it."""
    time = pl.col("timestamp")
    return {
        TRAIN: time < split.train_end,
        VALIDATION: (time >= split.train_end) & (time < split.validation_end),
        TEST: (time >= split.validation_end) & (time < split.cutoff),
    }


def _build_impression_lists(data: Dataset, config: ListConfig) -> list[pl.DataFrame]:
    if not data.has_impressions:
        return []
    # Each part labels its requests with its own events only: an order after train_end must not reach a
    # training list.
    lists = []
    for split, condition in make_split_conditions(data.split).items():
        lists.append(_cap_lists(_label_requests(data.events.filter(condition), split), split, config))
    return lists


def _label_requests(events: pl.DataFrame, split: str) -> pl.DataFrame:
    """Each request with what it showed, and what was clicked and ordered of it."""
    request_events = events.filter(pl.col("request_id").is_not_null())
    event_type, shown_item = pl.col("event_type"), ["request_id", "item_id"]
    revenue = pl.col("price") * KEPT_UNITS
    labels = request_events.group_by(shown_item).agg(
        click=event_type.is_in(["click", "cart", "order"]).any(),
        # What came back whole was no order.
        order=((event_type == "order") & (KEPT_UNITS > 0)).any(),
        value=revenue.filter(event_type == "order").sum(),
    )
    impressions = request_events.filter(event_type == "impression").unique(
        shown_item, keep="first", maintain_order=True
    )
    shown_items = impressions.join(labels, on=shown_item).sort("request_id", "position", "item_id")
    lists = shown_items.group_by("request_id", maintain_order=True).agg(
        user_id=pl.col("user_id").first(),
        timestamp=pl.col("timestamp").min(),
        item_ids=pl.col("item_id"),
        clicks=pl.col("click"),
        orders=pl.col("order"),
        values=pl.col("value").cast(pl.Float32),
        **{name: pl.col(name).drop_nulls().first() for name in CONTEXT_COLUMNS},
        propensities=pl.col("propensity"),
    )
    # A page of which not every propensity is known is one without.
    has_propensities = pl.col("propensities").list.eval(pl.element().is_not_null()).list.all()
    lists = lists.with_columns(propensities=pl.when(has_propensities).then("propensities"))
    named_lists = _name_lists(lists, pl.col("request_id"), split=split, protocol="impressions")
    return named_lists.sort("timestamp", "list_id")


def _name_lists(lists: pl.DataFrame, key: pl.Expr, *, split: str, protocol: str) -> pl.DataFrame:
    """Adds part, protocol and an id to lists; `key` tells them apart within both."""
    list_id = pl.concat_str(pl.lit(f"{protocol}/{split}/"), key)
    return RANKING_LISTS.check_rows(
        lists.with_columns(list_id=list_id, split=pl.lit(split), protocol=pl.lit(protocol))
    )


def _count_lists(lists: pl.DataFrame, sampled_lists: list[SampledLists]) -> dict[str, float]:
    """How many lists there are, how long they are, and of how many events, by protocol and part."""
    counts: dict[str, float] = {}
    num_candidates = pl.col("item_ids").list.len()
    list_counts = lists.group_by("protocol", "split").agg(
        pl.len(), num_candidates.mean().alias("mean"), num_candidates.min().alias("min")
    )
    for protocol, split, num_lists, mean, least in list_counts.sort("protocol", "split").iter_rows():
        part = f"{protocol}.{split}"
        counts |= {
            f"lists.{part}": num_lists,
            f"candidates_mean.{part}": mean,
            f"candidates_min.{part}": least,
        }
    for sample in sampled_lists:
        if len(sample.lists):
            protocol, split = sample.lists.select("protocol", "split").row(0)
            counts[f"events.{protocol}.{split}"] = sample.events
            for reason, num_events in sample.skipped.items():
                counts[f"skipped.{protocol}.{split}.{reason}"] = num_events
    return counts


def _build_sampled_lists(data: Dataset, config: ListConfig) -> list[SampledLists]:
    behaviors = data.behaviors
    log = index_log(behaviors)
    train_stop = len(select_events_before(behaviors, data.split.train_end))
    validation_stop = len(select_events_before(behaviors, data.split.validation_end))
    row_ranges = {VALIDATION: (train_stop, validation_stop), TEST: (validation_stop, len(behaviors))}
    train_events = np.bincount(log.items[:train_stop], minlength=len(log.item_names))
    items_by_protocol = {
        "contemporaneous": np.ones(len(train_events), bool),
        "within_cold": train_events < COLD_EVENTS,
        "within_unseen": train_events == 0,
    }
    lists = []
    if not data.has_impressions:
        train_rows = np.arange(train_stop)
        lists.append(
            _sample_lists(behaviors, log, train_rows, config, split=TRAIN, protocol="contemporaneous")
        )
    # A slice draws its negatives from its own items, so that cold competes with cold.
    for split, (start, stop) in row_ranges.items():
        for protocol, is_allowed_item in items_by_protocol.items():
            rows = start + np.flatnonzero(is_allowed_item[log.items[start:stop]])
            sample = _sample_lists(behaviors, log, rows, config, split=split, protocol=protocol)
            capped_lists = _cap_lists(sample.lists, split, config)
            skipped = sample.skipped | {"over_the_cap": len(sample.lists) - len(capped_lists)}
            lists.append(sample._replace(lists=capped_lists, skipped=skipped))
    return lists


def _sample_lists(
    behaviors: pl.DataFrame,
    log: IndexedLog,
    rows: IntArray,
    config: ListConfig,
    *,
    split: str,
    protocol: str,
) -> SampledLists:
    """Lists of all targets among `rows` against negatives of the same targets."""
    conditions = check_targets(log, rows)
    # Whatever may be a target may be a negative, and nothing else may.
    pool = rows[np.logical_and.reduce(conditions)]
    num_negatives = config.train_negatives if split == TRAIN else config.eval_negatives
    drawn = draw_negatives(log, pool, pool, window=config.window, count=num_negatives, seed=_SEED)
    has_negative = (drawn.items != NO_ITEM).any(axis=1)
    # The lottery has a stream of its own, so that it does not depend on how many negatives were drawn.
    keep_chances = measure_keep_chances(log, pool, pool, drawn)
    is_kept = has_negative & (np.random.default_rng(_SEED + 2).random(len(pool)) < keep_chances)
    skipped = _count_failures(conditions) | {
        "no_negative": int((~has_negative).sum()),
        "frequent_item": int((has_negative & ~is_kept).sum()),
    }
    targets, negatives = pool[is_kept], drawn.items[is_kept]
    candidates = np.concatenate([log.items[targets][:, None], negatives], axis=1)
    # The target's place is drawn too: a ranker that keeps the given order must not look good. It has a stream
    # of its own, so that places do not depend on the negatives.
    shuffled_columns = np.random.default_rng(_SEED + 1).random(candidates.shape).argsort(axis=1)
    candidates = np.take_along_axis(candidates, shuffled_columns, axis=1)
    split_behaviors = behaviors[rows[0] : rows[-1] + 1] if len(rows) else behaviors[:0]
    target_events = behaviors[targets].join(
        _sum_orders(split_behaviors), on=["user_id", "item_id"], how="left", maintain_order="left"
    )
    lists = _assemble_lists(target_events, log, candidates, is_target=shuffled_columns == 0)
    list_number = pl.col("row").cast(pl.String).str.zfill(9)
    named_lists = _name_lists(lists, list_number, split=split, protocol=protocol)
    return SampledLists(named_lists, len(rows), skipped)


def _count_failures(conditions: TargetConditions) -> dict[str, int]:
    """Reason -> rows that are no target, each counted once, under the first reason that holds."""
    is_repeat = ~conditions.is_first_time
    is_new_item = ~is_repeat & ~conditions.is_known_item
    is_new_user = ~is_repeat & ~is_new_item & ~conditions.has_history
    reasons = {"repeat": is_repeat, "new_item": is_new_item, "no_history": is_new_user}
    return {reason: int(is_failed.sum()) for reason, is_failed in reasons.items()}


def _sum_orders(events: pl.DataFrame) -> pl.DataFrame:
    """What each user ordered in one part of the log: a click is followed by its order, if there is one."""
    revenue = (pl.col("price") * KEPT_UNITS).sum()
    orders = events.filter((pl.col("event_type") == "order") & (KEPT_UNITS > 0))
    return orders.group_by("user_id", "item_id").agg(is_order=pl.lit(True), value=revenue)


def _assemble_lists(
    target_events: pl.DataFrame, log: IndexedLog, candidates: IntArray, *, is_target: BoolArray
) -> pl.DataFrame:
    """One row per target, with its candidates and their labels as lists."""
    flat_candidates = pl.DataFrame(
        {
            "row": np.arange(len(candidates)).repeat(candidates.shape[1]),
            "code": candidates.ravel(),
            "click": is_target.ravel(),
        },
        schema_overrides={"row": pl.UInt32},
    ).filter(pl.col("code") != NO_ITEM)
    # The negatives' padding is gone, so lists may differ in length.
    targets = target_events.with_row_index("row").select(
        "row", "user_id", "timestamp", pl.col("is_order").fill_null(False), pl.col("value").fill_null(0.0)
    )
    labeled_candidates = flat_candidates.with_columns(
        item_id=log.item_names.gather(flat_candidates["code"])
    ).join(targets, on="row", maintain_order="left")
    return labeled_candidates.group_by("row", maintain_order=True).agg(
        pl.col("user_id").first(),
        pl.col("timestamp").first(),
        item_ids=pl.col("item_id"),
        clicks=pl.col("click"),
        orders=pl.col("click") & pl.col("is_order"),
        values=pl.when("click").then("value").otherwise(0.0).cast(pl.Float32),
    )


def _cap_lists(lists: pl.DataFrame, split: str, config: ListConfig) -> pl.DataFrame:
    if split == TRAIN or config.max_eval_lists is None or len(lists) <= config.max_eval_lists:
        return lists
    kept_rows = np.random.default_rng(_SEED).choice(len(lists), config.max_eval_lists, replace=False)
    return lists[np.sort(kept_rows)]
