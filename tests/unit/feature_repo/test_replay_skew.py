"""What a ranker is trained on is what it is served: histories of join and history writer are equal."""

from datetime import timedelta

import polars as pl
import pytest
from replay_log import START, write_replay_log

from feature_repo.config import FeatureStoreConfig
from feature_repo.offline import point_in_time_join
from feature_repo.online.materialize_features import materialize_features
from feature_repo.replay_skew import create_empty_store, measure_history_skew

CONFIG = FeatureStoreConfig(history_length=7, batch_rows=64)


@pytest.mark.parametrize("max_feast_lists", [1_000_000, 0], ids=["feast", "as_of"])
def test_a_log_told_to_an_empty_store_gives_the_histories_of_the_join(tmp_path, monkeypatch, max_feast_lists):
    monkeypatch.setattr(point_in_time_join, "_MAX_FEAST_LISTS", max_feast_lists)
    log = write_replay_log(tmp_path, CONFIG)
    create_empty_store(tmp_path / "store", CONFIG)
    skew = measure_history_skew(
        log.training_rows, log.behaviors, store=tmp_path / "store", history_length=CONFIG.history_length
    )
    assert skew.num_lists > 100
    assert (skew.num_different, skew.max_difference) == (0, 0.0)


def test_a_materialized_store_goes_on_as_the_join_does(tmp_path):
    cutoff = START + timedelta(seconds=20.5)
    log = write_replay_log(tmp_path, CONFIG, cutoff=cutoff)
    materialize_features(log.features, CONFIG, store=tmp_path / "store")
    is_later = pl.col("timestamp") >= cutoff
    skew = measure_history_skew(
        log.training_rows.filter(is_later),
        log.behaviors.filter(is_later),
        store=tmp_path / "store",
        history_length=CONFIG.history_length,
    )
    assert skew.num_lists > 30
    assert (skew.num_different, skew.max_difference) == (0, 0.0)


def test_a_behavior_that_was_not_told_is_seen(tmp_path):
    log = write_replay_log(tmp_path, CONFIG)
    create_empty_store(tmp_path / "store", CONFIG)
    told = log.behaviors.filter(pl.col("timestamp") != log.behaviors["timestamp"][50])
    skew = measure_history_skew(log.training_rows, told, store=tmp_path / "store", history_length=7)
    assert skew.num_different > 0
    assert skew.max_difference == float("inf")
