"""The event log read back as the contract's tables: exposures, answers, events, outcomes."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from contracts.events.event_repeats import TRADE_TYPES, RepeatRuleConfig, drop_repeats, sum_order_lines
from contracts.events.order_prices import fill_order_prices
from contracts.events.order_returns import RETURN_TYPES, mark_returns
from contracts.table_schema import UTC_TIME, Column, Table
from contracts.tables import ANSWERS, EVENTS, EXPOSURES, ITEMS, KEPT_UNITS, OUTCOMES
from serving.event_log.event_log import RecordKind
from serving.event_log.log_lines import EVENT_LINE, EXPOSURE_LINE, parse_lines

_UNKNOWN_PROPENSITIES = pl.col("scores").list.eval(pl.when(pl.lit(False)).then(pl.element()))
"""For lines from before propensities were written."""
_REPEATS: Final = RepeatRuleConfig()
_log = logging.getLogger(__name__)
TEAMS: Final = Table(
    "teams",
    ("request_id", "item_id"),
    (
        Column("request_id", pl.String(), "The ranking request."),
        Column("user_id", pl.String(), "Who asked."),
        Column("item_id", pl.String(), "The item shown."),
        Column("team", pl.String(), "Arm whose ranker picked the item."),
    ),
    "Whose pick each item of an interleaved page was, one row per request and item.",
)


def read_exposures(
    folder: Path, *, layer: str | None = None, only_drawn: bool = False, experiment_id: str | None = None
) -> pl.DataFrame:
    """Everything that was shown: contract EXPOSURES. A request id that came twice counts once, the first
    time.

    Args:
        folder: the event log.
        layer: take the arms of this layer instead of the ranker experiment's; exposures without one are left
            out.
        only_drawn: leave out what was forced or held out, which is no part of a comparison.
        experiment_id: only what was shown in this experiment.
    """
    answers = keep_first_pages(_read_records(folder, "exposures"))
    if only_drawn:
        answers = answers.filter(pl.col("assignment").fill_null("drawn") == "drawn")
    if experiment_id is not None:
        answers = answers.filter(pl.col("experiment_id") == experiment_id)
    if layer is not None:
        is_of_layer = pl.element().str.starts_with(f"{layer}=")
        layer_entry = pl.col("layers").list.eval(pl.element().filter(is_of_layer)).list.first()
        answers = answers.with_columns(arm=layer_entry.str.slice(len(layer) + 1)).drop_nulls("arm")
    return _keep_sound_rows(list_shown_items(answers), EXPOSURES)


def read_teams(folder: Path, *, experiment_id: str | None = None) -> pl.DataFrame:
    """Whose pick each item of an interleaved page was: contract TEAMS.

    Args:
        folder: the event log.
        experiment_id: only pages of this experiment.
    """
    answers = keep_first_pages(_read_records(folder, "exposures"))
    # Forced pages are no part of a comparison.
    drafted = answers.filter(
        pl.col("teams").list.len() == pl.col("item_ids").list.len(),
        pl.col("assignment").fill_null("drawn") == "drawn",
    )
    if experiment_id is not None:
        drafted = drafted.filter(pl.col("experiment_id") == experiment_id)
    return drafted.select("request_id", "user_id", item_id="item_ids", team="teams").explode(
        "item_id", "team"
    )


def read_answers(folder: Path) -> pl.DataFrame:
    """How requests were answered: contract ANSWERS. What was forced is left out."""
    records = _read_records(folder, "exposures").filter(pl.col("assignment").fill_null("drawn") != "forced")
    answers = pl.concat([keep_first_pages(records), records.filter(pl.col("failure").is_not_null())])
    # Flags of the answer stand with each of its items.
    causes = pl.col("degraded").list.eval(pl.element().explode()).list.unique().list.drop_nulls().list.sort()
    return _keep_sound_rows(
        answers.unique(ANSWERS.key, keep="first", maintain_order=True).with_columns(
            routed_version=pl.coalesce("routed_version", "model_version"), degraded=causes
        ),
        ANSWERS,
    )


def keep_first_pages(answers: pl.DataFrame) -> pl.DataFrame:
    """The first page of each request. A failure is none: the retry after it is what was seen."""
    pages = answers.filter(pl.col("failure").is_null())
    return pages.unique("request_id", keep="first", maintain_order=True)


def list_shown_items(answers: pl.DataFrame) -> pl.DataFrame:
    """One row per item of each answer, with the columns of EXPOSURES and of the answer's line."""
    shown_items = answers.with_columns(
        # Older lines only say who scored.
        routed_version=pl.coalesce("routed_version", "model_version"),
        propensities=pl.coalesce("propensities", _UNKNOWN_PROPENSITIES),
        position=pl.int_ranges(0, pl.col("item_ids").list.len()),
    ).explode("item_ids", "scores", "propensities", "degraded", "position")
    return shown_items.rename({"item_ids": "item_id", "scores": "score", "propensities": "propensity"})


