from datetime import UTC, datetime

import polars as pl
import pytest

from components.traffic import in_service
from contracts.errors import UserError
from contracts.tables import EXPOSURES
from models.ranker.spec import model_name_of
from serving.routes import Arm, Routes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD, CHAMPION, CHALLENGER = "0ld00000" * 4, "c4a00000" * 4, "c4b00000" * 4


def shown(*rows: tuple[str, str, str]) -> pl.DataFrame:
    named = [{"request_id": request, "routed_version": to, "model_version": by} for request, to, by in rows]
    rest = {"item_id": "i", "user_id": "u", "timestamp": NOW, "arm": "a", "score": 0.0, "position": 0, "degraded": []}
    return EXPOSURES.check(pl.DataFrame([{**row, **rest} for row in named]))


def routes(**arms: str) -> Routes:
    parts = {name: Arm(model=model_name_of(version), share=1 / len(arms)) for name, version in arms.items()}
    return Routes(experiment="ranker", salt="1", arms=parts, revision=1, created_at=NOW)


def test_an_arm_keeps_what_its_ranker_left_to_the_fallback() -> None:
    rows = shown(
        ("r1", CHAMPION, CHAMPION),
        ("r2", CHALLENGER, CHALLENGER),
        ("r3", CHALLENGER, "fallback"),
        ("r4", OLD, OLD),
        ("r5", OLD, "fallback"),
    )
    kept = in_service(rows, routes(control=CHAMPION, treatment=CHALLENGER))
    assert kept["request_id"].to_list() == ["r1", "r2", "r3"]


def test_without_an_experiment_there_is_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="no experiment is running"):
        in_service(shown(("r1", OLD, OLD)), routes(control=OLD))
    with pytest.raises(UserError, match="nobody was routed"):
        in_service(shown(("r1", OLD, OLD)), routes(control=CHAMPION, treatment=CHALLENGER))
