"""The columns that drift is looked for in, and how the values of two windows become bins.

A distribution is a row of bin shares. Missing values have a bin of their own, since the share of them is part
of a column's distribution.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray, IntArray

Kind = Literal["number", "category", "flag"]

DEGRADED_PREFIX: Final = "degraded:"
"""Begins the name of the flag of one cause."""
_MAX_CAUSES: Final = 12
_MAX_CATEGORIES: Final = 40
_NO_ENTRY: Final = -1
_REFERENCE_QUANTILES: Final = np.linspace(0, 1, 33)
# The current window may lie where the reference had nothing: its own edges keep the distance right there.
_CURRENT_QUANTILES: Final = np.linspace(0, 1, 17)


@dataclass(frozen=True)
class DriftColumn:
    """A column of SERVING_FEATURES, or one that is made from it."""

    name: str
    kind: Kind
    title: str
    """Its name in words."""
    step: str
    """Step of the pipeline that its values come from, or `requests`: who asks, and where."""
    per_request: bool = False
    """The same in every row of a request, which counts once then."""
    log_scale: bool = False
    """Distances are measured on the scale log(1 + value)."""


COLUMNS: Final = (
    DriftColumn("price", "number", "price", "ingest", log_scale=True),
    DriftColumn("item_age_s", "number", "age of the item", "ingest", log_scale=True),
    DriftColumn("category", "category", "category of the item", "ingest"),
    DriftColumn("inferred_length", "number", "inferred behaviors", "infer_behaviors", per_request=True),
    DriftColumn(
        "history_length", "number", "length of the history", "materialize_features", True, log_scale=True
    ),
    DriftColumn(
        "newest_behavior_age_s", "number", "age of the newest behavior", "materialize_features", True, True
    ),
    DriftColumn("score", "number", "score", "train_ranker"),
    DriftColumn("degraded", "flag", "degraded answers", "serving"),
    DriftColumn("scene", "category", "scene", "requests", per_request=True),
    DriftColumn("is_new_user", "flag", "new users", "requests", per_request=True),
)
_STEPS_OF_CAUSES: Final = {
    "no_vector": "embed_items",
    "unknown_item": "materialize_features",
    "no_history": "materialize_features",
    "no_inferred": "infer_behaviors",
}
_FROZEN_AGES: Final = {"item_age_s": "catalogue_age_s", "newest_behavior_age_s": "features_age_s"}
"""Age -> the part of it that only says how long nothing new has come in.

