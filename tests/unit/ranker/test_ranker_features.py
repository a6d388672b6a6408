"""What a switch lets the ranker see is what the log said at that time, and nothing later."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ranker_shop import NUM_ITEMS, START, Shop, make_raw_items, tiny_config

from contracts.dataset import Dataset
from contracts.errors import UserError
from models.ranker.config import EvaluationConfig, RankerFeatures
from models.ranker.evaluation.evaluate_ranker import evaluate_ranker
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.inputs.graph_feed import build_list_feed, encode_request, gather_lists
from models.ranker.inputs.input_table import compute_hours, compute_weekdays
from models.ranker.inputs.item_encoder import FIRST, ItemEncoder
from models.ranker.lists.candidate_confidences import look_up_confidences, look_up_listed_confidences
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import encode_lists
from models.ranker.lists.general_search_unit import HistorySearch, choose_pivots, search_history
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.training.train_ranker import train_ranker
from serving.gateway.deployed_ranker import install_ranker

NAMES = pl.Enum(["a", "b", "c"])
DAY = 86_400


def _read_counts(activity: ItemActivity, item: int, moment: datetime) -> list[float]:
    log_statistics = activity.measure_statistics(
        np.array([FIRST + item]), np.array([int(moment.timestamp())])
    )
    return np.expm1(log_statistics[0]).round(3).tolist()


def test_statistics_count_what_was_before() -> None:
    days = [0, 20, 25, 31]
    behaviors = pl.DataFrame(
        {"item_id": ["a"] * 4, "timestamp": [START + timedelta(days=day) for day in days]}
    )
    behaviors = pl.concat(
        [behaviors, pl.DataFrame({"item_id": ["c"], "timestamp": [START + timedelta(days=25)]})]
    )
    activity = ItemActivity.index_behaviors(
        behaviors.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC"))), NAMES
    )
    assert _read_counts(activity, 0, START + timedelta(days=26)) == [2, 3, 26]
    assert _read_counts(activity, 0, START + timedelta(days=31)) == [1, 2, 31], (
        "the event of that very moment does not count"
    )
    assert _read_counts(activity, 0, START + timedelta(days=31, seconds=1)) == [
        2,
        3,
        pytest.approx(31, abs=1e-3),
    ]
    assert _read_counts(activity, 0, START) == [0, 0, 0], "nothing before the first event"
    assert _read_counts(activity, 1, START + timedelta(days=30)) == [0, 0, 0], "an item that nobody met"
    assert _read_counts(activity, 2, START + timedelta(days=400)) == [0, 0, 375], "long after the log"


def test_statistics_equal_a_plain_count(data: Dataset) -> None:
    names = pl.Enum(data.items["item_id"])
    activity = ItemActivity.index_behaviors(data.behaviors, names)
    rng = np.random.default_rng(0)
    items, hours = rng.integers(NUM_ITEMS, size=50), rng.integers(900, size=50)
    moments = [START + timedelta(hours=int(hour)) for hour in hours]
    statistics = activity.measure_statistics(
        items + FIRST, np.array([int(moment.timestamp()) for moment in moments])
    )
    for row, (item, moment) in enumerate(zip(items, moments, strict=True)):
        item_behaviors = data.behaviors.filter(pl.col("item_id") == names.categories[int(item)])
        recent = item_behaviors.filter(
            pl.col("timestamp").is_between(moment - timedelta(days=7), moment, closed="left")
        )
        assert np.expm1(statistics[row, 0]) == pytest.approx(len(recent), abs=1e-3)


def test_moments() -> None:
    late_sunday = int(datetime.fromisoformat("2026-11-22T23:59:00+00:00").timestamp())
    times_s = np.array([0, late_sunday])
    assert compute_hours(times_s).tolist() == [0, 23]
    assert compute_weekdays(times_s).tolist() == [3, 6]


def test_a_ranker_with_statistics_is_measured_but_not_deployed(
    shop: Shop, baseline: Path, tmp_path: Path
) -> None:
    config = tiny_config(features=RankerFeatures(statistics=True, inferred=False), max_epochs=1)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    settings = EvaluationConfig(num_bootstrap=100, num_threads=1)
    evaluate_ranker(
        tmp_path / "r", baseline, *shop.inputs, settings, champion=None, out=tmp_path / "evaluation"
    )
    with pytest.raises(UserError, match=r"features\.statistics=false"):
        install_ranker(tmp_path / "r", tmp_path / "rankers")


def test_search_keeps_the_newest_and_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    history = rng.standard_normal((1000, 16)).astype(np.float32)
    history /= np.linalg.norm(history, axis=1, keepdims=True)
    similar_rows = [700, 20, 999]
    candidates = history[similar_rows]
    kept_rows = search_history(history, candidates, keep=10)
    assert kept_rows.tolist() == sorted(kept_rows.tolist()), "newest first, as they were"
    assert set(range(5)) | set(similar_rows) <= set(kept_rows.tolist())
    assert search_history(history[:8], candidates, keep=10).tolist() == list(range(8))


def test_pivots_stand_for_every_group() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(4, 16, dtype=np.float32)
    vectors = centers[rng.integers(4, size=200)] + 0.05 * rng.standard_normal((200, 16)).astype(np.float32)
    assert ((choose_pivots(vectors, 8) @ centers.T).max(0) > 0.9).all()


def test_a_long_history_is_searched_in_training_as_in_serving(
    shop: Shop, data: Dataset, tmp_path: Path
) -> None:
    config = tiny_config(
        history_length=4, search_length=10, max_epochs=1, features=RankerFeatures(context=True)
    )
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    vectors, space, _ = read_item_vectors(shop.inputs.item_embeddings)
    ranker = ExportedRanker(tmp_path / "r", data.items, vectors, space=space, num_threads=1)
    training_set, list_kind = shop.inputs.training_set / "training_set.parquet", {"split": "test"}
    ranking_lists = encode_lists(
        training_set,
        ranker.table.item_id_enum,
        split="test",
        protocol="contemporaneous",
        lengths=(4, 4),
        scratch=tmp_path / "rows",
        search=ranker.history_search,
    )
    frame = pl.read_parquet(training_set).filter(protocol="contemporaneous", **list_kind)
    row_number = int((frame["history_item_ids"].list.len() == 10).arg_max() or 0)
    training_row = frame.row(row_number, named=True)
    since_newest_s = (training_row["timestamp"] - training_row["history_as_of"]).total_seconds()
    encoder = ItemEncoder.load_artifact(tmp_path / "r", ranker.spec)
    request_feed = encode_request(
        ranker.spec,
        candidate_ids=training_row["item_ids"],
        candidates=encoder.encode_items(make_raw_items(data, vectors, training_row["item_ids"])),
        history=encoder.encode_items(make_raw_items(data, vectors, training_row["history_item_ids"])),
        history_event_types=training_row["history_event_types"],
        history_ages_s=[age + since_newest_s for age in training_row["history_ages_s"]],
        inferred=encoder.encode_items(make_raw_items(data, vectors, training_row["inferred_item_ids"])),
        inferred_ids=training_row["inferred_item_ids"],
        inferred_scores=training_row["inferred_scores"],
        timestamp=training_row["timestamp"],
    )
    list_feed = build_list_feed(
        ranker.spec, ranker.table, gather_lists(ranking_lists, np.array([row_number]), history=4, inferred=4)
    )
    assert len(training_row["history_item_ids"]) == 10
    for name, values in list_feed.items():
        np.testing.assert_array_equal(request_feed[name], values, err_msg=name)


def test_a_search_that_cannot_find_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="not above history_length"):
        tiny_config(search_length=10)
    with pytest.raises(ValueError, match="needs item vectors"):
        tiny_config(search_length=11, features=RankerFeatures(knowledge=False, similarity=False))


def test_training_histories_are_searched_by_what_was_learnt_without_their_users() -> None:
    vectors, folds = np.zeros((4, 2), np.float32), np.ones((2, 4, 2), np.float32)
    assert HistorySearch(vectors, 10).select_vectors(1) is vectors
    assert HistorySearch(vectors, 10, folds).select_vectors(1).tolist() == folds[1].tolist()


def test_rankers_that_read_histories_differently_are_compared(
    shop: Shop, ranker: Path, tmp_path: Path
) -> None:
    features = RankerFeatures(inferred=False)
    for name, history_length in {"a": 3, "b": 5}.items():
        config = tiny_config(history_length=history_length, search_length=9, max_epochs=1, features=features)
        train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / name)
    settings = EvaluationConfig(num_bootstrap=100, num_threads=1)
    folders = tmp_path / "a", tmp_path / "b"
    evaluate_ranker(*folders, *shop.inputs, settings, champion=ranker, out=tmp_path / "evaluation")
    assert (tmp_path / "evaluation" / "decision.json").is_file()


def test_a_candidate_is_as_likely_as_the_list_says() -> None:
    confidences = look_up_confidences(["b", "nobody", "a"], ["a", "b", "c"], [0.8, 0.4, 0.1])
    np.testing.assert_allclose(confidences, np.log([4, 1, 8]), rtol=1e-6)
    assert not look_up_confidences(["a"], [], []).any()


def test_confidences_of_many_lists_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([3, 0, 4, 5])
    candidates = rng.integers(2, 12, counts.sum()).astype(np.int32)
    listed = [rng.permutation(np.arange(2, 12))[:n].astype(np.int32) for n in (6, 4, 0, 1)]
    scores = [rng.uniform(0.01, 1, len(list_items)).astype(np.float32).tolist() for list_items in listed]
    joint_confidences = look_up_listed_confidences(
        candidates, counts, np.concatenate(listed), pl.Series([*scores[:2], None, scores[3]])
    )
    single_confidences = [
        look_up_confidences(
            [str(item) for item in list_candidates], [str(item) for item in list_items], weights
        )
        for list_candidates, list_items, weights in zip(
            np.split(candidates, counts.cumsum()[:-1]), listed, scores, strict=True
        )
    ]
    np.testing.assert_allclose(joint_confidences, np.concatenate(single_confidences), rtol=1e-5, atol=1e-6)
