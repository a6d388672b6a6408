import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from evidently.ui.workspace import Workspace

from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.drift import report_drift
from monitoring.features import SERVING_FEATURES

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
    found = drift(tmp_path, serving_window(4), serving_window(2))
    assert (found["drifted"], found["drifted_columns"], found["embedding_drifted"]) == (False, [], False)
    assert found["embedding_auc"] == pytest.approx(0.5, abs=0.06)
    assert found["rows"] == {"reference": 2000, "current": 2000}


def test_moved_scores_and_turned_vectors_are_found_and_shown(tmp_path: Path, serving_window: Window) -> None:
    found = drift(tmp_path, serving_window(4), serving_window(3, shift=0.6, turned=True))
    assert found["drifted_columns"] == ["score"]
    assert found["embedding_drifted"]
    assert found["drifted"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "simulated traffic" in html
    assert found["traffic"] == "simulated traffic"


def test_a_second_run_gives_the_same_and_replaces_its_snapshot(tmp_path: Path, serving_window: Window) -> None:
    first = drift(tmp_path, serving_window(4), serving_window(2))
    assert drift(tmp_path, serving_window(4), serving_window(2)) == first
    store = Workspace(str(tmp_path / "workspace"))
    (project,) = store.list_projects()
    assert len(store.list_runs(project.id)) == 1
    assert [tab.title for tab in project.dashboard.model().tabs] == ["Drift"]


def test_what_one_window_lacks_is_named_not_compared(tmp_path: Path, serving_window: Window) -> None:
    unscored = serving_window(4).with_columns(score=pl.lit(None, dtype=pl.Float64), embedding=None)
    found = drift(tmp_path, unscored.cast(serving_window(4).schema), serving_window(2))
    assert found["not_compared"] == ["score", "embedding"]
    assert found["embedding_auc"] is None


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
    planted = serving_window(4).with_columns(
        pl.concat_str(pl.lit("</script><script>alert(1)</script>"), "item_id").alias("item_id")
    )
    drift(tmp_path, planted, serving_window(2))
    assert "alert(1)" not in (tmp_path / "out" / "report.html").read_text()
    texts = [name for name, dtype in SERVING_FEATURES.schema.items() if dtype == pl.String()]
    assert texts == ["request_id", "item_id"], "what an agent or a shop wrote is not even in the table"