Everything ages while a catalogue or the features stand still. That is told by itself (`stale`) and is no
change of what is shown or of who asks.
"""


class ColumnBins(NamedTuple):
    """One column of both windows as bin numbers."""

    column: DriftColumn
    codes: tuple[IntArray, IntArray]
    """Bin of each row of the reference and of the current window; the last bin is the missing value. -1
    where the row says nothing."""
    coordinates: DoubleArray | None
    """Place of each bin but the last, in reference deviations; None where bins have no order."""
    num_bins: int
    """With the bin of the missing value."""


def derive_columns(window: pl.DataFrame) -> pl.DataFrame:
    """Adds `is_new_user`. Numbers that are not finite, and vectors that hold one, become missing."""
    floats = [name for name, dtype in window.schema.items() if dtype.is_float()]
    window = window.with_columns(
        pl.when(pl.col(floats).is_finite()).then(pl.col(floats)).name.keep()
    ).with_columns(
        is_new_user=(pl.col("history_length") == 0).cast(pl.Float64),
        embedding=pl.when(pl.col("embedding").list.eval(pl.element().is_finite()).list.all()).then(
            "embedding"
        ),
    )
    return window.with_columns(
        (pl.col(age) - pl.col(frozen).fill_null(0).clip(0)).clip(0).alias(age)
        if frozen in window.columns
        else pl.col(age)
        for age, frozen in _FROZEN_AGES.items()
    )


def list_causes(windows: tuple[pl.DataFrame, pl.DataFrame]) -> list[DriftColumn]:
    """The causes of degradation that came up in either window, the most frequent ones, as columns."""
    causes = pl.concat([window["degraded_causes"].explode().drop_nulls() for window in windows])
    counts = causes.value_counts(sort=True).sort(["count", causes.name], descending=[True, False])
    return [
        DriftColumn(
            f"{DEGRADED_PREFIX}{cause}",
            "flag",
            f"degraded by {cause}",
            _STEPS_OF_CAUSES.get(cause, "serving"),
        )
        for cause in counts[causes.name].head(_MAX_CAUSES)
    ]


def bin_column(column: DriftColumn, windows: tuple[pl.DataFrame, pl.DataFrame]) -> ColumnBins:
    """Bins a column of both windows, by edges that both share."""
    values = [_read_values(column, window) for window in windows]
    if column.kind == "number":
        numbers = [_as_numbers(series, column) for series in values]
        codes, coordinates = _bin_numbers(numbers[0], numbers[1])
        num_bins = len(coordinates) + 1
    else:
        codes, num_bins = _bin_labels(values[0], values[1])
        coordinates = None
    speaking_rows = [
        window["request_id"].is_first_distinct().to_numpy()
        if column.per_request
        else np.ones(len(window), dtype=bool)
        for window in windows
    ]
    if column.name.startswith(DEGRADED_PREFIX):
        speaking_rows = [
            rows & window["degraded_causes"].is_not_null().to_numpy()
            for rows, window in zip(speaking_rows, windows, strict=True)
        ]
    if column.name == "newest_behavior_age_s":
        # A new user has no newest behavior: nothing of theirs is missing.
        speaking_rows = [
            rows & (window["history_length"] > 0).to_numpy()
            for rows, window in zip(speaking_rows, windows, strict=True)
        ]
    masked = [np.where(rows, code, _NO_ENTRY) for rows, code in zip(speaking_rows, codes, strict=True)]
    return ColumnBins(column, (masked[0], masked[1]), coordinates, num_bins)


def _read_values(column: DriftColumn, window: pl.DataFrame) -> pl.Series:
    if column.name.startswith(DEGRADED_PREFIX):
        cause = column.name.removeprefix(DEGRADED_PREFIX)
        return window["degraded_causes"].list.contains(cause).cast(pl.String)
    return window[column.name] if column.kind == "number" else window[column.name].cast(pl.String)


def _as_numbers(values: pl.Series, column: DriftColumn) -> DoubleArray:
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
    return np.sign(numbers) * np.log1p(np.abs(numbers)) if column.log_scale else numbers


def _bin_numbers(
    reference: DoubleArray, current: DoubleArray
) -> tuple[tuple[IntArray, IntArray], DoubleArray]:
    present = [numbers[~np.isnan(numbers)] for numbers in (reference, current)]
    quantiles = zip(present, (_REFERENCE_QUANTILES, _CURRENT_QUANTILES), strict=True)
    edges = np.unique(
        np.concatenate(
            [np.quantile(numbers, shares) for numbers, shares in quantiles if len(numbers)] or [np.zeros(0)]
        )
    )
    # A value on an edge has a bin that begins there, so a value that half of the rows share is one bin.
    codes = [
        np.where(
            np.isnan(numbers), len(edges), np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, None)
        )
        for numbers in (reference, current)
    ]
    all_codes, all_numbers = np.concatenate(codes), np.concatenate([reference, current])
    is_present = all_codes < len(edges)
    counts = np.bincount(all_codes[is_present], minlength=len(edges))
    sums = np.bincount(all_codes[is_present], weights=all_numbers[is_present], minlength=len(edges))
    centers = np.where(counts > 0, sums / np.maximum(counts, 1), edges)
    spread_of = present[0] if len(present[0]) else present[1]
    return (codes[0], codes[1]), centers / _measure_spread(spread_of)


def _measure_spread(numbers: DoubleArray) -> float:
    """Standard deviation; a column that hardly varied would make any change look endless."""
    if not len(numbers):
        return 1.0
    return max(float(np.std(numbers)), 0.02 * abs(float(np.mean(numbers))), 1e-3)


def _bin_labels(reference: pl.Series, current: pl.Series) -> tuple[tuple[IntArray, IntArray], int]:
    both = pl.concat([reference.rename("label"), current.rename("label")])
    counts = both.drop_nulls().value_counts(sort=True).sort(["count", "label"], descending=[True, False])
    labels = counts["label"].head(_MAX_CATEGORIES).to_list()
    numbers = {label: number for number, label in enumerate(labels)}
    other_bin = len(labels)
    missing_bin = other_bin + 1
    codes = (
        both.replace_strict(numbers, default=other_bin, return_dtype=pl.Int64)
        .set(both.is_null(), missing_bin)
        .to_numpy()
    )
    return (codes[: len(reference)], codes[len(reference) :]), missing_bin + 1
