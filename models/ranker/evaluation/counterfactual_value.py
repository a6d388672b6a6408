"""What pages would earn if another ranker had made them, estimated from the pages that were shown.

A shown list is a sample of what its request could have shown. The ranker orders it, and the places that it
gives are stretched to those of the pool that a request brings: of `pool_factor` x n candidates a page shows
the best n. Each click, order and revenue counts by examination at the new place over that at the old one
(position-based model; Joachims et al., WSDM 2017; Swaminathan and Joachims, "The self-normalized estimator",
NeurIPS 2015). The doubly robust estimate adds what a model expects and weighs only its errors
(Dudik et al., "Doubly robust policy evaluation", ICML 2011).

Legend: N lists, M candidates of all lists, P places.
"""

from typing import NamedTuple

import numpy as np

from contracts.array_types import DoubleArray, FloatArray, IntArray
from models.ranker.evaluation.exported_ranker import CandidateScores
from models.ranker.lists.mapped_lists import RankingLists

OUTCOMES = ("clicks", "orders", "value")
_LARGEST_WEIGHT = 10.0


class PageValues(NamedTuple):
    """Estimates for each list, [N]."""

    estimates: dict[str, DoubleArray]
    """Outcome -> doubly robust estimate of each list."""
    weighted: dict[str, DoubleArray]
    """Outcome -> self-normalized importance-weighted estimate; its mean is the estimate."""
    effective_lists: float
    """Lists that the weights are worth: (sum of weights)^2 / (sum of squares), in lists."""


def estimate_page_values(
    lists: RankingLists,
    scores: FloatArray,
    examination: DoubleArray,
    expected: dict[str, FloatArray],
    *,
    pool_factor: float,
) -> PageValues:
    """Estimates what each list's page would earn in the order of `scores`.

    Args:
        lists: shown lists, in the order in which they were shown.
        scores: [M] the ranker's.
        examination: [P] of `examination.estimate_examination`.
        expected: outcome -> [M] what a reference model expects of each candidate at the first place.
        pool_factor: candidates of a request over those that its page shows.
    """
    offsets = np.asarray(lists.offsets)
    num_lists, counts = len(offsets) - 1, np.diff(offsets)
    list_numbers = np.repeat(np.arange(num_lists), counts)
    old_places = np.arange(len(list_numbers)) - offsets[list_numbers]
    order = np.lexsort((-scores, list_numbers))
    new_places = np.empty_like(old_places)
    new_places[order] = old_places
    new_looks = _stretch_places(examination, new_places, counts[list_numbers], pool_factor)
    old_looks = examination[np.minimum(old_places, len(examination) - 1)]
    weights = np.minimum(new_looks / old_looks, _LARGEST_WEIGHT)
    labels = {
        "clicks": np.asarray(lists.clicks, np.float64),
        "orders": np.asarray(lists.orders, np.float64),
        "value": np.asarray(lists.values, np.float64),
    }
    # Of all places of all lists the weights should come to this.
    normalizer = new_looks.sum() / max((weights * old_looks).sum(), 1e-12)
    estimates: dict[str, DoubleArray] = {}
    weighted: dict[str, DoubleArray] = {}
    for outcome, observed in labels.items():
        model = expected[outcome].astype(np.float64)
        corrections = new_looks * model + weights * (observed - old_looks * model)
        estimates[outcome] = np.bincount(list_numbers, corrections, num_lists).astype(np.float64)
        weighted[outcome] = normalizer * np.bincount(list_numbers, weights * observed, num_lists)
    shares = weights.sum() ** 2 / max((weights**2).sum(), 1e-12) / max(len(weights), 1)
    return PageValues(estimates, weighted, float(shares * num_lists))


def expect_outcomes(
    lists: RankingLists, scores: CandidateScores, examination: DoubleArray
) -> dict[str, FloatArray]:
    """What a ranker expects of each candidate at the first place, [M] by outcome.

    Its probabilities are those of the places where items were shown, and it may be off as a whole: they are
    scaled so that it expects of these lists what they brought.
    """
    offsets = np.asarray(lists.offsets)
    places = np.arange(len(lists.candidates)) - np.repeat(offsets[:-1], np.diff(offsets))
    looks = examination[np.minimum(places, len(examination) - 1)]
    expectations = {}
    for outcome, probability, observed in (
        ("clicks", scores.click, lists.clicks),
        ("orders", scores.order, lists.orders),
        ("value", scores.order if scores.value is None else scores.value, lists.values),
    ):
        expected_sum = float((looks * probability).sum())
        scale = float(np.asarray(observed, np.float64).sum()) / expected_sum if expected_sum else 0.0
        expectations[outcome] = np.asarray(scale * probability, np.float32)
    return expectations


def _stretch_places(
    examination: DoubleArray, places: IntArray, counts: IntArray, pool_factor: float
) -> DoubleArray:
    """Looks that a candidate gets whose place among n stands for the `pool_factor` places from there on."""
    # Cumulated, a stretch of any length is a difference; beyond the page nobody looks.
    cumulated = np.concatenate([[0.0], np.cumsum(examination)])
    ends = np.arange(len(cumulated))
    start, stop = places * pool_factor, (places + 1) * pool_factor
    page = np.minimum(counts, len(examination)).astype(np.float64)
    looks = np.interp(np.minimum(stop, page), ends, cumulated) - np.interp(
        np.minimum(start, page), ends, cumulated
    )
    return np.asarray(looks, np.float64)
