"""How many users does interleaving save, for the same difference of two rankers at the same power?

Users, tastes and rankers are simulated: each user wants some items more than others, both rankers guess them
with an error of their own, users look at the top places and click on what they want.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.shared.results import Row, make_row
from contracts.array_types import DoubleArray
from monitoring.config import MonitoringConfig
from monitoring.lift.interleaving import measure_preference
from monitoring.lift.lift_statistics import POWER, estimate_ratio
from serving.gateway.team_draft import draft_page

RULE: Final = MonitoringConfig(decide_by="fixed_horizon")
_QUANTILES: Final = float(stats.norm.ppf((1 + RULE.confidence) / 2) + stats.norm.ppf(POWER))
_NUM_CANDIDATES: Final = 30
_PAGE_SIZE: Final = 10
_ERRORS: Final = {"control": 1.0, "challenger": 0.9}
"""Standard deviation of each ranker's error, in those of what users want."""


class SeenPages(NamedTuple):
    """The pages of some users, each by the control, by the challenger and shared by both."""

    shared: pl.DataFrame
    """What was shown on shared pages: `request_id`, `item_id`, `user_id`, `team`, `click`."""
    clicks: dict[str, DoubleArray]
    """Ranker -> [users] clicks on its pages."""
    views: DoubleArray
    """[users] items shown on them."""
    expected_clicks: dict[str, float]
    """Ranker -> clicks on its pages without luck."""
    expected_preference: float
    """Of the shared pages, without luck."""


def measure_interleaving(*, quick: bool) -> Iterable[Row]:
    """Users of an A/B test over those of an interleaving."""
    num_users = 1_000 if quick else 10_000
    ratios = []
    for seed in range(3):
        pages = show_pages(np.random.default_rng(seed), num_users)
        ab_users = count_ab_users(pages)
        shared_users = count_shared_users(pages, num_users)
        ratios.append(ab_users / shared_users)
        lift = pages.expected_clicks["challenger"] / pages.expected_clicks["control"] - 1
        print(
            f"interleaving, seed {seed}: true lift of CTR {lift:+.2%}, preference "
            f"{pages.expected_preference:+.2%}; users for 80 % power: A/B {ab_users:,.0f}, "
            f"interleaving {shared_users:,.0f}",
            flush=True,
        )
    yield make_row(
        "monitoring.interleaving.users_ratio",
        ratios,
        unit="times fewer users with interleaving than in an A/B test of CTR, at the same power",
        data=f"simulated users and two rankers, errors {_ERRORS['control']} and {_ERRORS['challenger']} of "
        f"what users want; {num_users:,} users, 1 to 5 pages each; effects without luck, errors measured",
        seeds=[0, 1, 2],
    )


def show_pages(rng: np.random.Generator, num_users: int) -> SeenPages:
    """Shows every visit all three pages: what the rankers differ by is no luck of the visits then."""
    rows: list[tuple[str, str, str, str, bool]] = []
    clicks = {name: np.zeros(num_users) for name in _ERRORS}
    expected_clicks = dict.fromkeys(_ERRORS, 0.0)
    views, expected_by_team = np.zeros(num_users), {"control": 0.0, "challenger": 0.0}
    pace, taste = rng.geometric(0.5, num_users).clip(max=5), rng.beta(2, 18, num_users)
    for user in range(num_users):
        for page_number in range(int(pace[user])):
            wanted = rng.normal(size=_NUM_CANDIDATES)
            scores = {name: wanted + rng.normal(0, error, _NUM_CANDIDATES) for name, error in _ERRORS.items()}
            for name in _ERRORS:
                probabilities = tell_clicks(wanted[np.argsort(-scores[name])[:_PAGE_SIZE]], taste[user])
                clicks[name][user] += (rng.random(_PAGE_SIZE) < probabilities).sum()
                expected_clicks[name] += float(probabilities.sum())
            views[user] += _PAGE_SIZE
            request_id = f"{user}-{page_number}"
            control, challenger = (scores[name].astype(np.float32) for name in ("control", "challenger"))
            page = draft_page(control, challenger, request_id=request_id, limit=_PAGE_SIZE)
            probabilities = tell_clicks(wanted[page.order.rows], taste[user])
            clicked = rng.random(_PAGE_SIZE) < probabilities
            for item, team, probability, is_clicked in zip(
                page.order.rows.tolist(), page.teams, probabilities.tolist(), clicked.tolist(), strict=True
            ):
                expected_by_team[team] += probability
                rows.append((request_id, f"i{item}", f"u{user}", team, is_clicked))
    columns = ["request_id", "item_id", "user_id", "team", "click"]
    won, lost = expected_by_team["challenger"], expected_by_team["control"]
    return SeenPages(
        pl.DataFrame(rows, schema=columns, orient="row"),
        clicks,
        views,
        expected_clicks,
        (won - lost) / (won + lost),
    )


def tell_clicks(wanted: DoubleArray, taste: float) -> DoubleArray:
    """Probability of a click at each place: fewer look further down, who looks clicks on what they want."""
    looks = 1 / np.log2(np.arange(len(wanted)) + 2)
    odds = taste / (1 - taste) * np.exp(wanted)
    probabilities: DoubleArray = looks * odds / (1 + odds)
    return probabilities


def count_ab_users(pages: SeenPages) -> float:
    """Users of both arms together that see the difference of CTR in 80 of 100 tests."""
    total_views = pages.views.sum()
    difference = (pages.expected_clicks["challenger"] - pages.expected_clicks["control"]) / total_views
    estimates = [estimate_ratio(pages.clicks[name], pages.views) for name in _ERRORS]
    variance_per_user = sum(estimate.variance * estimate.users for estimate in estimates if estimate)
    return 2 * _QUANTILES**2 * variance_per_user / difference**2


def count_shared_users(pages: SeenPages, num_users: int) -> float:
    """Users of shared pages that see the preference in 80 of 100 tests."""
    told = measure_preference(pages.shared.drop("click"), pages.shared, RULE)
    bounds = told["preference"]
    standard_error = (bounds["high"] - bounds["low"]) / 2 / float(stats.norm.ppf((1 + RULE.confidence) / 2))
    return num_users * (_QUANTILES * standard_error / pages.expected_preference) ** 2
