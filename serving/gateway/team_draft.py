"""Team draft: two rankers share a page, and clicks tell whose items were wanted.

Radlinski, Kurup, Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008. In each round
a coin says who picks first, and both pick their best item that is left. The coins are a hash of the
request's id, so a retry shows the same page.
"""

import hashlib
from typing import Final, NamedTuple

import numpy as np

from contracts.array_types import BoolArray, FloatArray
from serving.gateway.exploration import PageOrder, order_by_score
from serving.triton.triton_client import ModelOutputs

CONTROL_TEAM: Final = "control"
CHALLENGER_TEAM: Final = "challenger"


class DraftedPage(NamedTuple):
    """A page of two rankers."""

    order: PageOrder
    """Rows, and the probability of each at its place, given those above it, over the coins."""
    is_challengers: BoolArray
    """[P] whether the challenger picked it."""

    @property
    def teams(self) -> list[str]:
        """Whose pick each place is."""
        return [CHALLENGER_TEAM if picked else CONTROL_TEAM for picked in self.is_challengers.tolist()]


def draft_page(
    control_scores: FloatArray, challenger_scores: FloatArray, *, request_id: str, limit: int | None
) -> DraftedPage:
    """Drafts a page.

    Args:
        control_scores: [C], higher is better; of equal ones the first comes first.
        challenger_scores: [C], of the same candidates.
        request_id: seeds the coins.
        limit: places of the page; None shows all.
    """
    num_places = len(control_scores) if limit is None else min(limit, len(control_scores))
    coins = _toss_coins(request_id, (num_places + 1) // 2)
    choices = [
        order_by_score(scores, limit=None).rows.tolist() for scores in (control_scores, challenger_scores)
    ]
    places = [0, 0]
    taken: set[int] = set()
    rows: list[int] = []
    teams: list[int] = []
    propensities: list[float] = []

    def find_best(team: int) -> int:
        while choices[team][places[team]] in taken:
            places[team] += 1
        return int(choices[team][places[team]])

    is_first_open = True
    for place in range(num_places):
        best = (find_best(0), find_best(1))
        is_second_pick = place % 2 == 1
        team = 1 - teams[-1] if is_second_pick else int(coins[place // 2])
        row = best[team]
        # The second pick is certain, unless both wanted the first item: then nobody can tell who picked it.
        is_open = is_first_open if is_second_pick else True
        propensities.append(0.5 * ((best[0] == row) + (best[1] == row)) if is_open else 1.0)
        is_first_open = best[0] == best[1]
        taken.add(row)
        rows.append(row)
        teams.append(team)
    order = PageOrder(np.array(rows, np.int64), np.array(propensities))
    return DraftedPage(order, np.array(teams, np.bool_))


def merge_outputs(control: ModelOutputs, challenger: ModelOutputs, page: DraftedPage) -> ModelOutputs:
    """Each item's outputs of the ranker that picked it; only what both have."""
    is_challengers = np.zeros(len(control["score"]), np.bool_)
    is_challengers[page.order.rows] = page.is_challengers
    return {
        name: np.where(is_challengers, challenger[name], values)
        for name, values in control.items()
        if name in challenger
    }


def _toss_coins(request_id: str, count: int) -> BoolArray:
    digest = hashlib.shake_256(f"team draft\0{request_id}".encode()).digest((count + 7) // 8)
    return np.unpackbits(np.frombuffer(digest, np.uint8))[:count].astype(np.bool_)
