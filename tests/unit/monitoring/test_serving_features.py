from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.tables import EXPOSURES, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS, USER_BEHAVIORS
from monitoring.config import MonitoringConfig
from monitoring.drift.served_features import SERVING_FEATURES, build_served_features

NOW = datetime(2025, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def exposures() -> pl.DataFrame:
    rows = [
        {"request_id": "r1", "item_id": "a", "user_id": "u", "timestamp": NOW, "degraded": []},
        {"request_id": "r1", "item_id": "b", "user_id": "u", "timestamp": NOW, "degraded": ["no_vector"]},
        {"request_id": "r2", "item_id": "a", "user_id": "stranger", "timestamp": NOW, "degraded": []},
    ]
    extra = {"arm": "control", "model_version": "m", "routed_version": "m", "score": 0.5, "position": 0}
    return EXPOSURES.check_rows(pl.DataFrame([{**row, **extra} for row in rows]))


def behaviors(*moments: datetime) -> pl.DataFrame:
    rows = [
        {
            "user_id": "u",
            "event_timestamp": moment,
            "history_item_ids": ["a"] * (number + 1),
            "history_event_types": ["click"] * (number + 1),
            "history_ages_s": [60] * (number + 1),
        }
        for number, moment in enumerate(moments)
    ]
    return USER_BEHAVIORS.check_rows(pl.DataFrame(rows, schema=USER_BEHAVIORS.schema))


def frame(user_behaviors: pl.DataFrame, shown: pl.DataFrame | None = None) -> pl.DataFrame:
    items = pl.DataFrame(
        {"item_id": ["a", "b"], "title": ["A", "B"], "price": [1.0, None], "available_at": [NOW - HOUR, None]}
    )
    vectors = pl.DataFrame(
        {
            "item_id": ["a"],
            "embedding": [[1.0, 0.0]],
            "semantic_id": [[1]],
            "space": ["s"],
            "event_timestamp": [NOW],
        }
    )
    return build_served_features(
        exposures() if shown is None else shown,
        MonitoringConfig(max_rows=1000),
        items=ITEMS.check_rows(items),
        item_embeddings=ITEM_EMBEDDINGS.check_rows(vectors),
        user_behaviors=user_behaviors,
        inferred_behaviors=INFERRED_BEHAVIORS.create_empty(),
    ).sort("request_id", "item_id")


def test_the_score_is_the_rankers_own_or_none() -> None:
    is_failed = pl.col("request_id") == "r2"
    failed = exposures().with_columns(
        model_version=pl.when(is_failed).then(pl.lit("fallback")).otherwise("model_version")
    )
    assert frame(behaviors(NOW - HOUR), failed)["score"].to_list() == [0.5, 0.5, None]


def test_one_row_per_item_shown_with_what_was_known() -> None:
    table = frame(behaviors(NOW - HOUR))
    first = table.row(0, named=True)
    assert SERVING_FEATURES.validate_rows(table).rejected.is_empty()
    assert (first["history_length"], first["newest_behavior_age_s"]) == (1, 3660)
    assert (first["item_age_s"], first["price"], first["degraded"]) == (3600, 1.0, 0)
    assert table["degraded"].to_list() == [0, 1, 0]
    assert table["embedding"].to_list() == [[1.0, 0.0], None, [1.0, 0.0]]


def test_an_unknown_user_has_no_history() -> None:
    stranger = frame(behaviors(NOW - HOUR)).row(2, named=True)
    assert (stranger["history_length"], stranger["newest_behavior_age_s"], stranger["inferred_length"]) == (
        0,
        None,
        0,
    )


@pytest.mark.parametrize("later", [NOW, NOW + timedelta(microseconds=1), NOW + 9 * HOUR])
def test_behavior_at_or_after_the_request_is_not_seen(later: datetime) -> None:
    assert frame(behaviors(NOW - HOUR, later)).equals(frame(behaviors(NOW - HOUR)))


def test_impressions_of_the_log_serve_as_a_reference_without_scores() -> None:
    shown = exposures().select("request_id", "item_id", "user_id", "timestamp")
    table = frame(behaviors(NOW - HOUR), shown)
    assert table["score"].null_count() == table["degraded"].null_count() == len(table) == 3


def test_a_large_window_is_sampled_by_whole_requests() -> None:
    rows = pl.DataFrame({"number": range(4000)}).select(
        request_id=pl.format("r{}", pl.col("number") // 10),
        item_id=pl.format("i{}", "number"),
        user_id=pl.lit("u"),
        timestamp=pl.lit(NOW),
    )
    table = frame(behaviors(NOW - HOUR), rows)
    assert len(table) == 1000
    assert (table.group_by("request_id").len()["len"] == 10).all()
