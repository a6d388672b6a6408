"""The reference of drift: a ranker's own first days, kept with the features of that time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from components.served_traffic import FeatureFolders, _build_windows, leave_out_shared_pages
from contracts.artifacts import create_artifact, write_table
from contracts.errors import UserError
from contracts.tables import EXPOSURES, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS, OUTCOMES, USER_BEHAVIORS
from models.ranker.evaluation.drift_reference import REFERENCE_FILE
from monitoring.config import MonitoringConfig
from serving.event_log.event_log import EventLog

START = datetime(2025, 5, 1, tzinfo=UTC)
CONFIG = MonitoringConfig(min_requests=2, reference_days=2, window_days=2)


def write_features(folder: Path, monkeypatch: pytest.MonkeyPatch, *, price: float) -> FeatureFolders:
    """A catalogue of one item with its price."""
    items = ITEMS.check_rows(pl.DataFrame({"item_id": ["i"], "title": ["I"], "price": [price]}))
    folders = FeatureFolders(*(folder / name for name in ("dataset", "item_embeddings", "features")))
    for part in folders:
        part.mkdir(parents=True, exist_ok=True)
    write_table(
        folders.item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS, ITEM_EMBEDDINGS.create_empty()
    )
    write_table(folders.features / "user_behaviors.parquet", USER_BEHAVIORS, USER_BEHAVIORS.create_empty())
    write_table(
        folders.features / "inferred_behaviors.parquet", INFERRED_BEHAVIORS, INFERRED_BEHAVIORS.create_empty()
    )
    catalogue = type("Catalogue", (), {"items": items})
    monkeypatch.setattr("components.served_traffic.read_dataset", lambda _: catalogue)
    return folders


def show_pages(first: float, last: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Four pages a day of one ranker, two items each, all clicked."""
    rows = [
        {
            "request_id": f"r{first}-{number}",
            "item_id": item_id,
            "timestamp": START + timedelta(days=first + number / 4),
            "position": position,
        }
        for number in range(round(4 * (last - first)))
        for position, item_id in enumerate(("i", "j"))
    ]
    pages = pl.DataFrame(rows).with_columns(
        user_id=pl.lit("u"),
        arm=pl.lit("control"),
        model_version=pl.lit("abcdef0123"),
        routed_version=pl.lit("abcdef0123"),
        score=0.5,
        degraded=pl.lit([], dtype=pl.List(pl.String)),
        click=True,
        order=False,
        revenue=0.0,
    )
    return EXPOSURES.check_rows(pages), OUTCOMES.check_rows(pages)


def test_first_days_are_kept_with_the_prices_of_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = write_features(tmp_path, monkeypatch, price=1.0)
    references = tmp_path / "references"
    windows, note = _build_windows(*show_pages(0, 4), cheap, tmp_path, CONFIG, references=references)
    assert note.source == "served"
    assert note.num_items == 1
    assert (
        windows["reference"]["timestamp"].max()
        < START + timedelta(days=2)
        <= windows["current"]["timestamp"].min()
    )
    assert windows["current"]["click"].all()

    dear = write_features(tmp_path, monkeypatch, price=9.0)
    # The log no longer reaches back to the first days.
    windows, note = _build_windows(*show_pages(6, 8), dear, tmp_path, CONFIG, references=references)
    assert note.source == "served"
    assert set(windows["reference"]["price"].drop_nulls()) == {1.0}
    assert set(windows["current"]["price"].drop_nulls()) == {9.0}


def test_before_first_days_the_evaluations_top_places_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = write_features(tmp_path, monkeypatch, price=1.0)
    pages, outcomes = show_pages(0, 1)
    list_rows = pl.concat(
        [
            pages.with_columns(item_id=pl.format("{}-{}", "item_id", pl.lit(k)), position=pl.lit(k))
            for k in range(5)
        ]
    ).unique(["request_id", "item_id"])
    with create_artifact(tmp_path / "evaluation", kind="evaluation", inputs={}) as artifact:
        write_table(artifact.path / REFERENCE_FILE, EXPOSURES, list_rows.cast(EXPOSURES.schema))
    windows, note = _build_windows(
        pages, outcomes, folders, tmp_path / "evaluation", CONFIG, references=tmp_path / "references"
    )
    assert note.source == "evaluation"
    assert "2 days" in note.text
    assert len(windows["reference"]) < len(list_rows)
    assert not (tmp_path / "references").exists(), "an evaluation is no ranker's first days"
    assert json.loads(note.model_dump_json())["versions"] == ["abcdef0123"]


def test_shared_pages_are_in_neither_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = write_features(tmp_path, monkeypatch, price=1.0)
    pages, outcomes = show_pages(0, 4)
    shared = ["r0-1", "r0-9"]
    lines = [
        {
            "request_id": request_id,
            "user_id": "u",
            "timestamp": START.isoformat(),
            "arm": "interleaved",
            "assignment": "drawn",
            "teams": ["control", "treatment"],
            "item_ids": ["i", "j"],
        }
        for request_id in shared
    ]
    with EventLog(tmp_path / "events") as log:
        log.write_without_sync("exposures", lines)
    own_pages = leave_out_shared_pages(pages, state=tmp_path)
    windows, _ = _build_windows(own_pages, outcomes, folders, tmp_path, CONFIG, references=tmp_path / "r")
    shown = {name: set(window["request_id"]) for name, window in windows.items()}
    assert shown == {
        "reference": {f"r0-{n}" for n in range(8)} - set(shared),
        "current": {f"r0-{n}" for n in range(8, 16)} - set(shared),
    }
    with pytest.raises(UserError, match="give the control a share"):
        leave_out_shared_pages(pages.filter(pl.col("request_id").is_in(shared)), state=tmp_path)
