"""The two windows of a drift report, read, checked and made comparable."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import AwareDatetime

from contracts.config import Config
from contracts.errors import UserError
from monitoring.config import SAMPLING_SEED, MonitoringConfig
from monitoring.drift.drift_columns import derive_columns
from monitoring.drift.served_features import SERVING_FEATURES

_MIN_HOURS: Final = 2


class ReferenceNote(Config):
    """What a reference window is; it lies beside the table as `<name>.json`."""

    source: Literal["served", "evaluation", "unknown"] = "unknown"
    """`served`: first days of the rankers in service. `evaluation`: test lists cut to the places of a page,
    which other rankers and other candidates fill; only what is missing is judged by it."""
    first: AwareDatetime | None = None
    """Its first request."""
    last: AwareDatetime | None = None
    """Its last request."""
    versions: tuple[str, ...] = ()
    """Rankers whose pages it holds."""
    num_items: int | None = None
    """Items of the catalogue."""
    text: str = ""
    """Why it is this window, where that needs saying."""


class Windows(NamedTuple):
    """The two windows, sampled, with the same columns and hours."""

    reference: pl.DataFrame
    current: pl.DataFrame
    note: ReferenceNote

    @property
    def pair(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Reference and current window."""
        return self.reference, self.current


def load_windows(reference_path: Path, current_path: Path, config: MonitoringConfig) -> Windows:
    """Reads both windows.

    Raises:
        UserError: a table is missing or malformed, holds too few requests, or the item vectors of both have
            different lengths.
    """
    reference, current = (_sample_window(path, config) for path in (reference_path, current_path))
    note_path = reference_path.with_suffix(".json")
    note = (
        ReferenceNote.model_validate_json(note_path.read_text(encoding="utf-8"))
        if note_path.is_file()
        else ReferenceNote()
    )
    _require_one_vector_length(reference, current)
    reference = _keep_hours_of(current, reference, config)
    return Windows(derive_columns(reference), derive_columns(current), note)


def describe_span(window: pl.DataFrame) -> dict[str, Any]:
    """First and last request, rows, requests and users of a window."""
    first, last = window["timestamp"].min(), window["timestamp"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return {
        "first": first.isoformat(),
        "last": last.isoformat(),
        "rows": len(window),
        "requests": window["request_id"].n_unique(),
        "users": window["user_id"].drop_nulls().n_unique(),
    }


def _sample_window(path: Path, config: MonitoringConfig) -> pl.DataFrame:
    if not path.is_file():
        raise UserError(
            f"no table of serving features at {path}; make one with "
            "monitoring.drift.served_features.build_served_features."
        )
    table = pl.scan_parquet(path)
    if table.collect_schema() != SERVING_FEATURES.schema:
        column_names = list(SERVING_FEATURES.schema)
        raise UserError(f"{path} is not a '{SERVING_FEATURES.name}' table; its columns are {column_names}")
    counts = table.select(pl.len(), requests=pl.col("request_id").n_unique()).collect().row(0, named=True)
    if counts["requests"] < config.min_requests:
        raise UserError(
            f"{path} holds {counts['requests']} requests, drift needs at least {config.min_requests} "
            "(min_requests): compare a longer window."
        )
    keys = pl.struct(SERVING_FEATURES.key)
    repeats = counts["len"] - table.select(keys.n_unique()).collect().item()
    if repeats:
        raise UserError(
            f"{path} holds {repeats} of {counts['len']} rows a second time (request_id, item_id): shown "
            "once, an item counts once. Remove the copies."
        )
    shuffled_rows = np.random.default_rng(SAMPLING_SEED).permutation(counts["len"])
    sampled_rows = pl.Series(np.sort(shuffled_rows[: config.max_rows]), dtype=pl.UInt32)
    is_sampled = pl.col("index").is_in(sampled_rows.implode())
    return table.with_row_index().filter(is_sampled).drop("index").collect()


def _require_one_vector_length(reference: pl.DataFrame, current: pl.DataFrame) -> None:
    lengths = {
        length for window in (reference, current) for length in window["embedding"].list.len().drop_nulls()
    }
    if len(lengths) > 1:
        raise UserError(
            f"item vectors of lengths {sorted(lengths)} cannot be compared: the windows mix embedding spaces."
        )


def _keep_hours_of(current: pl.DataFrame, reference: pl.DataFrame, config: MonitoringConfig) -> pl.DataFrame:
    """Keeps the reference's requests of those hours (UTC) that the current window has, too.

    A report at noon would else compare mornings with whole days. A reference that is too short for that, or
    shares no hour with the current window, stays whole.
    """
    hour = pl.col("timestamp").dt.hour()
    hours_now = current.select(hour).to_series().unique()
    if len(hours_now) < _MIN_HOURS:
        return reference
    same_hours = reference.filter(hour.is_in(hours_now.implode()))
    return same_hours if same_hours["request_id"].n_unique() >= config.min_requests else reference
