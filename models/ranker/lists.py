"""Ranking lists: what rankers are trained and measured on.

Two label regimes, named as what they are. `impressions`: a request, what it showed, what was clicked and ordered.
`contemporaneous` (and its slices `within_cold`, `within_unseen`): a behaviour against sampled negatives of its own
time; its labels say which candidate the user chose, not what a shown item would have earned.
"""

from pathlib import Path

import numpy as np
import polars as pl

from contracts.artifacts import new_artifact, write_table
from contracts.dataset import Dataset, Split, before, read_dataset
from contracts.errors import UserError
from contracts.tables import RANKING_LISTS
from models.ranker.config import ListConfig
from models.ranker.sampling import NO_ITEM, Ints, Log, draw_negatives, novel_targets, read_log

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def build_lists(dataset: Path, config: ListConfig, *, out: Path) -> None:
    """Writes `ranking_lists.parquet` for every part of the log and every protocol that the log allows.

    Raises:
        UserError: no training list can be made.
    """
    data = read_dataset(dataset)
    frame = pl.concat([*_request_lists(data, config), *_sampled_lists(data, config)])
    if not (frame["split"] == TRAIN).any():
        raise UserError(
            "no training list can be made: before the split's train_end no user did two things, or nobody else met "
            "the same items; give a longer log or a later data.split.train"
        )
    with new_artifact(out, kind="ranking_lists", inputs={"dataset": dataset}, config=config) as artifact:
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, frame)
        for protocol, part, count in frame.group_by("protocol", "split").len().sort("protocol", "split").iter_rows():
            artifact.metrics[f"lists.{protocol}.{part}"] = count


def parts(split: Split) -> dict[str, pl.Expr]:
    """Part of the log -> the condition on `timestamp` that makes it."""
    time = pl.col("timestamp")
    return {
        TRAIN: time < split.train_end,
        VALIDATION: (time >= split.train_end) & (time < split.validation_end),
        TEST: (time >= split.validation_end) & (time < split.cutoff),
    }


def _request_lists(data: Dataset, config: ListConfig) -> list[pl.DataFrame]:
    if not data.has_impressions:
        return []
    # Each part labels its requests with its own events only: an order after train_end must not reach a training list.
    made = {part: _requests(data.events.filter(inside), part) for part, inside in parts(data.split).items()}
    return [_capped(frame, part, config) for part, frame in made.items()]


def _requests(events: pl.DataFrame, part: str) -> pl.DataFrame:
    logged = events.filter(pl.col("request_id").is_not_null())
    kind, key = pl.col("event_type"), ["request_id", "item_id"]
    done = logged.group_by(key).agg(
        click=kind.is_in(["click", "cart", "order"]).any(),
        order=(kind == "order").any(),
        value=(pl.col("price") * pl.col("quantity").fill_null(1)).filter(kind == "order").sum(),
    )
    shown = logged.filter(kind == "impression").unique(key, keep="first", maintain_order=True).join(done, on=key)
    requests = shown.sort("request_id", "position", "item_id").group_by("request_id", maintain_order=True)
    lists = requests.agg(
        user_id=pl.col("user_id").first(),
        timestamp=pl.col("timestamp").min(),
        item_ids=pl.col("item_id"),
        clicks=pl.col("click"),
        orders=pl.col("order"),
        values=pl.col("value").cast(pl.Float32),
    )
    list_id = pl.concat_str(pl.lit(f"impressions/{part}/"), pl.col("request_id"))
    labelled = lists.with_columns(list_id=list_id, split=pl.lit(part), protocol=pl.lit("impressions"))
    return labelled.select(RANKING_LISTS.schema.names()).sort("timestamp", "list_id")


