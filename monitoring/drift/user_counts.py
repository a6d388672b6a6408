"""Counts of every bin by user: whatever a window is compared by is a function of sums of these rows.

So a window resampled by user costs one matrix product, and thresholds can come from hundreds of them.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from monitoring.config import SAMPLING_SEED
from monitoring.drift.drift_columns import ColumnBins

_NUM_WAVES: Final = 128
_MAX_PAIRS: Final = 2000
# An id that so many rows share stands for all who are not known, and not for one user.
_MOST_OF_ONE_USER: Final = 0.2
MAX_ITEMS: Final = 3000
"""Items whose page views are counted one by one."""


class Units(NamedTuple):
    """Who the rows of a window belong to."""

    numbers: IntArray
    """[N] unit of each row."""
    weights: DoubleArray
    """[U] weight of each unit."""

    @property
    def num_units(self) -> int:
        """Number of units."""
        return len(self.weights)


class UserCounts(NamedTuple):
    """Sums by unit over the rows of one slice."""

    bins: FloatArray
    """[U, F] rows in each bin of each column, side by side."""
    waves: FloatArray
    """[U, K] sums of the item vectors' random Fourier features."""
    vectors: FloatArray
    """[U, 2] rows with a vector, rows without."""
    clicks: FloatArray
    """[U, 2, S] rows whose click is settled, and clicks, by bin of the score."""


class RowFeatures(NamedTuple):
    """What each row of a window adds to its unit's sums."""

    bins: sparse.csr_array
    """[N, F]."""
    waves: FloatArray
    """[N, K], zeros where there is no vector."""
    has_vector: BoolArray
    """[N]."""
    clicks: sparse.csr_array
    """[N, 2 S]."""


