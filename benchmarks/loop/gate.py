"""Does the gate's estimate, made from the log alone, put rankers in the order of the exact truth?

Legend: V variants, R visits, U users, B resamples.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from benchmarks.loop.gate_variants import DERIVED_VARIANTS, describe_candidates, score_variants
from benchmarks.loop.page_truth import draw_user_weights, judge_pages, rank_top
from benchmarks.loop.prepared_shop import (
    NUM_QUICK_VISITS,
    NUM_VISITS,
    TRUTH_PROTOCOL,
    PreparedShop,
    prepare_shop,
)
from benchmarks.loop.rankers import QUICK_SHOPS, SEEDS, SMALL_SHOPS
from benchmarks.loop.scored_rankers import RankerScores, open_lists, read_test_users
from benchmarks.shared.results import Row, make_row
from contracts.array_types import DoubleArray, FloatArray, IntArray
from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.counterfactual_value import estimate_page_values, expect_outcomes
from models.ranker.evaluation.examination import estimate_examination
from models.ranker.lists.encode_lists import TRAINING_SET_FILE
from models.ranker.lists.mapped_lists import RankingLists

_LEAST_TRUE_DIFFERENCE = 1e-9
"""Rankers that make the same pages have no order."""


class JudgedVariants(NamedTuple):
    """What the gate and the truth say of the rankers of one shop."""

    names: list[str]
    estimates: DoubleArray
    """[V] clicks a page, as the gate estimates them."""
    resampled: DoubleArray
    """[B, V] the same of each resample of users."""
    truth: DoubleArray
    """[V] exact clicks a page."""

    @property
    def tau(self) -> float:
        """Kendall's tau between the gate's order and the truth's."""
        return float(kendalltau(self.estimates, self.truth).statistic)

    def count_signs(self) -> tuple[int, int]:
        """Pairs that the gate is sure of, and those of them in which the truth says the contrary."""
        num_sure = num_wrong = 0
        for first, second in combinations(range(len(self.names)), 2):
            low, high = np.quantile(self.resampled[:, first] - self.resampled[:, second], [0.025, 0.975])
            true_difference = self.truth[first] - self.truth[second]
            if low * high > 0 and abs(true_difference) > _LEAST_TRUE_DIFFERENCE:
                num_sure += 1
                num_wrong += int(low * true_difference < 0)
        return num_sure, num_wrong


def measure_gate(*, quick: bool) -> list[Row]:
    """All rows of the gate; `quick`: one small shop."""
    shops, num_visits = (QUICK_SHOPS, NUM_QUICK_VISITS) if quick else (SMALL_SHOPS, NUM_VISITS)
    judged = [
        judge_variants(prepare_shop(name, config, num_visits=num_visits)) for name, config in shops.items()
    ]
    seeds = SEEDS[: len(judged)]
    signs = [one.count_signs() for one in judged]
    num_sure, num_wrong = (sum(counts) for counts in zip(*signs, strict=True))
    print(f"{num_wrong} of {num_sure} sure decisions are wrong", flush=True)
    num_variants = len(judged[0].names)
    data = f"{num_variants} rankers of each simulated shop (1,200 items), test pages against the exact truth"
    shares = [wrong / max(sure, 1) for sure, wrong in signs]
    return [
        make_row("loop.gate.kendall_tau", [one.tau for one in judged], unit="tau", data=data, seeds=seeds),
        make_row("loop.gate.sign_errors", shares, unit="share", better="lower", data=data, seeds=seeds),
    ]


def judge_variants(prepared: PreparedShop) -> JudgedVariants:
    """Lets the gate estimate and the truth judge all variants of a shop; prints the table."""
    scores = score_variants(prepared)
    with open_lists(prepared.training_set, prepared.dataset, "impressions") as test_lists:
        test_scores = {name: of_ranker.test.score for name, of_ranker in scores.items()}
        test_scores |= _derive_scores(prepared, scores, test_lists, part="test")
        page_estimates = estimate_clicks(prepared, test_lists, scores, test_scores)
    with open_lists(prepared.truth_set, prepared.dataset, TRUTH_PROTOCOL) as truth_lists:
        truth_scores = {name: of_ranker.truth.score for name, of_ranker in scores.items()}
        truth_scores |= _derive_scores(prepared, scores, truth_lists, part="truth")
    names = list(test_scores)
    judged = JudgedVariants(
        names=names,
        estimates=np.array([page_estimates[name].mean() for name in names]),
        resampled=resample_means(
            np.stack([page_estimates[name] for name in names], axis=1),
            read_test_users(prepared.training_set),
        ),
        truth=compute_true_clicks(prepared, [truth_scores[name] for name in names]),
    )
    print_variants(prepared.name, judged)
    return judged


def _derive_scores(
    prepared: PreparedShop, scores: Mapping[str, RankerScores], lists: RankingLists, *, part: str
) -> dict[str, FloatArray]:
    items = describe_candidates(prepared, lists.candidates, seed=len(lists))
    full = getattr(scores["full"], part)
    return {name: np.asarray(derive(items, full), np.float32) for name, derive in DERIVED_VARIANTS.items()}


def estimate_clicks(
    prepared: PreparedShop,
    lists: RankingLists,
    scores: Mapping[str, RankerScores],
    test_scores: Mapping[str, FloatArray],
) -> dict[str, DoubleArray]:
    """The gate's estimate of the clicks of each test page, by variant."""
    examination = estimate_examination(prepared.training_set / TRAINING_SET_FILE)
    # As in the gate itself, the control says what to expect.
    expected = expect_outcomes(lists, scores["strong"].test, examination)
    pool_factor = EvaluationConfig().pool_factor
    return {
        name: estimate_page_values(
            lists, variant_scores, examination, expected, pool_factor=pool_factor
        ).estimates["clicks"]
        for name, variant_scores in test_scores.items()
    }


def compute_true_clicks(prepared: PreparedShop, scores: Sequence[FloatArray]) -> DoubleArray:
    """Exact clicks a page, [V]."""
    visits = prepared.draw_visits()
    shape = visits.candidates.shape
    return np.array([judge_pages(visits, rank_top(flat.reshape(shape))).clicks.mean() for flat in scores])


def resample_means(values: DoubleArray, users: IntArray) -> DoubleArray:
    """[B, V] means of [N, V] values over users drawn with replacement."""
    num_users = int(users.max()) + 1
    sums = np.zeros((num_users, values.shape[1]))
    np.add.at(sums, users, values)
    weights = draw_user_weights(num_users)
    return np.asarray((weights @ sums) / (weights @ np.bincount(users, minlength=num_users))[:, None])


def print_variants(shop: str, judged: JudgedVariants) -> None:
    """One line a variant, the truly best first."""
    for number in np.argsort(-judged.truth):
        spread = judged.resampled[:, number].std()
        print(
            f"{shop} {judged.names[number]:26} truth {judged.truth[number]:.4f}  "
            f"gate {judged.estimates[number]:.4f} +- {spread:.4f}",
            flush=True,
        )
    num_sure, num_wrong = judged.count_signs()
    print(f"{shop}: tau {judged.tau:.3f}, {num_wrong} of {num_sure} sure decisions wrong", flush=True)
