import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from evidently.ui.workspace import Workspace

from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.drift.drift_report import report_drift
from monitoring.drift.window_tables import ReferenceNote

Window = Callable[..., pl.DataFrame]
CONFIG = MonitoringConfig(max_rows=2000)


def drift(
    folder: Path, reference: pl.DataFrame, current: pl.DataFrame, config: MonitoringConfig = CONFIG
) -> dict[str, Any]:
    reference.write_parquet(folder / "reference.parquet")
    current.write_parquet(folder / "current.parquet")
    paths = folder / "reference.parquet", folder / "current.parquet"
    report_drift(*paths, config, workspace=folder / "workspace", out=folder / "out")
    content: dict[str, Any] = json.loads((folder / "out" / "drift.json").read_text())
    return content


def test_the_same_traffic_has_not_drifted(tmp_path: Path, serving_window: Window) -> None:
    drift_results = drift(tmp_path, serving_window(4), serving_window(2))
    assert not drift_results["drifted"]
    assert not drift_results["embedding_drifted"]
    assert drift_results["drifted_columns"] == []
    assert drift_results["embedding_auc"] == pytest.approx(0.5, abs=0.06)
    assert drift_results["rows"] == {"reference": 2000, "current": 2000}


def test_moved_scores_and_turned_vectors_are_found_and_shown(tmp_path: Path, serving_window: Window) -> None:
    drift_results = drift(tmp_path, serving_window(4), serving_window(3, shift=0.6, turned=True))
    assert drift_results["drifted_columns"] == ["score"]
    assert drift_results["embedding_drifted"]
    assert drift_results["drifted"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "simulated traffic" in html
    assert drift_results["traffic"] == "simulated traffic"


def test_a_second_run_gives_the_same_and_replaces_its_snapshot(
    tmp_path: Path, serving_window: Window
) -> None:
    first = drift(tmp_path, serving_window(4), serving_window(2))
    assert drift(tmp_path, serving_window(4), serving_window(2)) == first
    store = Workspace(str(tmp_path / "workspace"))
    (project,) = store.list_projects()
    assert len(store.list_runs(project.id)) == 1


def lose(window: pl.DataFrame, column: str, share: float) -> pl.DataFrame:
    """Takes away a share of a column's values."""
    lost = pl.Series(np.random.default_rng(8).random(len(window)) < share)
    return window.with_columns(pl.when(~lost).then(column).alias(column))


@pytest.mark.parametrize(
    ("column", "share"),
    [
        ("price", 0.95),
        ("price", 0.05),
        ("price", 1.0),
        ("score", 1.0),
        ("item_age_s", 1.0),
        ("degraded", 1.0),
        ("newest_behavior_age_s", 0.5),
    ],
)
def test_missing_values_are_drift(tmp_path: Path, serving_window: Window, column: str, share: float) -> None:
    drift_results = drift(tmp_path, serving_window(4), lose(serving_window(2), column, share))
    assert drift_results["drifted"]
    assert drift_results["drifted_columns"] == [column]
    assert drift_results["missing"][column]["current"] == pytest.approx(share, abs=0.1)
    assert "missing" in drift_results["reasons"][0]
    assert drift_results["not_compared"] == ["category", "scene"], "neither window has them"


@pytest.mark.parametrize("is_lost_before", [False, True])
def test_vectors_that_come_or_go_are_drift(
    tmp_path: Path, serving_window: Window, is_lost_before: bool
) -> None:
    windows = [serving_window(4), lose(serving_window(2), "embedding", 1.0)]
    drift_results = drift(tmp_path, *(reversed(windows) if is_lost_before else windows))
    assert drift_results["embedding_drifted"]
    assert drift_results["drifted"]
    assert drift_results["embedding_auc"] == 1


def test_numbers_that_are_none_count_as_missing(tmp_path: Path, serving_window: Window) -> None:
    broken = serving_window(2).with_columns(
        score=pl.when(pl.col("score") > 0.5).then(float("nan")).otherwise("score"),
        price=pl.when(pl.col("score") > 1).then(float("inf")).otherwise("price"),
    )
    drift_results = drift(tmp_path, serving_window(4), broken)
    assert {"score", "price"} <= set(drift_results["drifted_columns"])
    assert drift_results["missing"]["score"]["current"] == pytest.approx(0.31, abs=0.03)


def test_a_constant_that_changes_is_drift(tmp_path: Path, serving_window: Window) -> None:
    nothing_inferred = serving_window(2).with_columns(inferred_length=0.0)
    drift_results = drift(tmp_path, serving_window(4), nothing_inferred)
    assert drift_results["drifted_columns"] == ["inferred_length"]
    assert "look at infer_behaviors" in drift_results["reasons"][0]


def label(window: pl.DataFrame) -> pl.DataFrame:
    """Gives each row a category, each request a scene and a user."""
    number = pl.col("request_id").str.split("-").list.last().cast(pl.Int64)
    return window.with_columns(
        category=pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("Garden")).otherwise(pl.lit("Toys")),
        scene=pl.when(number % 2 == 0).then(pl.lit("home")).otherwise(pl.lit("search")),
        user_id=pl.format("u{}", number % 200),
    )


