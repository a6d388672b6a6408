"""Thresholds of drift from A/A windows: pairs of windows that both come from the reference, by user.

A change is drift when it is larger than what such pairs show by luck, and large enough to matter. All
columns and slices are judged together: the limit holds for the largest of them (max-T, Westfall and Young,
"Resampling-Based Multiple Testing", 1993). So a report of 500 comparisons raises no more false alarms than
one of five.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from scipy import sparse

from contracts.array_types import BoolArray, DoubleArray, FloatArray
from monitoring.config import SAMPLING_SEED, MonitoringConfig
from monitoring.drift.drift_columns import ColumnBins, DriftColumn
from monitoring.drift.user_counts import MAX_ITEMS, RowFeatures, Units, UserCounts, sum_by_unit

EMBEDDING: Final = "embedding"
CALIBRATION: Final = "calibration"
CONCENTRATION: Final = "concentration"
_SMALLEST_MISSING: Final = 0.02
"""Change of a share of missing or degraded rows below which nobody would act."""
# Few users make up a slice: what a handful of them lacks is no fault of the pipeline.
_SMALLEST_MISSING_IN_SLICE: Final = 0.05
_SMALLEST_RATIO: Final = 0.2
"""Change of clicks against promised clicks, or of the number of items that share the page views, likewise."""
_SMALLEST_WAVES: Final = 0.05
"""Discrepancy of item vectors likewise; two windows that share nothing have about 0.7."""
_MIN_SCORE: Final = 3.0
"""Standard deviations over the mean of the A/A windows, at least."""
_CHUNK: Final = 64


class Comparison(NamedTuple):
    """One thing that is compared in one slice."""

    column: str
    aspect: str
    """`values` or `missing`."""
    slice_name: str
    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """Is it too far?"""
        return self.distance > self.threshold


class _Measured(NamedTuple):
    """A comparison before its threshold is known."""

    column: str
    aspect: str
    slice_name: str
    distance: float
    luck: DoubleArray
    """[R] the same distance of the A/A windows."""
    smallest: float
    """A smaller one does not matter."""
    resolution: float
    """Smallest step that the window can show."""


class Sums(NamedTuple):
    """UserCounts summed over units with weights: one row for each window, [R, ...]."""

    bins: DoubleArray
    waves: DoubleArray
    vectors: DoubleArray
    clicks: DoubleArray


def compare_windows(
    features: tuple[RowFeatures, RowFeatures],
    units: tuple[Units, Units],
    slices: Mapping[str, tuple[BoolArray, BoolArray]],
    columns: Sequence[ColumnBins],
    items: tuple[sparse.csr_array, sparse.csr_array],
    config: MonitoringConfig,
) -> list[Comparison]:
    """Compares both windows in every slice, with thresholds that hold for all comparisons together."""
    draws = _draw_units(units, config.num_aa_windows)
    measured: list[_Measured] = []
    for slice_name, rows in slices.items():
        counts = tuple(
            sum_by_unit(window, window_units, window_rows)
            for window, window_units, window_rows in zip(features, units, rows, strict=True)
        )
        if slice_name != "all" and min(_count_active(c) for c in counts) < config.min_slice_users:
            continue
        measured += _compare_slice(slice_name, counts, units, draws, columns, config)
    measured.append(_compare_concentration(items, units, draws))
    return _set_thresholds(measured, config)


def _draw_units(units: tuple[Units, Units], num_windows: int) -> tuple[FloatArray, FloatArray]:
    """[R, U] how often each unit of the reference is in the A/A windows that stand for either window."""
    rng = np.random.default_rng(SAMPLING_SEED)
    reference, current = units
    shares = reference.weights / reference.weights.sum()
    return (
        rng.multinomial(reference.num_units, shares, size=num_windows).astype(np.float32),
        rng.multinomial(current.num_units, shares, size=num_windows).astype(np.float32),
    )


def _count_active(counts: UserCounts) -> int:
    return int((counts.vectors.sum(axis=1) > 0).sum())


def _sum_units(weights: FloatArray, counts: UserCounts) -> Sums:
    num_units = weights.shape[1]
    flat_clicks = counts.clicks.reshape(num_units, -1)
    return Sums(
        (weights @ counts.bins).astype(np.float64),
        (weights @ counts.waves).astype(np.float64),
        (weights @ counts.vectors).astype(np.float64),
        (weights @ flat_clicks).astype(np.float64).reshape(len(weights), *counts.clicks.shape[1:]),
    )


def _compare_slice(
    slice_name: str,
    counts: tuple[UserCounts, ...],
    units: tuple[Units, Units],
    draws: tuple[FloatArray, FloatArray],
    columns: Sequence[ColumnBins],
    config: MonitoringConfig,
) -> Iterator[_Measured]:
    reference, current = counts
    observed = (
        _sum_units(units[0].weights.astype(np.float32)[None], reference),
        _sum_units(units[1].weights.astype(np.float32)[None], current),
    )
    lucky = (_sum_units(draws[0], reference), _sum_units(draws[1], reference))
    resolution = 1 / max(_count_active(current), 1)

    def measure(
        column: str, aspect: str, distance: Callable[[Sums, Sums], DoubleArray], smallest: float
    ) -> _Measured:
        return _Measured(
            column,
            aspect,
            slice_name,
            float(distance(*observed)[0]),
            distance(*lucky),
            smallest,
            resolution,
        )

    smallest_missing = _SMALLEST_MISSING if slice_name == "all" else _SMALLEST_MISSING_IN_SLICE
    start = 0
    for bins in columns:
        block = slice(start, start + bins.num_bins)
        start = block.stop
        if _is_left_out(slice_name, bins.column):
            continue
        name = bins.column.name
        is_flag = bins.column.kind == "flag"
        yield measure(
            name,
            "values",
            partial(_measure_values_of_block, block=block, bins=bins),
            smallest_missing if is_flag and name != "is_new_user" else config.smallest_drift,
        )
        yield measure(
            name,
            "missing",
            partial(_measure_missing_of_block, block=block),
            smallest_missing,
        )
    yield measure(EMBEDDING, "values", _measure_waves, _SMALLEST_WAVES)
    yield measure(EMBEDDING, "missing", lambda p, q: _measure_missing(p.vectors, q.vectors), smallest_missing)
    yield measure(CALIBRATION, "values", _measure_calibration, _SMALLEST_RATIO)


def _is_left_out(slice_name: str, column: DriftColumn) -> bool:
    """Does the slice hold the column at one value, or does the column say nothing of the slice?"""
    dimension = slice_name.partition(" ")[0]
    if slice_name in ("new users", "known users"):
        is_empty_history = slice_name == "new users" and column.name.startswith(("history", "newest"))
        return column.name == "is_new_user" or is_empty_history
    # Who asks is no matter of a category that one of ten places shows.
    return dimension == column.name or (dimension == "category" and column.per_request)


def _measure_values_of_block(p: Sums, q: Sums, *, block: slice, bins: ColumnBins) -> DoubleArray:
    return _measure_values(p.bins[:, block], q.bins[:, block], bins)


def _measure_missing_of_block(p: Sums, q: Sums, *, block: slice) -> DoubleArray:
    return _measure_missing(p.bins[:, block], q.bins[:, block])


def _measure_values(p: DoubleArray, q: DoubleArray, bins: ColumnBins) -> DoubleArray:
    """[R] distance of the values that are there: Wasserstein for numbers, total variation for categories.

    Nothing where either window has no value: that is a matter of the missing ones.
    """
    shares_p, shares_q = _normalize(p[:, :-1]), _normalize(q[:, :-1])
    has_both = (p[:, :-1].sum(axis=1) > 0) & (q[:, :-1].sum(axis=1) > 0)
    if bins.coordinates is None:
        distance = np.abs(shares_p - shares_q).sum(axis=1) / 2
    else:
        steps = np.diff(bins.coordinates)
        differences = np.abs(np.cumsum(shares_p - shares_q, axis=1)[:, :-1])
        distance = differences @ steps
    return np.where(has_both, distance, 0.0)


def _measure_missing(p: DoubleArray, q: DoubleArray) -> DoubleArray:
    """[R] change of the share of the last bin."""
    has_both = (p.sum(axis=1) > 0) & (q.sum(axis=1) > 0)
    return np.where(has_both, np.abs(_normalize(p)[:, -1] - _normalize(q)[:, -1]), 0.0)


def _measure_waves(p: Sums, q: Sums) -> DoubleArray:
    """[R] maximum mean discrepancy of the item vectors."""
    num_p, num_q = p.vectors[:, :1], q.vectors[:, :1]
    means = p.waves / np.maximum(num_p, 1), q.waves / np.maximum(num_q, 1)
    distance = np.sqrt(((means[0] - means[1]) ** 2).sum(axis=1))
    return np.where((num_p[:, 0] > 0) & (num_q[:, 0] > 0), distance, 0.0)


def _measure_calibration(p: Sums, q: Sums) -> DoubleArray:
    """[R] log of clicks that came over clicks that the reference promises at these scores."""
    shown_p, clicked_p = p.clicks[:, 0], p.clicks[:, 1]
    overall = clicked_p.sum(axis=1, keepdims=True) / np.maximum(shown_p.sum(axis=1, keepdims=True), 1)
    # Bins with few rows lean on the overall rate.
    rates = (clicked_p + 20 * overall) / (shown_p + 20)
    promised = (q.clicks[:, 0] * rates).sum(axis=1)
    came = q.clicks[:, 1].sum(axis=1)
    has_both = (clicked_p.sum(axis=1) > 0) & (promised > 0)
    return np.where(has_both, np.abs(np.log((came + 0.5) / (np.where(has_both, promised, 1) + 0.5))), 0.0)


def _compare_concentration(
    items: tuple[sparse.csr_array, sparse.csr_array],
    units: tuple[Units, Units],
    draws: tuple[FloatArray, FloatArray],
) -> _Measured:
    """Compares how many items share the page views, as the number of equally shown ones that would do so."""
    observed = [
        _measure_concentration(window_units.weights.astype(np.float32)[None], table)
        for table, window_units in zip(items, units, strict=True)
    ]
    lucky = [_measure_concentration(weights, items[0]) for weights in draws]
    return _Measured(
        CONCENTRATION,
        "values",
        "all",
        float(np.abs(observed[0] - observed[1])[0]),
        np.abs(lucky[0] - lucky[1]),
        _SMALLEST_RATIO,
        1 / units[1].num_units,
    )


def _measure_concentration(weights: FloatArray, table: sparse.csr_array) -> DoubleArray:
    """[R] log of the chance that two rows show the same item.

    A row makes no pair with itself, nor with its copies in a resampled window. The chance of one item in all
    is added, so that windows in which hardly an item comes twice are alike.
    """
    logs = []
    for first in range(0, len(weights), _CHUNK):
        chunk = weights[first : first + _CHUNK]
        counts = np.asarray(chunk @ table, dtype=np.float64)
        own_pairs = np.asarray(chunk**2 @ table, dtype=np.float64).sum(axis=1)
        same = (counts**2).sum(axis=1) - own_pairs
        pairs = counts.sum(axis=1) ** 2 - own_pairs
        logs.append(np.log(same.clip(0) / np.maximum(pairs, 1e-9) + 1 / MAX_ITEMS))
    return np.concatenate(logs)


def _set_thresholds(measured: Sequence[_Measured], config: MonitoringConfig) -> list[Comparison]:
    luck = np.stack([one.luck for one in measured], axis=1)
    smallest = np.array([one.smallest for one in measured])
    means = luck.mean(axis=0)
    spreads = np.maximum(luck.std(axis=0), [one.resolution for one in measured])
    scores = (luck - means) / spreads
    # Only what would count as a change can raise an alarm, so only that has to be guarded against.
    largest = np.where(luck > smallest, scores, -np.inf).max(axis=1)
    limit = max(float(np.quantile(largest, 1 - config.false_alarm_rate, method="higher")), _MIN_SCORE)
    thresholds = np.maximum(smallest, means + limit * spreads)
    return [
        Comparison(one.column, one.aspect, one.slice_name, one.distance, float(threshold))
        for one, threshold in zip(measured, thresholds, strict=True)
    ]


def _normalize(counts: DoubleArray) -> DoubleArray:
    totals: DoubleArray = counts.sum(axis=1, keepdims=True)
    return counts / np.maximum(totals, 1e-12)
