"""What belongs to one ranking request, whatever a tracker wrote.

A request has one user and one moment. Its impressions stand at that moment, which is never later than what
was done on its page: so its own outcomes are in nobody's history of it.
"""

from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from contracts.dataset import Split
from contracts.ingestion.config import RequestRuleConfig
from contracts.ingestion.rows.whole_log import open_log
from contracts.tables import CONTEXT_COLUMNS, EVENTS

_IS_IMPRESSION: Final = pl.col("event_type") == "impression"
_FLUSH_DELAY: Final = timedelta(minutes=2)
"""A click may stand so long before an impression that was sent late."""
_OF_PAGE: Final = ("position", "arm", *CONTEXT_COLUMNS)
_ROW: Final = "__row"
_COUNT_LINKED: Final = """
WITH pages AS (
    SELECT request_id, min(timestamp) AS shown_at FROM log
    WHERE event_type = 'impression' AND request_id IS NOT NULL GROUP BY request_id
),
behaviors AS (
    SELECT * FROM log
    WHERE event_type <> 'impression' AND timestamp >= (SELECT min(shown_at) FROM pages)
)
SELECT
    (SELECT count(*) FROM pages),
    count(*),
    count(*) FILTER (request_id IN (SELECT request_id FROM pages)),
    count(*) FILTER (request_id IS NOT NULL AND timestamp < $1),
    count(*) FILTER (request_id IS NOT NULL AND timestamp >= $1 AND timestamp < $2),
    count(*) FILTER (request_id IS NOT NULL AND timestamp >= $2)
FROM behaviors
"""


class SettledRequests(NamedTuple):
    """A log whose requests mean something."""

    events: pl.DataFrame
    counts: dict[str, int]
    """What was found, by name."""


def settle_requests(events: pl.DataFrame, shared_ids: pl.Series, rule: RequestRuleConfig) -> SettledRequests:
    """Makes each request one user's and one moment's, and finds the request of clicks and orders.

    Args:
        events: all rows of some users of a log that says what was shown: EVENTS' columns, perhaps more.
        shared_ids: request ids that several users of the log have.
        rule: how far what belongs together may lie apart.
    """
    counts: dict[str, int] = {}
    window = timedelta(minutes=rule.window_minutes)
    events = _divide_by_user(events.with_row_index(_ROW), shared_ids)
    events, counts["request_ids_used_again"] = _divide_by_time(events, window)
    events, linked = _link_outcomes(events, window)
    events, counts["requests_told_after_their_outcomes"] = _move_impressions(events)
    behaviors = events.filter(~_IS_IMPRESSION)
    counts |= linked
    counts["behaviors"] = len(behaviors)
    counts["behaviors_of_requests"] = behaviors["request_id"].len() - behaviors["request_id"].null_count()
    return SettledRequests(events.sort(_ROW).drop(_ROW), counts)


def explain_next_item(events_file: Path, split: Split, rule: RequestRuleConfig, scratch: Path) -> str:
    """Says why rankers cannot learn from the requests of a log; empty where they can.

    Too few behaviors belong to a request, counted from the first request on; or a part of the split holds no
    request with an outcome.

    Args:
        events_file: contract EVENTS.
        split: its parts.
        rule: the share of behaviors that must belong to a request.
        scratch: folder for what does not fit into memory.
    """
    with open_log(str(events_file), scratch) as connection:
        ends = [split.train_end, split.validation_end]
        ((num_pages, num_behaviors, num_linked, *nums_in_parts),) = connection.execute(
            _COUNT_LINKED, ends
        ).fetchall()
    if not num_pages:
        return ""
    share = num_linked / max(num_behaviors, 1)
    if share < rule.min_share:
        return (
            f"only {share:.1%} of the behaviors since the first request belong to one "
            f"(data.requests.min_share = {rule.min_share:g})"
        )
    parts = zip(("training", "validation", "test"), nums_in_parts, strict=True)
    if empty_parts := [name for name, num_inside in parts if not num_inside]:
        return f"no request with an outcome lies in the {' and '.join(empty_parts)} part of the log"
    return ""