def test_a_change_in_one_category_names_it_and_its_step(tmp_path: Path, serving_window: Window) -> None:
    in_cents = label(serving_window(2)).with_columns(
        price=pl.when(pl.col("category") == "Garden").then(pl.col("price") * 100).otherwise("price")
    )
    drift_results = drift(tmp_path, label(serving_window(4)), in_cents)
    assert drift_results["drifted_columns"] == ["price"]
    (finding,) = drift_results["findings"]
    assert finding["slices"] == ["category Garden"]
    assert finding["step"] == "ingest"


def test_degraded_answers_are_told_by_cause(tmp_path: Path, serving_window: Window) -> None:
    causes = (
        pl.when(pl.int_range(pl.len()) % 5 == 0)
        .then(pl.lit(["no_vector"]))
        .otherwise(pl.lit([], dtype=pl.List(pl.String)))
    )
    sound = serving_window(4).with_columns(degraded_causes=pl.lit([], dtype=pl.List(pl.String)))
    broken = serving_window(2).with_columns(degraded_causes=causes)
    broken = broken.with_columns(degraded=(pl.col("degraded_causes").list.len() > 0).cast(pl.Float64))
    drift_results = drift(tmp_path, sound, broken)
    assert drift_results["drifted_columns"] == ["degraded:no_vector", "degraded"]
    assert drift_results["findings"][0]["step"] == "embed_items"
    assert drift_results["figures"]["current"]["degraded_by"] == {"no_vector": pytest.approx(0.2, abs=0.02)}


def test_clicks_that_fail_to_come_at_the_same_scores_are_drift(
    tmp_path: Path, serving_window: Window
) -> None:
    def react(window: pl.DataFrame, factor: float) -> pl.DataFrame:
        rng = np.random.default_rng(3)
        rate = 1 / (1 + (1 - pl.col("score")).exp())
        return window.with_columns(click=pl.Series(rng.random(len(window))) < rate * factor)

    reference = react(serving_window(4), 1.0)
    assert not drift(tmp_path, reference, react(serving_window(2), 1.0))["drifted"]
    drift_results = drift(tmp_path, reference, react(serving_window(2), 0.6))
    assert drift_results["drifted_columns"] == ["calibration"]
    assert drift_results["figures"]["current"]["calibration"] == pytest.approx(0.6, abs=0.06)


def test_a_test_that_grew_is_no_drift(tmp_path: Path, serving_window: Window) -> None:
    """The challenger's scores lie elsewhere; it got more users, and nothing else happened."""

    def split(window: pl.DataFrame, one_in: int) -> pl.DataFrame:
        number = pl.col("request_id").str.split("-").list.last().cast(pl.Int64)
        is_new = number % one_in == 0
        return window.with_columns(
            routed_version=pl.when(is_new).then(pl.lit("new")).otherwise(pl.lit("old")),
            score=pl.col("score") + pl.when(is_new).then(3.0).otherwise(0.0),
        )

    assert not drift(tmp_path, split(serving_window(4), 5), split(serving_window(2), 2))["drifted"]


