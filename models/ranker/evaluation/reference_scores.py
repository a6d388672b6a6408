"""Scores that know nothing or little of the user, measured on the same lists as the models.

Chance, popularity, newness and recency show whether lists can be won without knowing the user. On sampled
lists they must not: the gate refuses to decide where one of them is surely away from chance. EASE is the
closed form that every model should beat (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW
2019).

Legend: N lists, M candidates of all lists, H history, I items with training behaviors.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy.sparse as sp
from scipy.linalg import lapack

from contracts.array_types import DoubleArray, FloatArray, IntArray
from models.ranker.evaluation.measure_ranker import average_measured
from models.ranker.evaluation.paired_bootstrap import MetricComparison, compare_rankers
from models.ranker.evaluation.ranking_metrics import compute_auc, compute_gauc, measure_lists
from models.ranker.inputs.item_encoder import FIRST
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import RankingLists

CHANCE, EASE = "chance", "EASE"
MAX_LEAK = 0.005
"""NDCG@10 away from chance that a score without the user may surely be: a tenth of what chance has among 100
candidates. Even good lists are a little off, since negatives are a little later than their target."""
MAX_EASE_ITEMS = 20_000
"""EASE inverts a matrix of items by items: 1.6 GB and some minutes for this many."""
_EASE_PENALTY = 100.0
_LISTS_PER_PRODUCT = 256


class ReferenceScores(NamedTuple):
    """What the references did on the lists of one protocol."""

    summaries: dict[str, dict[str, float]]
    """Reference -> metric -> value."""
    from_chance: dict[str, MetricComparison]
    """Score without the user -> its NDCG@10 against chance."""
    notes: list[str]
    """Why a reference is absent."""


class EaseWeights(NamedTuple):
    """EASE of the training part."""

    weights: FloatArray
    """[I, I], what having an item says of another."""
    item_places: IntArray
    """Row of the item table -> place among the I items; -1 for an item without training behavior."""


def measure_references(
    lists: RankingLists,
    users: IntArray,
    activity: ItemActivity,
    ease: EaseWeights | str,
    *,
    full_size: int | None,
    num_bootstrap: int,
) -> ReferenceScores:
    """Measures every reference on the lists of one protocol.

    Args:
        lists: the lists.
        users: user of each list, [N], counted from 0.
        activity: the behaviors of all users.
        ease: of `fit_ease`, or why there is none.
        full_size: as in `measure_lists`.
        num_bootstrap: resamples of users.
    """
    offsets, clicks = np.asarray(lists.offsets), np.asarray(lists.clicks)
    candidate_users = np.repeat(users, np.diff(offsets))
    summaries: dict[str, dict[str, float]] = {}
    from_chance: dict[str, MetricComparison] = {}
    chance = np.zeros(0)
    for name, scores in _iterate_scores(lists, activity, ease):
        per_list = measure_lists(scores, clicks, offsets, full_size=full_size)
        metrics = {
            "auc": compute_auc(scores, clicks),
            "gauc": compute_gauc(scores, clicks, candidate_users),
            "ndcg10": average_measured(per_list.ndcg),
            "hr10": average_measured(per_list.hit_rate),
        }
        summaries[name] = {metric: value for metric, value in metrics.items() if not np.isnan(value)}
        if name == CHANCE:
            chance = per_list.ndcg
        elif name != EASE:
            from_chance[name] = compare_rankers(per_list.ndcg, chance, users, num_bootstrap=num_bootstrap)
    return ReferenceScores(summaries, from_chance, [ease] if isinstance(ease, str) else [])


def describe_leaks(from_chance: Mapping[str, MetricComparison]) -> list[str]:
    """A sentence for each score without the user that is surely away from chance."""
    return [
        f"{name} alone has NDCG@10 {comparison.ours:.4f} where chance has {comparison.theirs:.4f} "
        f"[{comparison.low:+.4f}, {comparison.high:+.4f}], at most {MAX_LEAK:g} is allowed: these lists can "
        "be won without knowing the user; give smaller lists.window and lists.eval_negatives, or a log that "
        "says what was shown"
        for name, comparison in from_chance.items()
        if comparison.low > MAX_LEAK or comparison.high < -MAX_LEAK
    ]


def fit_ease(training_behaviors: pl.DataFrame, item_id_enum: pl.Enum) -> EaseWeights | str:
    """EASE of who had what before the training end, or why there is none."""
    pairs = training_behaviors.select("user_id", "item_id").unique()
    item_codes = pairs["item_id"].cast(item_id_enum, strict=False).to_physical().cast(pl.Int64)
    is_listed = item_codes.is_not_null()
    item_rows = item_codes.filter(is_listed).to_numpy() + FIRST
    user_rows = (pairs["user_id"].filter(is_listed).rank("dense").cast(pl.Int64) - 1).to_numpy()
    met_rows, places = np.unique(item_rows, return_inverse=True)
    if not len(met_rows):
        return "EASE: no item of the catalogue has a training behavior"
    if len(met_rows) > MAX_EASE_ITEMS:
        return (
            f"EASE: {len(met_rows):,} items have training behaviors, at most {MAX_EASE_ITEMS:,} fit a matrix "
            "of items by items"
        )
    owned = sp.csr_matrix((np.ones(len(places), np.float32), (user_rows, places)))
    item_places = np.full(len(item_id_enum.categories) + FIRST, -1)
    item_places[met_rows] = np.arange(len(met_rows))
    return EaseWeights(_solve_ease((owned.T @ owned).toarray(order="F")), item_places)


def _solve_ease(gram: FloatArray) -> FloatArray:
    """B = I - P / diag(P) with P = (X'X + penalty I)^-1, eq. 8; works in place, since it may be large."""
    np.fill_diagonal(gram, gram.diagonal() + np.float32(_EASE_PENALTY))
    factor, _ = lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    # Only the lower triangle is written.
    for column in range(len(inverse)):
        inverse[column, column + 1 :] = inverse[column + 1 :, column]
    inverse /= -inverse.diagonal()
    np.fill_diagonal(inverse, 0)
    return np.asarray(inverse, np.float32)


def _iterate_scores(
    lists: RankingLists, activity: ItemActivity, ease: EaseWeights | str
) -> Iterator[tuple[str, DoubleArray | FloatArray]]:
    """Name and scores [M] of each reference, chance first."""
    yield CHANCE, np.zeros(len(lists.candidates))
    measures: dict[tuple[str, str], Callable[[RankingLists, ItemActivity], DoubleArray]] = {
        ("popularity", "minus popularity"): _count_behaviors,
        ("newness", "minus newness"): _find_first_times,
        ("recency", "minus recency"): _find_last_times,
    }
    for (name, opposite), measure in measures.items():
        scores = measure(lists, activity)
        yield name, scores
        yield opposite, -scores
    if not isinstance(ease, str):
        yield EASE, _score_by_ease(lists, ease)


def _count_behaviors(lists: RankingLists, activity: ItemActivity) -> DoubleArray:
    """Behaviors of all users with each candidate before its list, [M]."""
    first_places, places, _ = _locate_candidates(lists, activity)
    return np.asarray(places - first_places, np.float64)


def _find_first_times(lists: RankingLists, activity: ItemActivity) -> DoubleArray:
    """Time of each candidate's first behavior, the list's own time where it has none, [M]."""
    first_places, places, moments = _locate_candidates(lists, activity)
    return np.where(places > first_places, _read_times(lists, activity, first_places), moments)


def _find_last_times(lists: RankingLists, activity: ItemActivity) -> DoubleArray:
    """Time of each candidate's last behavior before the list, before all others where it has none, [M]."""
    first_places, places, _ = _locate_candidates(lists, activity)
    return np.where(places > first_places, _read_times(lists, activity, places - 1), -1.0)


def _locate_candidates(lists: RankingLists, activity: ItemActivity) -> tuple[IntArray, IntArray, DoubleArray]:
    """Of each candidate: the place of its first behavior, that behind its last one before the list, and the
    list's time since the log's start, each [M]."""
    first_keys = np.asarray(lists.candidates, np.int64) * activity.span_s
    moments = np.clip(np.asarray(lists.times_s) - activity.start_s, 0, activity.span_s - 1)
    candidate_moments = np.repeat(moments, np.diff(lists.offsets))
    first_places = np.searchsorted(activity.keys, first_keys)
    places = np.searchsorted(activity.keys, first_keys + candidate_moments)
    return first_places, places, candidate_moments.astype(np.float64)


def _read_times(lists: RankingLists, activity: ItemActivity, places: IntArray) -> DoubleArray:
    """Time since the log's start of the behavior at each candidate's place, [M]."""
    if not len(activity.keys):
        return np.zeros(len(places))
    first_keys = np.asarray(lists.candidates, np.int64) * activity.span_s
    keys = activity.keys[np.clip(places, 0, len(activity.keys) - 1)]
    return np.asarray(keys - first_keys, np.float64)


def _score_by_ease(lists: RankingLists, ease: EaseWeights) -> FloatArray:
    """What the history says of each candidate, [M]; 0 for an item that training did not meet."""
    scores = np.zeros(len(lists.candidates), np.float32)
    num_items = len(ease.weights)
    for start in range(0, len(lists), _LISTS_PER_PRODUCT):
        stop = min(start + _LISTS_PER_PRODUCT, len(lists))
        history_places = ease.item_places[np.asarray(lists.history[start:stop])]
        rows, columns = np.nonzero(history_places >= 0)
        owned = sp.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, history_places[rows, columns])),
            shape=(stop - start, num_items),
        )
        # Twice bought is owned once, as in training.
        owned.data[:] = 1
        affinities = np.asarray(owned @ ease.weights)
        flat = slice(lists.offsets[start], lists.offsets[stop])
        list_rows = np.repeat(np.arange(stop - start), np.diff(lists.offsets[start : stop + 1]))
        places = ease.item_places[np.asarray(lists.candidates[flat])]
        scores[flat] = np.where(places >= 0, affinities[list_rows, places], 0)
    return scores
