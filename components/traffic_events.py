"""What users did around an experiment: before it (CUPED, cold items), and in it (metrics of your own)."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from contracts.events.event_repeats import RepeatRuleConfig
from contracts.events.order_prices import fill_order_prices
from contracts.tables import EVENTS
from monitoring.lift.outlier_users import count_strays
from serving.event_log.log_tables import read_events, read_exposures


class TrafficEvents(NamedTuple):
    """Two tables EVENTS."""

    meanwhile: pl.DataFrame
    """Of the experiment's users since its first page; without impressions."""
    before: pl.DataFrame
    """Of everybody in the days before, with impressions."""


def gather_events(
    compared: pl.DataFrame,
    dataset_events: pl.DataFrame,
    items: pl.DataFrame,
    *,
    event_log: Path,
    repeats: RepeatRuleConfig,
    history_days: float,
) -> TrafficEvents:
    """Gathers the events from the dataset and, for the time after its end, from the gateway's log.

    Args:
        compared: the exposures (EXPOSURES) by which the arms are compared.
        dataset_events: the log that the rankers were trained on (EVENTS).
        items: the catalogue, whose prices stand in where an event came without one.
        event_log: the gateway's log.
        repeats: which events are one event that was sent again.
        history_days: how many days before the first page count.
    """
    first_pages = compared.group_by("user_id").agg(pl.col("timestamp").min())["timestamp"].sort()
    # One request that was replayed from long ago would leave no time before the experiment.
    start = first_pages[count_strays(len(first_pages))]
    assert isinstance(start, datetime)
    logged = fill_order_prices(read_events(event_log, repeats), items).select(EVENTS.schema.names())
    at = pl.col("timestamp")
    meanwhile = logged.filter((at >= start) & (pl.col("event_type") != "impression")).join(
        compared.select("user_id").unique(), on="user_id", how="semi"
    )
    is_before = (at < start) & (at >= start - timedelta(days=history_days))
    # What was served may have become a part of the dataset: nothing counts twice.
    dataset_end = dataset_events["timestamp"].max()
    is_new = pl.lit(True) if dataset_end is None else at > dataset_end
    shown = _list_impressions(read_exposures(event_log))
    before = pl.concat(
        [
            dataset_events.select(EVENTS.schema.names()).filter(is_before),
            logged.filter(is_before & is_new & (pl.col("event_type") != "impression")),
            shown.filter(is_before & is_new),
        ]
    )
    return TrafficEvents(meanwhile, before.unique(EVENTS.key, keep="first", maintain_order=True))


def _list_impressions(exposures: pl.DataFrame) -> pl.DataFrame:
    return exposures.with_columns(event_type=pl.lit("impression")).select(
        pl.col(name).cast(dtype)
        if name in exposures.columns or name == "event_type"
        else pl.lit(None, dtype).alias(name)
        for name, dtype in EVENTS.schema.items()
    )
