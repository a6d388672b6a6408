from datetime import UTC, datetime

import polars as pl
import pytest

from components.served_traffic import select_routed_exposures
from contracts.errors import UserError
from contracts.tables import EXPOSURES
from models.ranker.inputs.ranker_spec import name_model
from serving.deployment.routes import Arm, Routes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD, CHAMPION, CHALLENGER = "0ld00000" * 4, "c4a00000" * 4, "c4b00000" * 4


def build_exposures(*rows: tuple[str, str, str]) -> pl.DataFrame:
    exposure_rows = [
        {"request_id": request_id, "routed_version": routed_to, "model_version": scored_by}
        for request_id, routed_to, scored_by in rows
    ]
    other_columns = {
        "item_id": "i",
        "user_id": "u",
        "timestamp": NOW,
        "arm": "a",
        "score": 0.0,
        "position": 0,
        "degraded": [],
    }
    return EXPOSURES.check_rows(pl.DataFrame([{**row, **other_columns} for row in exposure_rows]))


def build_routes(**arms: str) -> Routes:
    parts = {name: Arm(model=name_model(version), share=1 / len(arms)) for name, version in arms.items()}
    return Routes(experiment="ranker", salt="1", arms=parts, revision=1, created_at=NOW)


def test_an_arm_keeps_what_its_ranker_left_to_the_fallback() -> None:
    rows = build_exposures(
        ("r1", CHAMPION, CHAMPION),
        ("r2", CHALLENGER, CHALLENGER),
        ("r3", CHALLENGER, "fallback"),
        ("r4", OLD, OLD),
        ("r5", OLD, "fallback"),
    )
    kept_exposures = select_routed_exposures(rows, build_routes(control=CHAMPION, treatment=CHALLENGER))
    assert kept_exposures["request_id"].to_list() == ["r1", "r2", "r3"]


def test_without_an_experiment_there_is_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="no experiment is running"):
        select_routed_exposures(build_exposures(("r1", OLD, OLD)), build_routes(control=OLD))
    with pytest.raises(UserError, match="nobody was routed"):
        select_routed_exposures(
            build_exposures(("r1", OLD, OLD)), build_routes(control=CHAMPION, treatment=CHALLENGER)
        )