def test_a_report_at_noon_is_compared_with_mornings(tmp_path: Path, serving_window: Window) -> None:
    def price_by_hour(window: pl.DataFrame) -> pl.DataFrame:
        is_afternoon = pl.col("timestamp").dt.hour() >= 12
        return window.with_columns(price=pl.col("price") * pl.when(is_afternoon).then(3.0).otherwise(1.0))

    whole_days = price_by_hour(serving_window(4, requests=1400))
    mornings = price_by_hour(serving_window(2, requests=700))
    assert not drift(tmp_path, whole_days, mornings, MonitoringConfig(max_rows=20_000))["drifted"]


def test_frozen_features_age_and_are_told_as_stale_not_as_drift(
    tmp_path: Path, serving_window: Window
) -> None:
    day_s = 86_400.0
    week_later = serving_window(2).with_columns(
        features_age_s=40 * day_s, newest_behavior_age_s=pl.col("newest_behavior_age_s") + 40 * day_s
    )
    drift_results = drift(tmp_path, serving_window(4).with_columns(features_age_s=0.0), week_later)
    assert not drift_results["drifted"]
    assert drift_results["stale"] == ["nothing was added to users' features for 40 days: run refresh_users."]


def test_an_evaluation_judges_only_what_is_missing(tmp_path: Path, serving_window: Window) -> None:
    """Its lists were filled by other rankers, so other prices there are no drift."""
    note = ReferenceNote(source="evaluation").model_dump_json()
    (tmp_path / "reference.json").write_text(note)
    dearer = serving_window(2, shift=0.6).with_columns(pl.col("price") * 2)
    drift_results = drift(tmp_path, serving_window(4), label(dearer))
    assert not drift_results["drifted"]
    assert "price" in drift_results["withheld"]
    assert "only missing values are judged" in drift_results["reasons"][-1]
    assert drift(tmp_path, serving_window(4), lose(dearer, "price", 0.5))["drifted_columns"] == ["price"]


def test_days_are_told_one_by_one(tmp_path: Path, serving_window: Window) -> None:
    days = drift(tmp_path, serving_window(4), serving_window(2, requests=3000))["days"]
    assert [row["day"] for row in days] == ["2025-05-01", "2025-05-02", "2025-05-03"]
    assert all(row["drift"]["price"] > 0 for row in days)


def test_rows_that_are_there_twice_are_refused(tmp_path: Path, serving_window: Window) -> None:
    twice = pl.concat([serving_window(2), serving_window(2).head(7)])
    with pytest.raises(UserError, match="7 of 3007 rows a second time"):
        drift(tmp_path, serving_window(4), twice)


def test_vectors_of_another_space_are_refused(tmp_path: Path, serving_window: Window) -> None:
    shorter = serving_window(2).with_columns(pl.col("embedding").list.head(4))
    with pytest.raises(UserError, match="mix embedding spaces"):
        drift(tmp_path, serving_window(4), shorter)


def test_a_short_window_and_a_wrong_file_are_refused(tmp_path: Path, serving_window: Window) -> None:
    with pytest.raises(UserError, match="holds 20 requests"):
        drift(tmp_path, serving_window(4), serving_window(2, requests=20))
    with pytest.raises(UserError, match="not a 'serving_features' table"):
        drift(tmp_path, serving_window(4).drop("score"), serving_window(2))
    with pytest.raises(UserError, match="no table of serving features"):
        report_drift(tmp_path / "no", tmp_path / "no", CONFIG, workspace=tmp_path / "w", out=tmp_path / "o")


def test_markup_in_catalogue_text_is_not_markup_of_the_page(tmp_path: Path, serving_window: Window) -> None:
    markup = "</script><script>alert(1)</script>"
    names = {name: pl.lit(markup) for name in ("category", "scene", "arm", "user_id", "routed_version")}
    planted = serving_window(2, shift=2.0).with_columns(**names, degraded_causes=pl.lit([markup]))
    sound = serving_window(4).with_columns(degraded_causes=pl.lit([], dtype=pl.List(pl.String)))
    drift_results = drift(tmp_path, sound, planted)
    assert any(markup in reason for reason in drift_results["reasons"])
    assert "<script>alert(1)" not in (tmp_path / "out" / "report.html").read_text()
