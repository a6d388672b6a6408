import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from contracts.artifacts import create_artifact, read_lineage, write_table
from contracts.errors import UserError
from contracts.tables import ITEMS, KNOWLEDGE
from pipelines.lineage_trace import LineageTrace
from reaseq.cli import main
from serving.deployment.routes import Arm, ExperimentPlan, write_routes

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write_knowledge(home: Path, run: str, teacher: str) -> Path:
    """A dataset and what a teacher knows of it; returns the folder of the knowledge."""
    steps = home / "steps" / run
    dataset, knowledge = steps / "ingest" / "dataset", steps / "merge-knowledge" / "knowledge"
    items = pl.DataFrame({"item_id": ["kettle", "tent"], "title": ["Kettle\x1b[2J", "Tent"]})
    for folder in (dataset, knowledge):
        folder.parent.mkdir(parents=True)
    with create_artifact(dataset, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items)
        artifact.labels["data_digest"] = "d4ta"
    with create_artifact(knowledge, kind="knowledge", inputs={"dataset": dataset}) as artifact:
        record = items.select("item_id", teacher=pl.lit(teacher), prompt_version=pl.lit("pr0mpt"))
        record = record.with_columns(source_digest=pl.lit("s0urce"), status=pl.lit("ok"))
        write_table(artifact.path / "knowledge.parquet", KNOWLEDGE, record)
        artifact.labels |= {"teacher": teacher, "prompt_version": "pr0mpt"}
    return knowledge


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run with one ranker in service that showed the kettle, and knowledge of a later teacher."""
    knowledge = write_knowledge(tmp_path, "first", "old teacher")
    write_knowledge(tmp_path, "second", "new teacher")
    rankers = tmp_path / "serving" / "rankers"
    rankers.mkdir(parents=True)
    with create_artifact(rankers / "ranker_one", kind="ranker", inputs={"knowledge": knowledge}) as artifact:
        (artifact.path / "weights").write_text("w")
        artifact.labels["space"] = "space-1"
    version = read_lineage(rankers / "ranker_one").digest
    plan = ExperimentPlan(
        experiment="ranker",
        salt="1",
        arms={"control": Arm(model="ranker_one", share=1)},
        champion="ranker_one",
    )
    write_routes(tmp_path / "serving", plan, note="deploy")
    events = tmp_path / "serving" / "events"
    events.mkdir()
    answers = [
        {
            "request_id": name,
            "user_id": "ann",
            "timestamp": NOW.isoformat(),
            "arm": "control",
            "assignment": "drawn",
            "model_version": scored_by,
            "routed_version": version,
            "item_ids": ["kettle"],
            "scores": [0.25],
            "degraded": [["no_vector"]],
        }
        for name, scored_by in (("r1", version), ("r2", "fallback"))
    ]
    click = {
        "user_id": "ann",
        "item_id": "kettle",
        "request_id": "r1",
        "event_type": "click",
        "timestamp": NOW.isoformat(),
    }
    for kind, records in (("exposures", answers), ("events", [click])):
        (events / f"{kind}-1.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def test_a_request_leads_back_to_scores_ranker_knowledge_and_data(home: Path) -> None:
    text = LineageTrace(home).describe("r1")
    assert "user ann, 2026-01-01 00:00:00 UTC, arm control" in text
    assert "1. kettle  score 0.2500  without no_vector" in text
    assert "knowledge ok by old teacher, prompts pr0mpt, source s0urce" in text, "not the newer teacher"
    lines = [line.split()[0] for line in text.splitlines()]
    assert lines[-4:] == ["ranker", "ranker", "knowledge", "dataset"]
    assert "space space-1" in text
    assert "data_digest d4ta" in text


def test_an_answer_of_the_fallback_says_so(home: Path) -> None:
    assert "scored by fallback, though routed to" in LineageTrace(home).describe("r2")


@pytest.mark.parametrize("subject", ["champion", "control", "ranker_one"])
def test_a_ranker_is_found_by_name_and_by_role(home: Path, subject: str) -> None:
    text = LineageTrace(home).describe(subject)
    assert text.startswith("ranker ranker_one, answers arm control, champion")
    assert "teacher old teacher" in text
    assert "shown: 1 requests, 2026-01-01 to 2026-01-01" in text


def test_an_item_leads_forward_to_where_it_was_shown(home: Path) -> None:
    text = LineageTrace(home).describe("kettle")
    assert "\x1b" not in text, "a title does not command the terminal"
    assert "1 requests, 2026-01-01 to 2026-01-01, mean place 1.0, 1 clicks, 0 orders" in text
    assert "shown in arm control by fallback" in text
    assert "latest requests: r1, r2" in text
    assert LineageTrace(home).describe("tent").endswith("shown: never")


def test_what_is_not_there_is_an_error_with_what_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="rankers are ranker_one"):
        LineageTrace(home).describe("nobody")
    assert main(["lineage", "r1", "--home", str(home)]) == 0
    assert "request r1" in capsys.readouterr().out
    assert main(["lineage", "r1", "--home", str(home / "elsewhere")]) == 2
    assert "`reaseq run` makes one" in capsys.readouterr().err


def test_a_ranker_that_is_gone_is_told_as_gone(home: Path) -> None:
    (home / "serving" / "rankers" / "ranker_one" / "lineage.json").unlink()
    assert "no longer installed" in LineageTrace(home).describe("r1")
