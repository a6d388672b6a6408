"""Rounds of the loop: serve a week, collect what was served, learn from it, serve the next week.

Several loops live through the same weeks, each in a shop of its own. The simulator lets the same people come
with the same luck, so loops are compared page by page. What a page brings is exact, whatever luck gave.

A loop that was killed goes on from its last day.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.loop.loop_models import (
    LoopLog,
    ServedModel,
    open_first_model,
    refresh_model,
    retrain_model,
)
from benchmarks.loop.loop_weeks import LoopFolder, serve_day
from benchmarks.loop.page_truth import (
    Lift,
    average_lifts,
    format_lifts,
    lift,
    measure_concentration,
)
from benchmarks.loop.prepared_shop import NUM_QUICK_VISITS, NUM_VISITS, PreparedShop, prepare_shop
from benchmarks.loop.rankers import QUICK_SHOPS, SMALL_SHOPS
from benchmarks.shared.results import Row, digest_sources, make_row
from contracts.array_types import DoubleArray, IntArray
from contracts.digests import digest_value
from serving.config import ExplorationConfig
from simulation.config import LivingShopConfig
from simulation.living_shop import LivingShop

_EXPLORING: Final = ExplorationConfig(kind="epsilon", epsilon=0.1)
_DAYS_PER_ROUND: Final = 7
_SOURCES: Final = ("simulation", "models", "feature_repo/offline", "serving/served_log", "benchmarks/loop")


class LoopPolicy(NamedTuple):
    """How one loop serves and learns."""

    ranker: str
    """Of `scored_rankers.RANKERS`."""
    learns: bool
    """Is a new ranker trained each week? Otherwise only features are refreshed."""
    exploration: ExplorationConfig


LOOPS: dict[str, LoopPolicy] = {
    "full": LoopPolicy("full", True, _EXPLORING),
    "frozen": LoopPolicy("full", False, _EXPLORING),
    "control": LoopPolicy("ids", True, _EXPLORING),
    "greedy": LoopPolicy("full", True, ExplorationConfig()),
}


class ServedWeek(NamedTuple):
    """The pages of a week by the truth, [R] each."""

    users: IntArray
    clicks: DoubleArray
    greedy_clicks: DoubleArray
    """Of the same pages without exploration."""
    shown: IntArray
    """[R, K] catalogue rows."""
    num_items: int


def measure_rounds(*, quick: bool) -> list[Row]:
    """All rows of the rounds; `quick`: two rounds of one day in the quick shop."""
    shops, num_visits = (QUICK_SHOPS, NUM_QUICK_VISITS) if quick else (SMALL_SHOPS, NUM_VISITS)
    num_rounds, days_per_round = (2, 1) if quick else (5, _DAYS_PER_ROUND)
    weeks_by_shop = []
    for shop_name, config in shops.items():
        prepared = prepare_shop(shop_name, config, num_visits=num_visits)
        loops = {
            name: run_loop(prepared, name, policy, num_rounds=num_rounds, days_per_round=days_per_round)
            for name, policy in LOOPS.items()
        }
        weeks_by_shop.append({name: weeks[-1] for name, weeks in loops.items()})
    shop_text = "quick shop" if quick else "1,200 items"
    data = (
        f"simulated shop ({shop_text}), last of {num_rounds} rounds of {days_per_round} day(s), exact truth"
    )
    seeds = [config.seed for config in shops.values()]
    return [*make_gain_rows(weeks_by_shop, data, seeds), *make_catalogue_rows(weeks_by_shop, data, seeds)]


def run_loop(
    prepared: PreparedShop, name: str, policy: LoopPolicy, *, num_rounds: int, days_per_round: int
) -> list[ServedWeek]:
    """Runs one loop to its end, from where it was."""
    living_config = LivingShopConfig()
    settings = [policy.ranker, policy.learns, policy.exploration.model_dump(), living_config.model_dump()]
    key = digest_value([settings, digest_sources(*_SOURCES), prepared.training_set.name, days_per_round])
    folder = LoopFolder(prepared.folder / "rounds" / f"{name}-{key}")
    first_day = LivingShop.open_shop(prepared.shop, living_config).day
    weeks = []
    for number in range(num_rounds):
        days = range(first_day + number * days_per_round, first_day + (number + 1) * days_per_round)
        if not folder.has_day(days[-1]):
            living = folder.open_shop(prepared.shop, living_config, days[0])
            log = LoopLog(folder.event_log, folder.served_log, living)
            model = _make_model(prepared, log, policy, folder.name_round(number), number)
            for day in days:
                serve_day(prepared, folder, model, policy.exploration, living_config, day)
        weeks.append(_join_days(folder, days))
        print(f"{name}, round {number + 1}: {weeks[-1].clicks.mean():.4f} clicks a page", flush=True)
    return weeks


def _make_model(
    prepared: PreparedShop, log: LoopLog, policy: LoopPolicy, round_folder: Path, number: int
) -> ServedModel:
    first_model = open_first_model(prepared, policy.ranker)
    if number == 0:
        return first_model
    if policy.learns:
        return retrain_model(prepared, log, round_folder, policy.ranker)
    return refresh_model(prepared, log, round_folder, first_model)


def _join_days(folder: LoopFolder, days: range) -> ServedWeek:
    arrays = [folder.read_day(day) for day in days]
    joined = {
        name: np.concatenate([day[name] for day in arrays])
        for name in ("users", "clicks", "greedy_clicks", "shown")
    }
    return ServedWeek(**joined, num_items=int(arrays[-1]["num_items"]))


def make_gain_rows(
    weeks_by_shop: Sequence[Mapping[str, ServedWeek]], data: str, seeds: Sequence[int]
) -> list[Row]:
    """What the loop earns more in its last week, and what exploration costs and buys."""
    lifts: dict[str, list[Lift]] = {}
    for weeks in weeks_by_shop:
        full, greedy = weeks["full"], weeks["greedy"]
        compared_clicks = {
            "loop.rounds5.clicks_gain": (full.clicks, weeks["frozen"].clicks),
            "loop.rounds5.clicks_gain_over_control": (full.clicks, weeks["control"].clicks),
            "loop.exploration.gain": (full.greedy_clicks, greedy.clicks),
            # The other way round: what the same pages would have brought more.
            "loop.exploration.cost": (full.greedy_clicks, full.clicks),
        }
        for row_id, (ours, theirs) in compared_clicks.items():
            lifts.setdefault(row_id, []).append(lift(ours, theirs, full.users))
    averages = {row_id: average_lifts(of_shops) for row_id, of_shops in lifts.items()}
    print(format_lifts(averages), flush=True)
    return [
        make_row(
            row_id,
            [one.value for one in of_shops],
            unit="relative lift",
            better="lower" if row_id.endswith("cost") else "higher",
            data=f"{data}, 95 % interval {averages[row_id].low:+.1%} to {averages[row_id].high:+.1%}",
            seeds=seeds,
        )
        for row_id, of_shops in lifts.items()
    ]


def make_catalogue_rows(
    weeks_by_shop: Sequence[Mapping[str, ServedWeek]], data: str, seeds: Sequence[int]
) -> list[Row]:
    """How much of the catalogue each loop shows in its last week, and how unevenly."""
    rows = []
    for name in LOOPS:
        shown = [measure_concentration(weeks[name].shown, weeks[name].num_items) for weeks in weeks_by_shop]
        coverages, ginis = (list(values) for values in zip(*shown, strict=True))
        suffix = "" if name == "full" else f".{name}"
        rows += [
            make_row(
                f"loop.rounds5.catalogue_coverage{suffix}", coverages, unit="share", data=data, seeds=seeds
            ),
            make_row(
                f"loop.rounds5.gini{suffix}", ginis, unit="gini", better="lower", data=data, seeds=seeds
            ),
        ]
    return rows