def read_events(folder: Path, repeats: RepeatRuleConfig = _REPEATS) -> pl.DataFrame:
    """Everything that was reported: contract EVENTS, each event once however often it was sent.

    Orders say what of them came back (`order_returns.py`).

    Args:
        folder: the event log.
        repeats: which events are one event that was sent again.
    """
    reported_events = drop_repeats(_read_records(folder, "events"), repeats).events
    shown_arms = (
        read_exposures(folder).select("request_id", pl.col("arm").alias("shown_by")).unique("request_id")
    )
    with_arm = (
        _mark_returned_orders(reported_events)
        .join(shown_arms, on="request_id", how="left", maintain_order="left")
        .with_columns(arm=pl.coalesce("arm", "shown_by"))
    )
    return _keep_sound_rows(with_arm, EVENTS)


def read_outcomes(
    folder: Path, *, items: pl.DataFrame | None = None, repeats: RepeatRuleConfig = _REPEATS
) -> pl.DataFrame:
    """What users did with what was shown: contract OUTCOMES, one row per exposure, also where nothing
    happened.

    Revenue is price x kept units of the orders that name the request.

    Args:
        folder: the event log.
        items: the catalogue (`item_id`, `price`), whose prices stand in where an order came without one.
        repeats: which events are one event that was sent again.
    """
    request_events = read_events(folder, repeats).filter(pl.col("request_id").is_not_null())
    catalogue = ITEMS.create_empty() if items is None else items
    priced_events = fill_order_prices(request_events, catalogue)
    is_order = (pl.col("event_type") == "order") & (KEPT_UNITS > 0)
    order_amounts = (pl.col("price") * KEPT_UNITS).filter(is_order)
    item_outcomes = priced_events.group_by("request_id", "item_id").agg(
        click=(pl.col("event_type") == "click").any(),
        order=is_order.any(),
        # What one order of them was worth is not known: then the sum is not, either.
        revenue=pl.when(order_amounts.null_count() == 0).then(order_amounts.sum()),
        orders_without_price=(is_order & ~pl.col("has_own_price")).sum().cast(pl.Int32),
        acted_at=pl.col("timestamp").max(),
    )
    shown_items = read_exposures(folder).select("request_id", "item_id", "user_id", "timestamp")
    outcomes = shown_items.join(
        item_outcomes, on=["request_id", "item_id"], how="left", maintain_order="left"
    ).with_columns(
        pl.col("click", "order").fill_null(False),
        revenue=pl.when(pl.col("order")).then("revenue").otherwise(0.0),
        orders_without_price=pl.col("orders_without_price").fill_null(0),
        timestamp=pl.coalesce("acted_at", "timestamp"),
    )
    return _keep_sound_rows(outcomes, OUTCOMES)


def _mark_returned_orders(distinct_events: pl.DataFrame) -> pl.DataFrame:
    """The events without returns, one row for the user, item, type and moment."""
    event_type = pl.col("event_type")
    marked = mark_returns(
        distinct_events.filter(event_type == "order"), distinct_events.filter(event_type.is_in(RETURN_TYPES))
    )
    others = distinct_events.filter(~event_type.is_in(TRADE_TYPES))
    orders = sum_order_lines(marked.orders)
    return pl.concat(
        [others.unique(EVENTS.key, keep="first", maintain_order=True), orders.select(others.columns)]
    )


def _keep_sound_rows(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Leaves out rows that break the contract: one line of an older gateway must not stop all reports."""
    validated = table.validate_rows(rows)
    if len(validated.rejected):
        reasons = validated.rejected["reasons"].explode().value_counts(sort=True).rows()
        listed = ", ".join(f"{count} x {reason}" for reason, count in reasons[:5])
        _log.warning("%d rows of the event log are no %s: %s", len(validated.rejected), table.name, listed)
    return validated.valid


def _read_records(folder: Path, kind: RecordKind) -> pl.DataFrame:
    parsed = [parse_lines(kind, lines) for lines in _whole_lines(folder, kind)]
    if num_broken := sum(part.num_broken for part in parsed):
        _log.warning("%d lines of the event log are no %s; they are passed over", num_broken, kind)
    if parsed:
        return pl.concat(part.records for part in parsed)
    schema = EXPOSURE_LINE if kind == "exposures" else EVENT_LINE
    return pl.DataFrame(schema={**schema, "timestamp": UTC_TIME})


def _whole_lines(folder: Path, kind: str) -> Iterator[bytes]:
    for file_path in sorted(folder.glob(f"{kind}-*.jsonl")):
        content = file_path.read_bytes()
        # Half a line at the end was cut off by a crash and never acknowledged.
        if whole_lines := content[: content.rfind(b"\n") + 1]:
            yield whole_lines
