"""Which pages are compared with which: a ranker's last days with its own first days."""

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from monitoring.config import MonitoringConfig


class ServedWindows(NamedTuple):
    """Exposures of the rankers in service, by window."""

    reference: pl.DataFrame
    """What each ranker showed in its first days."""
    current: pl.DataFrame
    """What it showed in the last days, after those."""


def split_served_windows(
    exposures: pl.DataFrame,
    config: MonitoringConfig,
    *,
    reference_ends: pl.DataFrame | None = None,
) -> ServedWindows | None:
    """Splits contract EXPOSURES. None while the rankers have too few pages in either window.

    What another ranker showed before, or in the other arm, is no reference: it chose other items from the
    same world. A ranker is left out until its first days are over.

    Args:
        exposures: pages of the rankers in service.
        config: the length of the windows, and how many requests they must hold.
        reference_ends: ends of first days that are known from earlier (`routed_version`, `reference_end`);
            the log may no longer reach back to them.
    """
    first_days = timedelta(days=config.reference_days)
    ends = exposures.group_by("routed_version").agg(reference_end=pl.col("timestamp").min() + first_days)
    if reference_ends is not None:
        ends = ends.update(reference_ends, on="routed_version")
    with_end = exposures.join(ends, on="routed_version", how="left", maintain_order="left")
    is_first = pl.col("timestamp") < pl.col("reference_end")
    newest = exposures["timestamp"].max()
    is_recent = pl.col("timestamp") > pl.lit(newest) - timedelta(days=config.window_days)
    current = with_end.filter(~is_first & is_recent).drop("reference_end")
    answering = current["routed_version"].unique().implode()
    reference = with_end.filter(is_first, pl.col("routed_version").is_in(answering)).drop("reference_end")
    if _count_requests(current) < config.min_requests:
        return None
    if reference_ends is None and _count_requests(reference) < config.min_requests:
        return None
    return ServedWindows(reference, current)


def cut_to_page(lists: pl.DataFrame, pages: pl.DataFrame) -> pl.DataFrame:
    """Keeps the top places of scored lists, as many as a page of `pages` has: what would have been shown."""
    places = int(np.median(pages.group_by("request_id").len()["len"].to_numpy()))
    return lists.filter(pl.col("position") < places)


def _count_requests(exposures: pl.DataFrame) -> int:
    return exposures["request_id"].n_unique()