def number_units(windows: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[Units, Units]:
    """Numbers the units, a user with a ranker each, and weighs the reference's units.

    The rankers then have the same shares in both windows: a test that grew is no drift. A row whose
    user is not known is a unit by its request.
    """
    versions = [
        window.group_by("routed_version").len(name="rows").with_columns(pl.col("rows") / len(window))
        for window in windows
    ]
    shares = versions[0].join(versions[1], on="routed_version", how="left", nulls_equal=True, suffix="_now")
    weights = shares.select("routed_version", weight=pl.col("rows_now").fill_null(0) / pl.col("rows"))
    if weights["weight"].sum() == 0:  # no ranker of the reference answers now
        weights = weights.with_columns(weight=pl.lit(1.0))
    units = []
    for number, window in enumerate(windows):
        rows_of_user = pl.len().over("user_id")
        is_one_user = pl.col("user_id").is_not_null() & (rows_of_user < _MOST_OF_ONE_USER * pl.len())
        unit_ids = window.select(
            "routed_version",
            unit=pl.when(is_one_user).then("user_id").otherwise(pl.format("request {}", "request_id")),
        )
        row_units = unit_ids.select(pl.struct("routed_version", "unit").rank("dense") - 1).to_series()
        unit_numbers = row_units.to_numpy().astype(np.int64)
        row_weights = (
            unit_ids.join(weights, on="routed_version", how="left", nulls_equal=True, maintain_order="left")[
                "weight"
            ].to_numpy()
            if number == 0
            else np.ones(len(window))
        )
        unit_weights = np.zeros(int(unit_numbers.max()) + 1)
        unit_weights[unit_numbers] = row_weights
        units.append(Units(unit_numbers, unit_weights))
    return units[0], units[1]


def build_row_features(
    windows: tuple[pl.DataFrame, pl.DataFrame], columns: Sequence[ColumnBins]
) -> tuple[RowFeatures, RowFeatures]:
    """What each row adds to the sums of its unit, in both windows."""
    waves = _embed_vectors(windows)
    scores = next(bins for bins in columns if bins.column.name == "score")
    features = [
        RowFeatures(
            _stack_bins([bins.codes[number] for bins in columns], [bins.num_bins for bins in columns]),
            waves[number],
            window["embedding"].is_not_null().to_numpy(),
            _count_clicks(window, scores.codes[number], scores.num_bins),
        )
        for number, window in enumerate(windows)
    ]
    return features[0], features[1]


def sum_by_unit(features: RowFeatures, units: Units, rows: BoolArray) -> UserCounts:
    """Sums the features of the chosen rows by unit."""
    chosen = np.flatnonzero(rows)
    ones = np.ones(len(chosen), dtype=np.float32)
    assign = sparse.csr_array(
        (ones, (units.numbers[chosen], np.arange(len(chosen)))), shape=(units.num_units, len(chosen))
    )
    has_vector = features.has_vector[chosen]
    vectors = np.stack([has_vector, ~has_vector], axis=1).astype(np.float32)
    clicks = (assign @ features.clicks[chosen]).toarray()
    return UserCounts(
        (assign @ features.bins[chosen]).toarray(),
        np.asarray(assign @ features.waves[chosen]),
        np.asarray(assign @ vectors),
        clicks.reshape(units.num_units, 2, -1),
    )


def count_items(
    windows: tuple[pl.DataFrame, pl.DataFrame], units: tuple[Units, Units]
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """[U, I] rows of each item by unit; the items beyond the most shown ones are left out."""
    items = pl.concat([window["item_id"] for window in windows])
    counts = items.value_counts(sort=True).sort(["count", "item_id"], descending=[True, False])
    numbers = {item_id: number for number, item_id in enumerate(counts["item_id"].head(MAX_ITEMS))}
    tables = []
    for window, window_units in zip(windows, units, strict=True):
        codes = window["item_id"].replace_strict(numbers, default=None, return_dtype=pl.Int64)
        rows = codes.is_not_null().to_numpy()
        places = (window_units.numbers[rows], codes.drop_nulls().to_numpy())
        shape = (window_units.num_units, len(numbers))
        tables.append(sparse.csr_array((np.ones(int(rows.sum()), np.float32), places), shape=shape))
    return tables[0], tables[1]


def list_slices(windows: tuple[pl.DataFrame, pl.DataFrame]) -> Mapping[str, tuple[BoolArray, BoolArray]]:
    """Slice -> its rows in both windows; `all` comes first."""
    slices: dict[str, tuple[BoolArray, BoolArray]] = {
        "all": (np.ones(len(windows[0]), dtype=bool), np.ones(len(windows[1]), dtype=bool))
    }
    for dimension, most in (("category", 12), ("scene", 6), ("arm", 4)):
        labels = pl.concat([window[dimension].drop_nulls() for window in windows])
        counts = labels.value_counts(sort=True).sort(["count", dimension], descending=[True, False])
        if len(counts) < 2:
            continue
        for label in counts[dimension].head(most):
            reference, current = (
                (window[dimension] == label).fill_null(False).to_numpy() for window in windows
            )
            slices[f"{dimension} {label}"] = reference, current
    for name, flag in (("new users", 1.0), ("known users", 0.0)):
        reference, current = (
            (window["is_new_user"] == flag).fill_null(False).to_numpy() for window in windows
        )
        slices[name] = reference, current
    return slices


def _stack_bins(codes: Sequence[IntArray], num_bins: Sequence[int]) -> sparse.csr_array:
    starts = np.concatenate([[0], np.cumsum(num_bins)])
    rows = [np.flatnonzero(code >= 0) for code in codes]
    places = [start + code[row] for start, code, row in zip(starts[:-1], codes, rows, strict=True)]
    all_rows, all_places = np.concatenate(rows), np.concatenate(places)
    ones = np.ones(len(all_rows), dtype=np.float32)
    return sparse.csr_array((ones, (all_rows, all_places)), shape=(len(codes[0]), int(starts[-1])))


def _count_clicks(window: pl.DataFrame, score_codes: IntArray, num_bins: int) -> sparse.csr_array:
    """[N, 2 S]: settled rows by bin of their score, then the clicked ones; without a score there are none."""
    is_settled = window["click"].is_not_null().to_numpy() & (score_codes < num_bins - 1)
    is_clicked = is_settled & window["click"].fill_null(False).to_numpy()
    rows = [np.flatnonzero(is_settled), np.flatnonzero(is_clicked)]
    places = [score_codes[rows[0]], num_bins + score_codes[rows[1]]]
    all_rows, all_places = np.concatenate(rows), np.concatenate(places)
    ones = np.ones(len(all_rows), dtype=np.float32)
    return sparse.csr_array((ones, (all_rows, all_places)), shape=(len(window), 2 * num_bins))


def _embed_vectors(windows: tuple[pl.DataFrame, pl.DataFrame]) -> list[FloatArray]:
    """Random Fourier features of the item vectors: the distance of their means is that of the distributions.

    It is the maximum mean discrepancy with a Gaussian kernel (Gretton et al., "A kernel two-sample test",
    JMLR 2012; Rahimi, Recht, NIPS 2007), as wide as the reference's median distance. Vectors of another
    length, or with a number that is not finite, count as missing; the caller tells the first by itself.
    """
    lengths = pl.concat([window["embedding"].list.len() for window in windows]).drop_nulls()
    if lengths.is_empty():
        return [np.zeros((len(window), 0), dtype=np.float32) for window in windows]
    dim = int(lengths.to_numpy().max())
    matrices = []
    for window in windows:
        vectors = np.zeros((len(window), dim), dtype=np.float32)
        has_vector = window["embedding"].is_not_null().to_numpy()
        present = window["embedding"].drop_nulls()
        if len(present):
            vectors[has_vector] = present.list.to_array(dim).to_numpy()
        matrices.append((vectors, has_vector))
    rng = np.random.default_rng(SAMPLING_SEED)
    vectors, has_vector = matrices[0] if matrices[0][1].any() else matrices[1]
    rows = np.flatnonzero(has_vector)
    pairs = rng.choice(rows, size=(2, _MAX_PAIRS))
    squares = ((vectors[pairs[0]] - vectors[pairs[1]]) ** 2).sum(axis=1)
    width = np.sqrt(max(float(np.median(squares[squares > 0])) if (squares > 0).any() else 1.0, 1e-12))
    directions = rng.standard_normal((dim, _NUM_WAVES)).astype(np.float32) / np.float32(width)
    phases = rng.uniform(0, 2 * np.pi, _NUM_WAVES).astype(np.float32)
    scale = np.float32(np.sqrt(2 / _NUM_WAVES))
    return [
        np.where(rows[:, None], np.cos(matrix @ directions + phases) * scale, np.float32(0))
        for matrix, rows in matrices
    ]