def _divide_by_user(events: pl.DataFrame, shared_ids: pl.Series) -> pl.DataFrame:
    """Ids that several users share are each user's own."""
    is_shared = pl.col("request_id").is_in(shared_ids.implode())
    own_id = pl.col("user_id") + "/" + pl.col("request_id")
    return events.with_columns(request_id=pl.when(is_shared).then(own_id).otherwise("request_id"))


def _divide_by_time(events: pl.DataFrame, window: timedelta) -> tuple[pl.DataFrame, int]:
    """Impressions of one id are several requests where they lie further apart than the window, and where
    the first place shows another item."""
    impressions = events.filter(_IS_IMPRESSION & pl.col("request_id").is_not_null()).sort(
        "timestamp", "position", _ROW
    )
    is_later = pl.col("timestamp").diff().over("request_id").fill_null(timedelta(0)) > window
    is_new_page = is_later | pl.col(_ROW).is_in(_find_pages_begun_again(impressions).implode())
    numbered = impressions.with_columns(__page=is_new_page.cast(pl.Int64).cum_sum().over("request_id"))
    reused = numbered.filter(pl.col("__page") > 0)["request_id"].unique()
    if reused.is_empty():
        return events, 0
    pages = numbered.filter(pl.col("request_id").is_in(reused.implode()))
    own_id = pl.col("request_id") + "#" + pl.col("__page").cast(pl.String)
    renamed = pages.select(_ROW, "request_id", "timestamp", __own=own_id)
    # What was done belongs to the latest page of the id that had shown the item, or else to the latest one
    # that had begun, or to the first one.
    outcomes = events.filter(~_IS_IMPRESSION & pl.col("request_id").is_in(reused.implode()))
    outcomes = outcomes.select(_ROW, "request_id", "item_id", "timestamp").sort("timestamp")
    shown = pages.select("request_id", "item_id", "timestamp", __own=own_id).sort("timestamp")
    starts = renamed.group_by("__own").agg(pl.col("request_id").first(), pl.col("timestamp").min())
    placed = outcomes.join_asof(
        shown, on="timestamp", by=["request_id", "item_id"], strategy="backward", check_sortedness=False
    ).rename({"__own": "__showing"})
    placed = placed.with_columns(pl.col("timestamp") + _FLUSH_DELAY).join_asof(
        starts.sort("timestamp"),
        on="timestamp",
        by="request_id",
        strategy="backward",
        check_sortedness=False,
    )
    placed = placed.with_columns(__own=pl.coalesce("__showing", "__own"))
    own_ids = pl.concat([renamed.select(_ROW, "__own"), placed.select(_ROW, "__own")])
    joined = events.join(own_ids, on=_ROW, how="left", maintain_order="left")
    is_placed = pl.col("request_id").is_in(reused.implode())
    return joined.with_columns(request_id=pl.when(is_placed).then("__own").otherwise("request_id")).drop(
        "__own"
    ), len(reused)


def _find_pages_begun_again(impressions: pl.DataFrame) -> pl.Series:
    """Rows at which a page begins under the id of another one, which names a visit or a kind of page."""
    place = pl.col("position")
    # A tracker that writes one position everywhere says nothing by it.
    is_first_place = (place == place.min().over("request_id")) & (place < place.max().over("request_id"))
    first_places = impressions.filter(is_first_place)
    is_other_item = pl.col("item_id") != pl.col("item_id").shift(1).over("request_id")
    is_later = pl.col("timestamp").diff().over("request_id") > timedelta(0)
    return first_places.filter(is_other_item & is_later)[_ROW]


