"""Drawn pages: every propensity is the probability that it says, and a retry shows the same page."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from pydantic import ValidationError

from serving.config import ExplorationConfig
from serving.gateway.exploration import draw_page

SCORES = np.array([0.1, 0.4, 0.2, 0.35, 0.05], np.float32)
NUM_PAGES = 20_000
TOP_K = ExplorationConfig(kind="top_k", top_k=4, temperature=0.7, min_propensity=0.05)
EPSILON = ExplorationConfig(kind="epsilon", epsilon=0.4, min_propensity=0.01)
NARROW = ExplorationConfig(kind="epsilon", epsilon=0.4, min_propensity=0.2)


@pytest.mark.parametrize("limit", [None, 3, 5, 9])
def test_without_exploration_the_best_come_first_for_certain(limit):
    page = draw_page(SCORES, ExplorationConfig(), request_id="r", limit=limit)
    assert page.rows.tolist() == [1, 3, 2, 0, 4][:limit]
    assert page.propensities.tolist() == [1.0] * len(page.rows)


@pytest.mark.parametrize("config", [TOP_K, EPSILON, NARROW])
def test_pages_come_as_often_as_their_propensities_say(config):
    counts, probabilities = Counter(), {}
    for number in range(NUM_PAGES):
        page = draw_page(SCORES, config, request_id=f"request {number}", limit=3)
        shown_rows = tuple(page.rows.tolist())
        counts[shown_rows] += 1
        former = probabilities.setdefault(shown_rows, page.propensities)
        assert np.array_equal(former, page.propensities), "the same page has the same propensities"
    assert sum(propensities.prod() for propensities in probabilities.values()) == pytest.approx(1, abs=0.01)
    for shown_rows, propensities in probabilities.items():
        expected = propensities.prod()
        deviation = (expected * (1 - expected) / NUM_PAGES) ** 0.5
        assert abs(counts[shown_rows] / NUM_PAGES - expected) < 5 * deviation, shown_rows
        assert propensities.min() >= config.min_propensity * (1 - 1e-9)


def test_top_k_draws_only_among_the_best_k():
    freely = TOP_K.model_copy(update={"temperature": 5})
    pages = [draw_page(SCORES, freely, request_id=str(number), limit=None) for number in range(500)]
    assert {tuple(page.rows[:4].tolist()) for page in pages} == set(permutations((1, 3, 2, 0)))
    assert all(page.rows[4] == 4 and page.propensities[4] == 1 for page in pages)
    assert all(page.propensities[3] == pytest.approx(1) for page in pages), "one candidate was left"


def test_a_floor_narrows_what_epsilon_draws_from():
    first_rows = {draw_page(SCORES, NARROW, request_id=str(number), limit=1).rows[0] for number in range(500)}
    assert first_rows == {1, 3}, "two candidates of 0.2 each share epsilon = 0.4"


@pytest.mark.parametrize("config", [TOP_K, EPSILON])
def test_a_retry_shows_the_same_page_and_another_salt_another_one(config):
    page = draw_page(SCORES, config, request_id="r", limit=None)
    again = draw_page(SCORES.copy(), config, request_id="r", limit=None)
    assert page.rows.tolist() == again.rows.tolist()
    resalted = config.model_copy(update={"salt": "2"})
    others = [draw_page(SCORES, resalted, request_id=str(number), limit=None) for number in range(50)]
    same = [draw_page(SCORES, config, request_id=str(number), limit=None) for number in range(50)]
    assert [page.rows.tolist() for page in others] != [page.rows.tolist() for page in same]


@pytest.mark.parametrize("config", [TOP_K, EPSILON])
@pytest.mark.parametrize(
    "scores", [np.zeros(5), np.array([3.0]), np.array([1e6, 0, -1e6, 1e-9]), np.linspace(0, 1, 1000)]
)
def test_every_page_is_an_order_of_the_candidates(config, scores):
    page = draw_page(scores.astype(np.float32), config, request_id="r", limit=None)
    assert sorted(page.rows.tolist()) == list(range(len(scores)))
    assert np.isfinite(page.propensities).all()
    assert page.propensities.min() > 0
    assert page.propensities.max() <= 1


def test_more_temperature_draws_more_freely():
    def count_best_first(temperature):
        config = TOP_K.model_copy(update={"temperature": temperature})
        return sum(draw_page(SCORES, config, request_id=str(n), limit=1).rows[0] == 1 for n in range(500))

    assert count_best_first(0.05) > count_best_first(0.7) > count_best_first(50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "top_k", "top_k": 300}, "more than 1 in all"),
        ({"kind": "epsilon", "epsilon": 0.01, "min_propensity": 0.02}, "is above epsilon"),
    ],
)
def test_an_impossible_floor_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        ExplorationConfig(**options)
