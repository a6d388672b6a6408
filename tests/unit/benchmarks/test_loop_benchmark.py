from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.loop.gate import JudgedVariants, resample_means
from benchmarks.loop.gate_variants import DERIVED_VARIANTS, TRAINED_VARIANTS
from benchmarks.loop.loop_weeks import (
    LoopFolder,
    draw_pages,
    find_newest_histories,
    list_event_lines,
    list_exposures,
)
from benchmarks.loop.page_truth import (
    average_lifts,
    judge_pages,
    lift,
    measure_concentration,
    rank_top,
    share_between,
)
from benchmarks.loop.prepared_shop import Step, describe_visits, make_steps, write_truth_lists
from benchmarks.loop.rankers import list_bounds
from benchmarks.loop.scored_rankers import RANKERS, RankerScores, read_scores, write_scores
from benchmarks.loop.when import slice_visits
from contracts.artifacts import read_table
from contracts.tables import RANKING_LISTS
from models.ranker.evaluation.exported_ranker import CandidateScores
from serving.config import ExplorationConfig
from serving.served_log.collected_rows import collect_lines
from simulation.config import LivingShopConfig, SimulationConfig
from simulation.living_shop import LivingShop
from simulation.simulated_traffic import TrafficSimulator
from simulation.write_shop import write_shop

NUM_VISITS = 30


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop") / "shop"
    write_shop(SimulationConfig(num_items=80, num_users=60, num_days=8, reserve_days=3), out=folder)
    return folder


def test_lift_is_relative_and_paired() -> None:
    theirs = np.random.default_rng(0).random(500)
    users = np.arange(500) % 50
    doubled = lift(2 * theirs, theirs, users)
    assert doubled.value == pytest.approx(1)
    assert doubled.low == pytest.approx(1)
    noisy = lift(theirs + np.random.default_rng(1).normal(0.1, 0.2, 500), theirs, users)
    assert noisy.low < noisy.value < noisy.high


def test_average_of_shops_is_surer_than_one() -> None:
    rng = np.random.default_rng(0)
    theirs, users = 1 + rng.random(400), np.arange(400)
    lifts = [lift(theirs + rng.normal(0.1, 0.5, 400), theirs, users) for _ in range(4)]
    average = average_lifts(lifts)
    assert average.value == pytest.approx(np.mean([one.value for one in lifts]))
    assert average.high - average.low < 0.7 * (lifts[0].high - lifts[0].low)


def test_concentration_of_even_and_of_single_impressions() -> None:
    assert measure_concentration(np.arange(20).reshape(2, 10), 20) == (1.0, pytest.approx(0))
    coverage, gini = measure_concentration(np.array([[3, -1], [3, 3]]), 20)
    assert coverage == pytest.approx(1 / 20)
    assert gini == pytest.approx(1 - 1 / 20)


def test_share_between_given_order_and_oracle() -> None:
    given, oracle = np.array([1.0, 1]), np.array([3.0, 3])
    assert share_between(np.array([2.0, 2]), given, oracle) == pytest.approx(0.5)


def test_oracle_is_best_and_pages_are_judged_exactly(shop: Path) -> None:
    visits = TrafficSimulator(shop, describe_visits(NUM_VISITS)).batch
    bounds = {name: judge_pages(visits, slots) for name, slots in list_bounds(visits).items()}
    assert (bounds["oracle"].clicks >= bounds["given"].clicks).all()
    by_affinity = judge_pages(visits, rank_top(visits.affinities))
    assert by_affinity.clicks == pytest.approx(bounds["oracle"].clicks)
    assert (by_affinity.new_item_clicks <= by_affinity.clicks).all()
    slices = slice_visits(visits)
    assert (slices["new_users"] ^ slices["known_users"]).all()


def test_truth_lists_are_the_visits_in_their_order(shop: Path, tmp_path: Path) -> None:
    write_truth_lists(shop, NUM_VISITS, out=tmp_path / "lists")
    lists = read_table(tmp_path / "lists" / "ranking_lists.parquet", RANKING_LISTS)
    visits = TrafficSimulator(shop, describe_visits(NUM_VISITS)).batch
    assert lists["list_id"].to_list() == visits.request_ids.tolist()
    assert lists["item_ids"].to_list() == visits.candidate_ids.tolist()
    assert lists["scene"].to_list() == visits.scenes.tolist()
    assert not lists["clicks"].list.any().any()


