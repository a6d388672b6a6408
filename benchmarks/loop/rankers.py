"""What the ranker's enhancements earn on the pages of simulated shops, by the exact truth.

Two kinds of shop: the small one of the demo's first days, and one with a long tail, where most items are
shown a dozen times. All rankers of a shop learn from the same log, and are judged on the same later visits.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.loop.lightgbm_peer import score_lightgbm_once
from benchmarks.loop.page_truth import (
    Lift,
    PageOutcomes,
    average_lifts,
    find_new_users,
    format_lifts,
    judge_pages,
    lift,
    rank_top,
    share_between,
)
from benchmarks.loop.prepared_shop import NUM_QUICK_VISITS, NUM_VISITS, PreparedShop, prepare_shop
from benchmarks.loop.scored_rankers import RANKERS, UNTRIED, describe_ranker, score_ranker_once
from benchmarks.shared.results import Row, make_row
from contracts.array_types import FloatArray, IntArray
from simulation.config import SimulationConfig
from simulation.true_outcomes import RequestBatch, rank_as_given, rank_by_truth

SEEDS = (7, 8, 9)
SMALL_SHOPS = {f"small-{seed}": SimulationConfig(seed=seed, num_items=1200) for seed in SEEDS}
TAIL_SHOPS = {
    f"tail-{seed}": SimulationConfig(seed=seed, num_items=12_000, num_users=4_000, exploration=0.1)
    for seed in SEEDS
}
QUICK_SHOPS = {"quick-7": SimulationConfig(seed=7, num_items=300, num_users=400, num_days=30)}
NAMES = {"clicks": "clicks", "orders": "orders", "gmv": "gmv"}
_LIGHTGBM, _GIVEN, _ORACLE = "lightgbm", "given", "oracle"


class JudgedShop(NamedTuple):
    """The pages of several rankers on the same visits."""

    visits: RequestBatch
    pages: Mapping[str, PageOutcomes]
    """Ranker -> what its pages bring."""

    def compare(self, ours: str, theirs: str, outcome: str = "clicks") -> Lift:
        """One ranker over another."""
        our_values, their_values = (getattr(self.pages[name], outcome) for name in (ours, theirs))
        return lift(our_values, their_values, self.visits.visits.users)

    def compare_new_users(self, ours: str, theirs: str) -> Lift:
        """Clicks of the visits of new users alone."""
        is_new = find_new_users(self.visits)
        our_clicks, their_clicks = (self.pages[name].clicks[is_new] for name in (ours, theirs))
        return lift(our_clicks, their_clicks, self.visits.visits.users[is_new])


def measure_small_shops(*, quick: bool) -> list[Row]:
    """What the ranker brings over ids, and its share of the oracle; `quick`: one shop of 300 items."""
    if quick:
        return make_small_rows(judge_shops(QUICK_SHOPS, NUM_QUICK_VISITS), "quick shop")
    return make_small_rows(judge_shops(SMALL_SHOPS, NUM_VISITS), "1,200 items, 2,000 users")


def measure_tail_shops(*, quick: bool) -> list[Row]:
    """What reasoning brings over a strong ranker where most items are rare; `quick`: as above."""
    if quick:
        return make_tail_rows(judge_shops(QUICK_SHOPS, NUM_QUICK_VISITS), "quick shop")
    return make_tail_rows(judge_shops(TAIL_SHOPS, NUM_VISITS), "12,000 items, 4,000 users")


def judge_shops(configs: Mapping[str, SimulationConfig], num_visits: int) -> list[JudgedShop]:
    """Prepares shops, trains their rankers and judges them."""
    return [judge_shop(prepare_shop(name, config, num_visits=num_visits)) for name, config in configs.items()]


def judge_shop(prepared: PreparedShop, rankers: Sequence[str] = tuple(RANKERS)) -> JudgedShop:
    """Judges rankers, LightGBM, the given order and the oracle on the visits of a shop."""
    visits = prepared.draw_visits()
    scores: dict[str, FloatArray] = {
        name: score_ranker_once(prepared, name, describe_ranker(RANKERS[name])).truth.score
        for name in rankers
    }
    scores[_LIGHTGBM] = score_lightgbm_once(prepared).truth.score
    slots = {name: rank_top(flat.reshape(len(visits.candidates), -1)) for name, flat in scores.items()}
    slots |= list_bounds(visits)
    judged = JudgedShop(visits, {name: judge_pages(visits, ranked) for name, ranked in slots.items()})
    print_pages(prepared.name, judged)
    return judged


def list_bounds(visits: RequestBatch) -> dict[str, IntArray]:
    """The order that tells nothing, and the best one."""
    return {_GIVEN: rank_as_given(visits, 10), _ORACLE: rank_by_truth(visits, 10)}


def print_pages(shop: str, judged: JudgedShop) -> None:
    """One line a ranker: what a page brings, and clicks over ids."""
    for name, pages in judged.pages.items():
        means = "  ".join(f"{outcome} {getattr(pages, outcome).mean():.4f}" for outcome in NAMES)
        over_ids = format_lifts({"over ids": judged.compare(name, "ids")})
        print(f"{shop} {name:17} {means}  {over_ids}", flush=True)


def make_small_rows(shops: Sequence[JudgedShop], shop_text: str) -> list[Row]:
    """The rows of the small shops."""
    rows: list[Row] = []
    for outcome in NAMES:
        rows += make_lift_rows(
            f"loop.shop.full_over_ids.{outcome}",
            [shop.compare("full", "ids", outcome) for shop in shops],
            shop_text,
        )
    for theirs in ("strong", _LIGHTGBM):
        for outcome in NAMES:
            lifts = [shop.compare("full", theirs, outcome) for shop in shops]
            rows += make_lift_rows(f"loop.small_shop.full_over_{theirs}.{outcome}", lifts, shop_text)
    of_inferred = [shop.compare(UNTRIED, "without_inferred") for shop in shops]
    rows += make_lift_rows("loop.small_shop.inferred_untried.clicks", of_inferred, shop_text)
    shares = [
        share_between(*(shop.pages[name].clicks for name in ("full", _GIVEN, _ORACLE))) for shop in shops
    ]
    rows.append(
        make_row(
            "loop.shop.share_of_oracle", shares, unit="share", data=describe_data(shop_text), seeds=SEEDS
        )
    )
    return rows


def make_tail_rows(shops: Sequence[JudgedShop], shop_text: str) -> list[Row]:
    """The rows of the long-tail shops."""
    lifts = {
        "loop.shop.full_over_strong.ipv": [shop.compare("full", "strong") for shop in shops],
        "loop.shop.full_over_strong.orders": [shop.compare("full", "strong", "orders") for shop in shops],
        "loop.shop.full_over_strong.gmv": [shop.compare("full", "strong", "gmv") for shop in shops],
        "loop.shop.full_over_lightgbm.clicks": [shop.compare("full", _LIGHTGBM) for shop in shops],
        "loop.inferred.clicks_gain": [shop.compare("full", "without_inferred") for shop in shops],
        "loop.inferred.untried_clicks_gain": [shop.compare(UNTRIED, "without_inferred") for shop in shops],
        "loop.new_items.clicks_gain": [shop.compare("full", "strong", "new_item_clicks") for shop in shops],
        "loop.new_users.clicks_gain": [shop.compare_new_users("full", "strong") for shop in shops],
    }
    return [row for row_id, of_shops in lifts.items() for row in make_lift_rows(row_id, of_shops, shop_text)]


def make_lift_rows(row_id: str, lifts: Sequence[Lift], shop_text: str) -> list[Row]:
    """A row for the mean lift over shops, and one for the lower end of its interval."""
    average = average_lifts(lifts)
    print(f"{row_id} {format_lifts({'': average})}", flush=True)
    seeds, data = SEEDS[: len(lifts)], describe_data(shop_text)
    sd = float(np.std([one.value for one in lifts], ddof=1)) if len(lifts) > 1 else None
    return [
        make_row(row_id, average.value, unit="relative lift", data=data, seeds=seeds, sd=sd),
        make_row(
            f"{row_id}_low",
            average.low,
            unit="relative lift",
            data=f"{data}, lower end of the 95 % interval",
            seeds=seeds,
        ),
    ]


def describe_data(shop_text: str) -> str:
    """What the rows were measured on."""
    return f"simulated shop ({shop_text}), exact expectations of visits after the log, top 10 of 50"
