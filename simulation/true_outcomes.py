"""The exact truth for evaluations: expected clicks, orders and GMV of any order of any requests.

No luck is in it: a reaction depends on nothing but the item, its position and the visitor, so the expectation
of a page is a sum. An order counts when it is placed, whenever it arrives, and before returns.

Shape letters: R requests, C candidates of each, K items shown.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from contracts.errors import UserError
from simulation.page_visits import PAGE_SCENES, PageVisits
from simulation.user_choice import click_probability, list_examination_powers, order_probability

Objective = Literal["clicks", "orders", "gmv"]


class RequestBatch(NamedTuple):
    """Requests with their candidates, and what only the simulation knows of them."""

    request_ids: npt.NDArray[np.str_]
    """[R]"""
    visits: PageVisits
    """R of them."""
    candidates: IntArray
    """[R, C] catalogue rows; only the simulation reads them."""
    candidate_ids: npt.NDArray[np.str_]
    """[R, C] item ids, as the request gives them."""
    affinities: FloatArray
    """[R, C] what really attracts the visitor to each candidate, log-odds."""
    prices: DoubleArray
    """[R, C] in the shop's currency."""
    user_pages: IntArray
    """[R] pages that the user had opened before; 0 = a new user."""
    item_impressions: IntArray
    """[R, C] how often each candidate had been shown before; 0 = a new item."""
    item_ages: FloatArray
    """[R, C] days since each candidate could first be shown."""

    @property
    def scenes(self) -> npt.NDArray[np.str_]:
        """[R] scene of each request."""
        return np.array(PAGE_SCENES)[self.visits.scenes]

    def select_requests(self, rows: IntArray | BoolArray | slice) -> "RequestBatch":
        """Selects some of the requests."""
        columns = {name: column[rows] for name, column in self._asdict().items() if name != "visits"}
        return RequestBatch(visits=self.visits.select_visits(rows), **columns)


class ExpectedOutcomes(NamedTuple):
    """Expectations, one a request [R]; of single places [R, K] where `compute_place_outcomes` made them."""

    clicks: DoubleArray
    orders: DoubleArray
    gmv: DoubleArray
    """In the shop's currency."""


def expected_outcomes(batch: RequestBatch, ranked_slots: IntArray) -> ExpectedOutcomes:
    """Computes what each page brings, exactly.

    Args:
        batch: R requests.
        ranked_slots: [R, K] candidates shown, best first, as columns of `batch.candidate_ids`; -1 leaves a
            place empty.
    """
    return ExpectedOutcomes(*(values.sum(axis=1) for values in compute_place_outcomes(batch, ranked_slots)))


def compute_place_outcomes(batch: RequestBatch, ranked_slots: IntArray) -> ExpectedOutcomes:
    """Computes what each place of each page brings, [R, K]: for slices by item, such as new ones."""
    affinities = np.take_along_axis(batch.affinities, ranked_slots, axis=1)
    positions = np.arange(ranked_slots.shape[1])
    clicks = click_probability(affinities, positions, list_examination_powers(batch.visits)).astype(
        np.float64
    )
    clicks *= ranked_slots >= 0
    orders = clicks * order_probability(affinities)
    return ExpectedOutcomes(clicks, orders, orders * np.take_along_axis(batch.prices, ranked_slots, axis=1))


def rank_by_truth(batch: RequestBatch, size: int, objective: Objective = "clicks") -> IntArray:
    """Ranks candidates as an oracle would, [R, size] slots. No order of them brings more of the objective."""
    first_place = np.zeros(batch.affinities.shape, dtype=np.int64)
    clicks = click_probability(batch.affinities, first_place)
    orders = clicks * order_probability(batch.affinities)
    gains = {"clicks": clicks, "orders": orders, "gmv": orders * batch.prices}[objective]
    return np.asarray(np.argsort(-gains, axis=1, kind="stable")[:, :size], dtype=np.int64)


def rank_as_given(batch: RequestBatch, size: int) -> IntArray:
    """Leaves candidates in the order of the request, which tells nothing: [R, size] slots."""
    num_requests, num_candidates = batch.affinities.shape
    return np.tile(np.arange(min(size, num_candidates)), (num_requests, 1))


def locate_slots(batch: RequestBatch, rankings: Mapping[str, Sequence[str]], size: int) -> IntArray:
    """Finds the slots of ranked item ids, [R, size], -1 where a ranking is shorter.

    Args:
        batch: R requests.
        rankings: request id -> item ids, best first; a request that is not in it shows nothing.
        size: items of a page; what stands below is not shown.

    Raises:
        UserError: an item was not among the request's candidates, or stands twice in the ranking.
    """
    ranked_slots = np.full((len(batch.request_ids), size), -1, dtype=np.int64)
    for row, request_id in enumerate(batch.request_ids.tolist()):
        slot_of_item = {item_id: slot for slot, item_id in enumerate(batch.candidate_ids[row].tolist())}
        ranked_ids = list(rankings.get(request_id, ()))
        check_ranking(request_id, ranked_ids, slot_of_item)
        shown_slots = [slot_of_item[item_id] for item_id in ranked_ids[:size]]
        ranked_slots[row, : len(shown_slots)] = shown_slots
    return ranked_slots


def check_ranking(request_id: str, ranked_ids: Sequence[str], candidates: Mapping[str, object]) -> None:
    """Refuses a ranking that does not hold candidates once each.

    Raises:
        UserError: it names the request and the strange items.
    """
    unknown_ids = sorted(set(ranked_ids) - candidates.keys())
    if unknown_ids or len(set(ranked_ids)) != len(ranked_ids):
        raise UserError(
            f"a ranking of {request_id} must hold its candidates once each; strange: {unknown_ids}"
        )