def test_steps_are_made_once_and_anew_after_a_change(tmp_path: Path) -> None:
    made: list[str] = []

    def make_step(name: str, settings: int) -> Step:
        def make(out: Path) -> None:
            made.append(name)
            out.mkdir()

        return Step(name, (), settings, make)

    paths: dict[str, Path] = {}
    for first, second in ((1, 1), (1, 1), (1, 2), (2, 2)):
        make_steps([make_step("first", first), make_step("second", second)], tmp_path, paths)
    assert made == ["first", "second", "second", "first", "second"]


def test_scores_survive_their_file(tmp_path: Path) -> None:
    values = np.arange(3, dtype=np.float32)
    scores = RankerScores(
        CandidateScores(values, values, values), CandidateScores(values, values, values, 2 * values)
    )
    write_scores(tmp_path / "scores.npz", scores)
    stored = read_scores(tmp_path / "scores.npz")
    assert stored.test.value is None
    assert stored.truth.value is not None
    assert stored.truth.value.tolist() == [0, 2, 4]


def test_wrong_signs_are_counted_among_sure_decisions() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (200, 1))
    resampled = np.concatenate(
        [1 + noise, 2 + noise, 3 + noise, 3 + np.random.default_rng(1).normal(0, 4, (200, 1))], 1
    )
    judged = JudgedVariants(list("abcd"), resampled.mean(0), resampled, truth=np.array([1.0, 3.0, 2.0, 2.5]))
    # a < b and a < c are right, b < c is wrong; of d nothing is sure.
    num_sure, num_wrong = judged.count_signs()
    assert (num_sure, num_wrong) == (3, 1)


def test_resampled_means_lie_around_the_mean() -> None:
    values = np.random.default_rng(0).random((300, 2))
    resampled = resample_means(values, np.arange(300) % 60)
    assert resampled.mean(0) == pytest.approx(values.mean(0), abs=0.01)


def test_the_gate_meets_twenty_rankers() -> None:
    assert len(DERIVED_VARIANTS) + len(TRAINED_VARIANTS) + len(RANKERS) >= 20


def test_gateway_lines_of_a_day_are_collected_whole(shop: Path) -> None:
    living = LivingShop.open_shop(shop, LivingShopConfig())
    day = living.open_day()
    scores = np.random.default_rng(0).random(day.batch.candidates.shape).astype(np.float32)
    slots, propensities = draw_pages(day, scores, ExplorationConfig(kind="epsilon"))
    result = living.close_day(day, slots, propensities)
    exposures = list_exposures(day, slots, scores, propensities).write_ndjson()
    events = list_event_lines(result.events, day.arrivals).write_ndjson()
    shown = collect_lines("exposures", exposures.encode())
    posted = collect_lines("events", events.encode())
    assert shown.num_broken == posted.num_broken == 0
    impressions = result.events.filter(pl.col("event_type") == "impression")
    key = ["request_id", "item_id", "position"]
    assert shown.rows.select(key).sort(key).equals(impressions.select(key).sort(key))
    assert shown.rows["propensity"].is_between(0, 1).all()
    assert len(posted.rows) == len(result.events) - len(impressions) + len(day.arrivals)


def test_a_day_is_served_without_its_own_lines(shop: Path, tmp_path: Path) -> None:
    folder, config = LoopFolder(tmp_path / "loop"), LivingShopConfig()
    living = folder.open_shop(shop, config, 8)
    for number in (8, 9):
        day = living.open_day()
        slots = rank_top(day.batch.affinities)
        result = living.close_day(day, slots)
        folder.write_lines("events", number, list_event_lines(result.events, day.arrivals))
        assert not folder.has_day(number)
    behaviors = folder.read_behaviors(9)
    assert folder.read_behaviors(8).is_empty()
    assert behaviors["timestamp"].dt.date().n_unique() == 1
    folder.close_day(living, 9, {"clicks": np.ones(2)})
    assert folder.has_day(9)
    assert folder.read_day(9)["clicks"].tolist() == [1, 1]
    assert folder.open_shop(shop, config, 10).day == 10


def test_newest_histories_hold_all_up_to_now() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    behaviors = pl.DataFrame(
        {
            "user_id": ["u", "v", "u"],
            "timestamp": [start, start, start + timedelta(days=1)],
            "item_id": ["old", "other", "new"],
            "event_type": ["click", "click", "order"],
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    histories = find_newest_histories(behaviors).sort("user_id")
    assert histories["history_item_ids"].to_list() == [["new", "old"], ["other"]]
    assert histories["history_as_of"].to_list() == [start + timedelta(days=1), start]
