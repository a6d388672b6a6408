"""Rankings judged by the exact truth: what their pages bring, and how sure a difference is.

Shape letters: R visits, C candidates of each, K places, U users, B resamples.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from simulation.true_outcomes import RequestBatch, compute_place_outcomes

PAGE_SIZE: Final = 10
OUTCOMES: Final = ("clicks", "orders", "gmv")
NEW_ITEM_DAYS: Final = 14
"""An item is new for so long."""
NEW_USER_PAGES: Final = 3
"""A user is new who opened fewer pages than this."""
_NUM_RESAMPLES = 1_000
_SEED = 0


class Lift(NamedTuple):
    """How much more one ranker brings than another on the same visits, as a share of the other's."""

    value: float
    low: float
    """Lower end of the 95 % interval: users are drawn with replacement, with all their visits."""
    high: float
    resampled: DoubleArray
    """[B] the lift of each resample, to be averaged over shops."""


class PageOutcomes(NamedTuple):
    """Exact expectations of the pages of one ranker, [R] each."""

    clicks: DoubleArray
    orders: DoubleArray
    gmv: DoubleArray
    new_item_clicks: DoubleArray
    """Clicks on new items alone."""
    shown: IntArray
    """[R, K] catalogue rows on the pages."""


def rank_top(scores: FloatArray) -> IntArray:
    """The page of each visit, [R, K] slots, from scores [R, C]; of equal ones the first comes first."""
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :PAGE_SIZE], np.int64)


def judge_pages(visits: RequestBatch, slots: IntArray) -> PageOutcomes:
    """What pages [R, K] bring by the truth."""
    places = compute_place_outcomes(visits, slots)
    is_new = np.take_along_axis(visits.item_ages, slots, axis=1) < NEW_ITEM_DAYS
    return PageOutcomes(
        clicks=places.clicks.sum(1),
        orders=places.orders.sum(1),
        gmv=places.gmv.sum(1),
        new_item_clicks=(places.clicks * is_new).sum(1),
        shown=np.take_along_axis(visits.candidates, slots, axis=1),
    )


def find_new_users(visits: RequestBatch) -> BoolArray:
    """[R] is the visitor new?"""
    return np.asarray(visits.user_pages < NEW_USER_PAGES)


def lift(ours: DoubleArray, theirs: DoubleArray, users: IntArray) -> Lift:
    """Relative lift of one outcome with its paired interval.

    Args:
        ours: [R] what each visit brings.
        theirs: [R] the same of the other ranker.
        users: [R] user of each visit.
    """
    _, codes = np.unique(users, return_inverse=True)
    num_users = int(codes.max()) + 1
    user_sums = np.stack([np.bincount(codes, column, num_users) for column in (ours, theirs)], axis=1)
    our_sums, their_sums = (draw_user_weights(num_users) @ user_sums).T
    # A slice of few users may hold nothing of theirs in a resample.
    resampled = our_sums / np.maximum(their_sums, 1e-12) - 1
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Lift(float(ours.sum() / theirs.sum() - 1), float(low), float(high), resampled)


def draw_user_weights(num_users: int) -> DoubleArray:
    """[B, U] how often each user is drawn in each resample; the same each time."""
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(num_users, np.full(num_users, 1 / num_users), _NUM_RESAMPLES).astype(np.float64)


def average_lifts(lifts: Sequence[Lift]) -> Lift:
    """The mean lift over shops; their visitors are independent."""
    # Shops are resampled alike but for their users, so one shop's resamples are shuffled against another's.
    shuffled = [
        np.random.default_rng([_SEED, shop]).permutation(one.resampled) for shop, one in enumerate(lifts)
    ]
    resampled = np.mean(shuffled, axis=0)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Lift(float(np.mean([one.value for one in lifts])), float(low), float(high), resampled)


def share_between(full: DoubleArray, given: DoubleArray, oracle: DoubleArray) -> float:
    """How much of the way from the given order to the oracle a ranker goes."""
    return float((full.mean() - given.mean()) / (oracle.mean() - given.mean()))


def measure_concentration(shown: IntArray, num_items: int) -> tuple[float, float]:
    """Share of a catalogue of `num_items` that pages show, and the Gini coefficient of its impressions."""
    _, shown_counts = np.unique(shown[shown >= 0], return_counts=True)
    counts = np.zeros(num_items)
    counts[num_items - len(shown_counts) :] = np.sort(shown_counts)
    ranks = np.arange(1, num_items + 1)
    gini = float((2 * ranks - num_items - 1) @ counts / (num_items * counts.sum()))
    return float((counts > 0).mean()), gini


def format_lifts(lifts: Mapping[str, Lift]) -> str:
    """Lifts in one line."""
    return "  ".join(
        f"{name} {one.value:+.1%} [{one.low:+.1%}, {one.high:+.1%}]" for name, one in lifts.items()
    )
