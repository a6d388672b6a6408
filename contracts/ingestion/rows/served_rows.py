"""Events of the served log beside a user's own: which are left out, and which both tell of."""

from pathlib import Path
from typing import Final

import polars as pl

from contracts.events.event_repeats import RepeatRuleConfig
from contracts.ingestion.config import DataConfig
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN
from contracts.ingestion.rows.plausible_rows import quarantine_events
from contracts.ingestion.rows.quarantine import Quarantine
from contracts.tables import EVENTS

_SAME_ORDER: Final = RepeatRuleConfig().order_window
"""A shop's own clock and the gateway's tell one order at most so far apart."""
_SAME_NAMES: Final = ("user_id", "item_id", "units")
_IS_ORDER: Final = pl.col("event_type") == "order"


def leave_out_served(
    served_events: pl.DataFrame,
    catalogue: pl.DataFrame,
    config: DataConfig,
    served_log: Path,
    quarantine: Quarantine,
) -> tuple[pl.DataFrame, list[str]]:
    """Served events without those of items that are gone and of guests, which go to quarantine, and what to
    say of it."""
    guests = [word.lower() for word in config.events.guests]
    is_listed = served_events["item_id"].is_in(catalogue["item_id"].implode())
    is_guest = served_events["user_id"].str.strip_chars().str.to_lowercase().is_in(guests)
    if is_listed.all() and not is_guest.any():
        return served_events, []
    from_served = served_events.with_columns(pl.lit(str(served_log)).alias(FILE_COLUMN))
    gone, of_guests = from_served.filter(~is_listed), from_served.filter(is_listed & is_guest)
    quarantine_events(gone, "item_id: not in the catalogue", quarantine)
    quarantine_events(of_guests, "user_id: missing", quarantine)
    notes = {
        f"{len(gone):,} served events are of items that the catalogue no longer holds": len(gone),
        f"{len(of_guests):,} served events are of users such as '{_show_first(of_guests)}', who are nobody "
        "(data.events.guests): give each visitor an id": len(of_guests),
    }
    return served_events.filter(is_listed & ~is_guest), [note for note, count in notes.items() if count]


def add_served_events(events: pl.DataFrame, served_events: pl.DataFrame) -> pl.DataFrame:
    """Both, without what both tell of: that is taken from the served log, which knows its request.

    Args:
        events: contract EVENTS, of some users.
        served_events: the same of the served log.
    """
    units = pl.col("quantity").fill_null(1).alias("units")
    served_orders = served_events.with_row_index("served_row").filter(_IS_ORDER)
    if len(served_orders) and len(own_orders := events.with_row_index("own_row").filter(_IS_ORDER)):
        sought = served_orders.select(
            "served_row", *_SAME_NAMES[:2], units, "timestamp", served_at="timestamp"
        )
        found = (
            own_orders.select("own_row", *_SAME_NAMES[:2], units, "timestamp", told_back="returned")
            .sort("timestamp")
            .join_asof(
                sought.sort("timestamp"),
                on="timestamp",
                by=list(_SAME_NAMES),
                strategy="nearest",
                tolerance=_SAME_ORDER,
                check_sortedness=False,
            )
            .drop_nulls("served_row")
            .with_columns(distance=(pl.col("timestamp") - pl.col("served_at")).abs())
            # One that was served stands for one of the shop's: the next is an order of its own.
            .sort("distance")
            .unique("served_row", keep="first", maintain_order=True)
        )
        is_told_twice = pl.int_range(pl.len(), dtype=pl.UInt32).is_in(found["own_row"].implode())
        events = events.filter(~is_told_twice)
        served_events = _keep_told_returns(served_events, found)
    return pl.concat([served_events, events]).unique(EVENTS.key, keep="first", maintain_order=True)


def _keep_told_returns(served_events: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """A return may stand in the shop's own log alone."""
    told = found.group_by("served_row").agg(pl.col("told_back").max())
    joined = served_events.with_row_index("served_row").join(
        told, on="served_row", how="left", maintain_order="left"
    )
    returned = pl.max_horizontal("returned", "told_back").cast(pl.Int32)
    return joined.with_columns(returned=returned).select(served_events.columns)


def _show_first(events: pl.DataFrame) -> str:
    return str(events["user_id"][0])[:60] if len(events) else ""