def _link_outcomes(events: pl.DataFrame, window: timedelta) -> tuple[pl.DataFrame, dict[str, int]]:
    """Outcomes that name no request that showed their item get the one that did, by user, item and time."""
    shown = events.filter(_IS_IMPRESSION & pl.col("request_id").is_not_null())
    pairs = shown.group_by("user_id", "request_id", "item_id").agg(__shown_at=pl.col("timestamp").min())
    num_shown = pairs.group_by("user_id", "request_id").len()["len"]
    outcomes = events.filter(~_IS_IMPRESSION)
    named = outcomes.join(pairs, on=["user_id", "request_id", "item_id"])
    # What was done long before its page was not done on it: another clock, or another page of that id.
    is_early = pl.col("timestamp") < pl.col("__shown_at") - window
    is_late_click = (pl.col("event_type") == "click") & (pl.col("timestamp") > pl.col("__shown_at") + window)
    num_early, num_late = named.select(is_early.sum(), is_late_click.sum()).row(0)
    clicks = named.filter(pl.col("event_type") == "click")
    num_clicks, num_clicked = len(clicks), clicks.select("user_id", "request_id", "item_id").n_unique()
    named = named.filter(~is_early)
    lost = outcomes.join(named.select(_ROW), on=_ROW, how="anti")
    pages = shown.select(
        "user_id",
        "item_id",
        "timestamp",
        __shown_at="timestamp",
        __request="request_id",
        **{f"__{name}": name for name in _OF_PAGE},
    ).sort("timestamp")
    found = lost.select(_ROW, "user_id", "item_id", "timestamp").sort("timestamp")
    by_user_item = ["user_id", "item_id"]
    earlier = found.join_asof(
        pages, on="timestamp", by=by_user_item, strategy="backward", tolerance=window, check_sortedness=False
    )
    later = found.join_asof(
        pages,
        on="timestamp",
        by=by_user_item,
        strategy="forward",
        tolerance=_FLUSH_DELAY,
        check_sortedness=False,
    )
    links = pl.concat(
        [
            earlier.filter(pl.col("__request").is_not_null()),
            later.filter(pl.col("__request").is_not_null()).join(
                earlier.filter(pl.col("__request").is_not_null()), on=_ROW, how="anti"
            ),
        ]
    ).select(_ROW, "__request", *(f"__{name}" for name in _OF_PAGE))
    joined = events.join(links, on=_ROW, how="left", maintain_order="left")
    is_linked = pl.col("__request").is_not_null()
    is_stray = pl.col(_ROW).is_in(lost[_ROW].implode()) & ~is_linked
    num_stray = lost["request_id"].len() - lost["request_id"].null_count()
    linked_events = joined.with_columns(
        request_id=pl.when(is_stray).then(None).otherwise(pl.coalesce("__request", "request_id")),
        **{
            name: pl.when(is_linked).then(pl.coalesce(f"__{name}", name)).otherwise(name) for name in _OF_PAGE
        },
    ).drop("__request", *(f"__{name}" for name in _OF_PAGE))
    return linked_events, {
        "behaviors_linked_by_time": len(links),
        "behaviors_naming_an_unknown_request": int(num_stray),
        "behaviors_long_before_their_request": num_early,
        "clicks_long_after_their_request": num_late,
        "clicks_of_requests": num_clicks,
        "shown_items": len(pairs),
        "clicked_items": num_clicked,
        "pages": len(num_shown),
        "pages_of_one_item": int((num_shown == 1).sum()),
    }


def _move_impressions(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Impressions stand at their request's moment: its first row of any kind.

    So no part of the log ends within a page. What was shown twice on it then stands once.
    """
    shown_at = pl.col("timestamp").filter(_IS_IMPRESSION)
    moments = (
        events.drop_nulls("request_id")
        .group_by("request_id")
        .agg(__first=pl.col("timestamp").min(), __shown=shown_at.min(), __last=shown_at.max())
    )
    moved_pages = moments.filter(pl.col("__first") < pl.col("__last"))
    if moved_pages.is_empty():
        return events, 0
    joined = events.join(
        moved_pages.select("request_id", "__first"), on="request_id", how="left", maintain_order="left"
    )
    moved = joined.with_columns(
        timestamp=pl.when(_IS_IMPRESSION).then(pl.coalesce("__first", "timestamp")).otherwise("timestamp")
    )
    is_first = pl.struct(EVENTS.key).is_first_distinct()
    num_late = moved_pages.select((pl.col("__first") < pl.col("__shown")).sum()).item()
    return moved.filter(is_first).drop("__first"), num_late