def _sampled_lists(data: Dataset, config: ListConfig) -> list[pl.DataFrame]:
    behaviors = data.behaviors
    log = read_log(behaviors)
    train_count = len(before(behaviors, data.split.train_end))
    validation_count = len(before(behaviors, data.split.validation_end))
    bounds = {VALIDATION: (train_count, validation_count), TEST: (validation_count, len(behaviors))}
    train_events = np.bincount(log.items[:train_count], minlength=len(log.item_names))
    slices = {
        "contemporaneous": np.ones(len(train_events), bool),
        "within_cold": train_events < config.cold_events,
        "within_unseen": train_events == 0,
    }
    lists = []
    if not data.has_impressions:
        pool = np.arange(train_count)
        lists.append(_lists(behaviors, log, pool, config, part=TRAIN, protocol="contemporaneous"))
    for part, (start, stop) in bounds.items():
        for protocol, chosen in slices.items():
            pool = start + np.flatnonzero(chosen[log.items[start:stop]])
            lists.append(_capped(_lists(behaviors, log, pool, config, part=part, protocol=protocol), part, config))
    return lists


def _lists(
    behaviors: pl.DataFrame, log: Log, pool: Ints, config: ListConfig, *, part: str, protocol: str
) -> pl.DataFrame:
    """Lists of all targets in `pool` against negatives of `pool`; a target without any negative makes no list."""
    targets = np.intersect1d(novel_targets(log, pool[0], pool[-1] + 1), pool) if len(pool) else pool
    count = config.train_negatives if part == TRAIN else config.eval_negatives
    negatives = draw_negatives(log, targets, pool, window=config.window, count=count, seed=config.seed)
    known = (negatives != NO_ITEM).any(axis=1)
    targets, negatives = targets[known], negatives[known]
    candidates = np.concatenate([log.items[targets][:, None], negatives], axis=1)
    # The target's place is drawn too: a ranker that keeps the given order must not look good.
    seat = np.random.default_rng(config.seed + 1).random(candidates.shape).argsort(axis=1)
    chosen = np.take_along_axis(candidates, seat, axis=1)
    is_target = seat == 0
    ordered = _orders(behaviors[pool[0] : pool[-1] + 1]) if len(pool) else _orders(behaviors[:0])
    events = behaviors[targets].join(ordered, on=["user_id", "item_id"], how="left", maintain_order="left")
    return _frame(events, log, chosen, is_target, part=part, protocol=protocol)


def _orders(events: pl.DataFrame) -> pl.DataFrame:
    """What each user ordered in one part of the log: a click is followed by its order, if there is one."""
    revenue = (pl.col("price") * pl.col("quantity").fill_null(1)).sum()
    orders = events.filter(pl.col("event_type") == "order")
    return orders.group_by("user_id", "item_id").agg(is_order=pl.lit(True), value=revenue)


def _frame(
    events: pl.DataFrame, log: Log, candidates: Ints, is_target: np.ndarray, *, part: str, protocol: str
) -> pl.DataFrame:
    flat = pl.DataFrame(
        {
            "row": np.arange(len(candidates)).repeat(candidates.shape[1]),
            "code": candidates.ravel(),
            "click": is_target.ravel(),
        },
        schema_overrides={"row": pl.UInt32},
    ).filter(pl.col("code") != NO_ITEM)
    target = events.with_row_index("row").select(
        "row", "user_id", "timestamp", pl.col("is_order").fill_null(False), pl.col("value").fill_null(0.0)
    )
    rows = flat.with_columns(item_id=log.item_names.gather(flat["code"])).join(target, on="row", maintain_order="left")
    lists = rows.group_by("row", maintain_order=True).agg(
        pl.col("user_id").first(),
        pl.col("timestamp").first(),
        item_ids=pl.col("item_id"),
        clicks=pl.col("click"),
        orders=pl.col("click") & pl.col("is_order"),
        values=pl.when("click").then("value").otherwise(0.0).cast(pl.Float32),
    )
    number = pl.col("row").cast(pl.String).str.zfill(9)
    list_id = pl.concat_str(pl.lit(f"{protocol}/{part}/"), number)
    labelled = lists.with_columns(list_id=list_id, split=pl.lit(part), protocol=pl.lit(protocol))
    return labelled.select(RANKING_LISTS.schema.names())


def _capped(lists: pl.DataFrame, part: str, config: ListConfig) -> pl.DataFrame:
    if part == TRAIN or config.max_eval_lists is None or len(lists) <= config.max_eval_lists:
        return lists
    kept = np.random.default_rng(config.seed).choice(len(lists), config.max_eval_lists, replace=False)
    return lists[np.sort(kept)]
