"""What a switch lets the ranker see is what the log said at that time, and nothing later."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ranker_shop import NUM_ITEMS, START, Shop, item_rows, tiny_config

from contracts.dataset import Dataset
from contracts.errors import UserError
from models.ranker.confidences import list_confidences, own_confidences
from models.ranker.config import EvaluationConfig, FeatureConfig
from models.ranker.context import PriceRelation
from models.ranker.encoding import FIRST, ItemEncoder, encode_moments, encode_request
from models.ranker.evaluate import evaluate_ranker
from models.ranker.feed import build_feed
from models.ranker.rows import encode_rows, fit_encoder, read_codes, read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.search import Search, pivots, search_history
from models.ranker.statistics import ItemLog
from models.ranker.train import train_ranker
from serving.rankers import install_ranker

NAMES = pl.Enum(["a", "b", "c"])
DAY = 86_400


def _at(log: ItemLog, item: int, moment: datetime) -> list[float]:
    found = log.at(np.array([FIRST + item]), np.array([int(moment.timestamp())]))
    return np.expm1(found[0]).round(3).tolist()


def test_statistics_count_what_was_before() -> None:
    days = [0, 20, 25, 31]
    behaviors = pl.DataFrame({"item_id": ["a"] * 4, "timestamp": [START + timedelta(days=day) for day in days]})
    behaviors = pl.concat([behaviors, pl.DataFrame({"item_id": ["c"], "timestamp": [START + timedelta(days=25)]})])
    log = ItemLog.index(behaviors.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC"))), NAMES)
    assert _at(log, 0, START + timedelta(days=26)) == [2, 3, 26]
    assert _at(log, 0, START + timedelta(days=31)) == [1, 2, 31], "the event of that very moment does not count"
    assert _at(log, 0, START + timedelta(days=31, seconds=1)) == [2, 3, pytest.approx(31, abs=1e-3)]
    assert _at(log, 0, START) == [0, 0, 0], "nothing before the first event"
    assert _at(log, 1, START + timedelta(days=30)) == [0, 0, 0], "an item that nobody met"
    assert _at(log, 2, START + timedelta(days=400)) == [0, 0, 375], "long after the log"


def test_statistics_equal_a_plain_count(data: Dataset) -> None:
    names = pl.Enum(data.items["item_id"])
    log = ItemLog.index(data.behaviors, names)
    rng = np.random.default_rng(0)
    items, hours = rng.integers(NUM_ITEMS, size=50), rng.integers(900, size=50)
    moments = [START + timedelta(hours=int(hour)) for hour in hours]
    found = log.at(items + FIRST, np.array([int(moment.timestamp()) for moment in moments]))
    for row, (item, moment) in enumerate(zip(items, moments, strict=True)):
        own = data.behaviors.filter(pl.col("item_id") == names.categories[int(item)])
        recent = own.filter(pl.col("timestamp").is_between(moment - timedelta(days=7), moment, closed="left"))
        assert np.expm1(found[row, 0]) == pytest.approx(len(recent), abs=1e-3)


def test_price_relation_says_how_far_off_a_price_is() -> None:
    relation = PriceRelation(10)
    history = torch.tensor([[FIRST + 5, FIRST + 5, 0], [1, 0, 0]])
    found = relation(torch.tensor([[FIRST + 5, FIRST + 9, 1], [FIRST, FIRST, FIRST]]), history)
    same, dearer, unknown = found[0].unbind(-1)
    assert same[:-1].argmax() == 3
    assert dearer[:-1].argmax() > 3
    assert same[-1] == dearer[-1] == 1
    assert unknown.abs().sum() == 0
    assert found[1].abs().sum() == 0, "no price is known of that history"


def test_moments() -> None:
    found = encode_moments(np.array([0, int(datetime.fromisoformat("2026-11-22T23:59:00+00:00").timestamp())]))
    assert found["context_hour"].tolist() == [0, 23]
    assert found["context_weekday"].tolist() == [3, 6]


def test_codes_are_those_of_the_id_and_none_for_what_training_did_not_see(shop: Shop, data: Dataset) -> None:
    encoder = fit_encoder(data, tiny_config(), dim=0)
    codes = read_codes(shop.inputs.item_embeddings, encoder)
    assert codes.shape == (encoder.sizes["item"], 1)
    assert (codes[:FIRST] == 0).all()
    row = encoder.vocabularies["item"]["i7"]
    assert codes[row].tolist() == [8]
    assert codes[encoder.vocabularies["item"][f"i{NUM_ITEMS - 1}"]].tolist() == [0], "an item without an embedding"


def test_a_ranker_with_statistics_is_measured_but_not_deployed(shop: Shop, baseline: Path, tmp_path: Path) -> None:
    config = tiny_config(features=FeatureConfig(statistics=True, inferred=False), max_epochs=1)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    settings = EvaluationConfig(num_bootstrap=100, num_threads=1)
    evaluate_ranker(tmp_path / "r", baseline, *shop.inputs, settings, champion=None, out=tmp_path / "evaluation")
    with pytest.raises(UserError, match=r"features\.statistics=false"):
        install_ranker(tmp_path / "r", tmp_path / "rankers")


def test_search_keeps_the_newest_and_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    history = rng.standard_normal((1000, 16)).astype(np.float32)
    history /= np.linalg.norm(history, axis=1, keepdims=True)
    alike = [700, 20, 999]
    candidates = history[alike]
    found = search_history(history, candidates, keep=10)
    assert found.tolist() == sorted(found.tolist()), "newest first, as they were"
    assert set(range(5)) | set(alike) <= set(found.tolist())
    assert search_history(history[:8], candidates, keep=10).tolist() == list(range(8))


def test_pivots_stand_for_every_group() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(4, 16, dtype=np.float32)
    vectors = centres[rng.integers(4, size=200)] + 0.05 * rng.standard_normal((200, 16)).astype(np.float32)
    assert ((pivots(vectors, 8) @ centres.T).max(0) > 0.9).all()


def test_a_long_history_is_searched_in_training_as_in_serving(shop: Shop, data: Dataset, tmp_path: Path) -> None:
    config = tiny_config(history_length=4, search_length=10, max_epochs=1, features=FeatureConfig(context=True))
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    vectors, space, _ = read_vectors(shop.inputs.item_embeddings)
    ranker = ExportedRanker(tmp_path / "r", data.items, vectors, space=space, num_threads=1)
    training_set, kept = shop.inputs.training_set / "training_set.parquet", {"split": "test"}
    rows = encode_rows(
        training_set,
        ranker.table.names,
        split="test",
        protocol="contemporaneous",
        lengths=(4, 4),
        scratch=tmp_path / "rows",
        search=ranker.search,
    )
    frame = pl.read_parquet(training_set).filter(protocol="contemporaneous", **kept)
    number = int((frame["history_item_ids"].list.len() == 10).arg_max() or 0)
    row = frame.row(number, named=True)
    waited = (row["timestamp"] - row["history_as_of"]).total_seconds()
    encoder = ItemEncoder.load(tmp_path / "r", ranker.spec)
    found = encode_request(
        ranker.spec,
        candidate_ids=row["item_ids"],
        candidates=encoder.encode(item_rows(data, vectors, row["item_ids"])),
        history=encoder.encode(item_rows(data, vectors, row["history_item_ids"])),
        history_event_types=row["history_event_types"],
        history_ages_s=[age + waited for age in row["history_ages_s"]],
        inferred=encoder.encode(item_rows(data, vectors, row["inferred_item_ids"])),
        inferred_ids=row["inferred_item_ids"],
        inferred_scores=row["inferred_scores"],
        timestamp=row["timestamp"],
    )
    expected = build_feed(ranker.spec, ranker.table, rows, np.array([number]))
    assert len(row["history_item_ids"]) == 10
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_search_that_cannot_find_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="not above history_length"):
        tiny_config(search_length=10)
    with pytest.raises(ValueError, match="needs item vectors"):
        tiny_config(search_length=11, features=FeatureConfig(knowledge=False, similarity=False))


def test_training_histories_are_searched_by_what_was_learnt_without_their_users() -> None:
    vectors, folds = np.zeros((4, 2), np.float32), np.ones((2, 4, 2), np.float32)
    assert Search(vectors, 10).vectors_of(1) is vectors
    assert Search(vectors, 10, folds).vectors_of(1).tolist() == folds[1].tolist()


def test_rankers_that_read_histories_differently_are_compared(shop: Shop, ranker: Path, tmp_path: Path) -> None:
    features = FeatureConfig(inferred=False)
    for name, kept in {"a": 3, "b": 5}.items():
        config = tiny_config(history_length=kept, search_length=9, max_epochs=1, features=features)
        train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / name)
    settings = EvaluationConfig(num_bootstrap=100, num_threads=1)
    folders = tmp_path / "a", tmp_path / "b"
    evaluate_ranker(*folders, *shop.inputs, settings, champion=ranker, out=tmp_path / "evaluation")
    assert (tmp_path / "evaluation" / "decision.json").is_file()


def test_a_candidate_is_as_likely_as_the_list_says() -> None:
    found = own_confidences(["b", "nobody", "a"], ["a", "b", "c"], [0.8, 0.4, 0.1])
    np.testing.assert_allclose(found, np.log([4, 1, 8]), rtol=1e-6)
    assert not own_confidences(["a"], [], []).any()


def test_confidences_of_many_lists_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([3, 0, 4, 5])
    candidates = rng.integers(2, 12, counts.sum()).astype(np.int32)
    listed = [rng.permutation(np.arange(2, 12))[:n].astype(np.int32) for n in (6, 4, 0, 1)]
    scores = [rng.uniform(0.01, 1, len(items)).astype(np.float32).tolist() for items in listed]
    together = list_confidences(candidates, counts, np.concatenate(listed), pl.Series([*scores[:2], None, scores[3]]))
    each = [
        own_confidences([str(item) for item in part], [str(item) for item in items], weights)
        for part, items, weights in zip(np.split(candidates, counts.cumsum()[:-1]), listed, scores, strict=True)
    ]
    np.testing.assert_allclose(together, np.concatenate(each), rtol=1e-5, atol=1e-6)
