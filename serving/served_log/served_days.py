"""One day of the served log, made from all that was collected of it."""

from typing import Final, NamedTuple

import polars as pl

from contracts.dataset import EVENT_SORT_COLUMNS
from contracts.events.bots import BotRuleConfig, find_bots
from contracts.events.event_repeats import TRADE_TYPES
from contracts.events.order_returns import RETURN_TYPES
from contracts.served_log import SERVED_EVENTS
from contracts.tables import EVENT_TYPES, EVENTS
from serving.gateway.messages import FALLBACK
from serving.served_log.collected_rows import IS_SHOWN, REQUEST_COLUMNS

_EVENT_TYPE: Final = pl.col("event_type")
_RETURN_NAMES: Final = {"return": "returns", "cancel": "cancellations"}
assert set(_RETURN_NAMES) == set(RETURN_TYPES)


class DayTables(NamedTuple):
    """What a day is written as."""

    events: pl.DataFrame
    """Contract SERVED_EVENTS: what may be learnt from."""
    quarantine: pl.DataFrame
    """The same columns and `reasons`."""
    counts: dict[str, int]
    """What the day holds, by name."""


def build_day(
    rows: pl.DataFrame, *, orders: pl.DataFrame, requests: pl.DataFrame, rule: BotRuleConfig
) -> DayTables:
    """Builds a day.

    Args:
        rows: schema COLLECTED, all of the day up to the moment of collection, each event once.
        orders: the day's orders, which say what came back.
        requests: `request_id` and `REQUEST_COLUMNS` of requests of other days that the day's events name.
        rule: who is a bot.
    """
    impressions = rows.filter(IS_SHOWN)
    own_requests = list_requests(impressions)
    requests = pl.concat([own_requests, requests]).unique("request_id", keep="first", maintain_order=True)
    others = rows.filter(~IS_SHOWN & ~_EVENT_TYPE.is_in(TRADE_TYPES))
    others = others.unique(EVENTS.key, keep="first", maintain_order=True)
    # What the gateway has shown it has logged itself: a client's word for it would count twice.
    is_confirmed = (_EVENT_TYPE == "impression") & pl.col("request_id").is_in(
        requests["request_id"].implode()
    )
    events = _tell_request(pl.concat([others.filter(~is_confirmed.fill_null(False)), orders]), requests)
    day_events = pl.concat([impressions.select(events.columns), events])
    is_bot = pl.col("user_id").is_in(find_bots(day_events, rule).implode())
    bot_rows = day_events.filter(is_bot).with_columns(reasons=pl.lit(["user_id: a bot"]))
    validated = SERVED_EVENTS.validate_rows(day_events.filter(~is_bot))
    return DayTables(
        validated.valid.sort(*EVENT_SORT_COLUMNS, "event_type"),
        pl.concat([bot_rows, validated.rejected.select(bot_rows.columns)]),
        _count_rows(rows, validated.valid, bot_rows)
        | {"impressions_confirmed": others.select(is_confirmed.sum()).item()},
    )


def list_requests(impressions: pl.DataFrame) -> pl.DataFrame:
    """The requests of exposures: `request_id` and what their events take over."""
    return impressions.select("request_id", *REQUEST_COLUMNS).unique(
        "request_id", keep="first", maintain_order=True
    )


def _tell_request(events: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Fills the columns of the request that showed the item, as far as it is known."""
    told = events.join(
        requests, on="request_id", how="left", suffix="_of_request", maintain_order="left"
    ).with_columns(pl.coalesce(name, f"{name}_of_request").alias(name) for name in REQUEST_COLUMNS)
    return told.select(SERVED_EVENTS.schema.names())


def _count_rows(rows: pl.DataFrame, events: pl.DataFrame, bot_rows: pl.DataFrame) -> dict[str, int]:
    type_counts = dict(events.group_by("event_type").len().iter_rows())
    answers = (
        rows.filter(IS_SHOWN)
        .group_by("request_id")
        .agg(
            is_fallback=(pl.col("model_version") == FALLBACK).any(),
            is_degraded=pl.col("is_degraded").any(),
            is_forced=(pl.col("assignment") == "forced").any(),
        )
    )
    return {
        **{f"{event_type}s": type_counts.get(event_type, 0) for event_type in EVENT_TYPES},
        **{name: rows.filter(event_type=kind).height for kind, name in _RETURN_NAMES.items()},
        "orders_without_price": events.filter((_EVENT_TYPE == "order") & pl.col("price").is_null()).height,
        "requests": len(answers),
        "fallback_requests": answers["is_fallback"].sum(),
        "degraded_requests": answers["is_degraded"].sum(),
        "forced_requests": answers["is_forced"].sum(),
        "bots": bot_rows["user_id"].n_unique(),
        "bot_rows": len(bot_rows),
    }


def create_no_requests() -> pl.DataFrame:
    """No request, in the columns of `list_requests`."""
    columns = {"request_id": pl.String(), **dict.fromkeys(REQUEST_COLUMNS, pl.String())}
    return pl.DataFrame(schema=columns)
