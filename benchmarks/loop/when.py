"""When reasoning pays: what knowledge and inferred behaviors bring, by shop, by user and by page.

One shop for each point: the demo's, with one thing changed. Both gains are exact lifts in clicks.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from benchmarks.loop.page_truth import find_new_users, judge_pages, lift, rank_top
from benchmarks.loop.prepared_shop import NUM_QUICK_VISITS, NUM_VISITS, PreparedShop, prepare_shop
from benchmarks.loop.rankers import QUICK_SHOPS
from benchmarks.loop.scored_rankers import RANKERS, UNTRIED, describe_ranker, score_ranker_once
from benchmarks.shared.results import Row, make_row
from contracts.array_types import BoolArray, DoubleArray
from simulation.config import SimulationConfig
from simulation.true_outcomes import RequestBatch

_SEED: Final = 7
POINTS: Final[dict[str, dict[str, float]]] = {
    "items_600": {"num_items": 600},
    "items_1200": {},
    "items_3000": {"num_items": 3_000},
    "items_6000": {"num_items": 6_000},
    "new_items_5": {"new_item_share": 0.05},
    "new_items_40": {"new_item_share": 0.4},
    "elsewhere_0": {"elsewhere_factor": 0.0},
    "elsewhere_2": {"elsewhere_factor": 2.0},
}
"""Point -> what differs from the small shop: 1,200 items, 15 % of them new, factor 1."""
GAINS: Final = {
    "knowledge": ("without_inferred", "strong"),
    "inferred": (UNTRIED, "without_inferred"),
}
"""Gain -> ranker over ranker."""


def measure_when(*, quick: bool) -> list[Row]:
    """Rows of all points, gains and slices; `quick`: the quick shop alone."""
    configs = {
        f"when-{point.replace('_', '-')}": SimulationConfig.model_validate(
            {"seed": _SEED, "num_items": 1200, **changes}
        )
        for point, changes in POINTS.items()
    }
    num_visits = NUM_VISITS
    if quick:
        configs, num_visits = QUICK_SHOPS, NUM_QUICK_VISITS
    rows: list[Row] = []
    for name, config in configs.items():
        point = name.removeprefix("when-").replace("-", "_")
        # The small shop is measured by `rankers` already.
        shop = f"small-{_SEED}" if point == "items_1200" else name
        rows += measure_point(point, prepare_shop(shop, config, num_visits=num_visits))
    return rows


def measure_point(point: str, prepared: PreparedShop) -> Iterator[Row]:
    """The gains of one shop, of all its visits and of slices of them."""
    visits = prepared.draw_visits()
    clicks = measure_clicks(prepared, visits)
    users = visits.visits.users
    impressions = float(visits.item_impressions.mean())
    for slice_name, is_inside in slice_visits(visits).items():
        for gain, (ours, theirs) in GAINS.items():
            if not is_inside.any():
                continue
            one = lift(clicks[ours][is_inside], clicks[theirs][is_inside], users[is_inside])
            print(
                f"{point:14} {slice_name:9} {gain:9} {one.value:+.1%} [{one.low:+.1%}, {one.high:+.1%}]",
                flush=True,
            )
            data = (
                f"simulated shop {point}, {slice_name} visits, {impressions:.0f} impressions a candidate, "
                f"95 % interval {one.low:+.1%} to {one.high:+.1%}"
            )
            row_id = f"loop.when.{point}.{slice_name}.{gain}"
            yield make_row(row_id, one.value, unit="relative lift", data=data, seeds=[_SEED])


def measure_clicks(prepared: PreparedShop, visits: RequestBatch) -> Mapping[str, DoubleArray]:
    """Ranker -> exact clicks of each visit, [R]."""
    shape = visits.candidates.shape
    wanted_rankers = {name for pair in GAINS.values() for name in pair}
    scores = {
        name: score_ranker_once(prepared, name, describe_ranker(RANKERS[name])).truth.score
        for name in sorted(wanted_rankers)
    }
    return {name: judge_pages(visits, rank_top(flat.reshape(shape))).clicks for name, flat in scores.items()}


def slice_visits(visits: RequestBatch) -> dict[str, BoolArray]:
    """Slice -> [R] is the visit in it?"""
    is_new = find_new_users(visits)
    return {
        "all": np.ones(len(is_new), dtype=bool),
        "new_users": is_new,
        "known_users": ~is_new,
        "home": visits.scenes == "home",
        "search": visits.scenes == "search",
    }
