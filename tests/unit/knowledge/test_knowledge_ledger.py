"""What a table cost is known even of runs that were stopped or killed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from contracts.shards import Shard
from models.knowledge.config import BudgetConfig, HandbookTeacherConfig, KnowledgeConfig
from models.knowledge.costs.spending_history import Spending, SpendingRecord, sum_spending_records
from models.knowledge.distillation import distill_knowledge as distill
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.distillation.merge_knowledge import merge_knowledge
from models.knowledge.teachers.handbook_teacher import HandbookTeacher
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse

TEACHER = "0123456789abcdef"


def test_a_spending_record_that_was_never_closed_is_read(tmp_path: Path) -> None:
    first, second, other = (SpendingRecord(tmp_path, teacher) for teacher in (TEACHER, TEACHER, "f" * 16))
    for number in (1, 2):
        first.write_agent_spending(
            "planner", Spending(number, 10 * number, number, 0.5 * number, 0.25 * number)
        )
    first.write_agent_spending("critic", Spending(1, 5, 5, 1.0, 0.0))
    second.write_agent_spending("planner", Spending(1, 1, 1, 1.0, 1.0))
    other.write_agent_spending("planner", Spending(100))
    assert sum_spending_records(tmp_path, TEACHER) == {
        "planner": Spending(3, 21, 3, 2.0, 1.5),
        "critic": Spending(1, 5, 5, 1.0, 0.0),
    }
    (torn,) = tmp_path.glob("f*.book")
    os.truncate(torn, torn.stat().st_size - 1)
    assert sum_spending_records(tmp_path, "f" * 16) == {}
    assert sum_spending_records(tmp_path / "none", TEACHER) == {}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, scripted: Any) -> list[TeacherRequest]:
    """All requests; each answer costs 1000 tokens in, 500 out, half a second."""
    handbook, requests = HandbookTeacher(HandbookTeacherConfig()), []

    def answer(request: TeacherRequest) -> TeacherResponse:
        requests.append(request)
        return next(iter(handbook.answer_batch([request])))._replace(
            tokens_in=1000, tokens_out=500, seconds=0.5
        )

    monkeypatch.setattr(distill, "build_teacher", lambda config: scripted(answer))
    return requests


def ledger(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    return found


def test_the_ledger_knows_what_a_stopped_run_paid(tmp_path: Path, write_dataset, shop, asked) -> None:
    dataset, cache = write_dataset(shop), tmp_path / "cache"
    stopped = KnowledgeConfig(budget=BudgetConfig(max_requests=8))
    with pytest.raises(UserError, match="max_requests"):
        distill_knowledge(dataset, stopped, cache=cache, out=tmp_path / "out")
    distill_knowledge(dataset, KnowledgeConfig(), cache=cache, out=tmp_path / "out")
    found = ledger(tmp_path / "out")
    assert found["paid"]["total"]["asked"] == len(asked) - 8
    for who, paid in (("total", len(asked)), ("agents", sum(request.agent == "critic" for request in asked))):
        spent = found["spent"]["total"] if who == "total" else found["spent"]["agents"]["critic"]
        assert (spent["asked"], spent["tokens_in"], spent["tokens_out"]) == (paid, 1000 * paid, 500 * paid)
        assert spent["teacher_s"] == pytest.approx(0.5 * paid)
        assert spent["money"] == pytest.approx(paid * (1000 * 1.0 + 500 * 2.0) / 1e6)
    metrics = read_lineage(tmp_path / "out").metrics
    assert (metrics["asked"], metrics["spent_asked"]) == (len(asked) - 8, len(asked))

    distill_knowledge(dataset, KnowledgeConfig(), cache=cache, out=tmp_path / "again")
    again = ledger(tmp_path / "again")
    assert again["paid"]["total"]["asked"] == 0
    assert again["spent"] == found["spent"]


def test_merged_shards_know_what_all_runs_paid(tmp_path: Path, write_dataset, shop, asked) -> None:
    dataset, cache = write_dataset(shop), tmp_path / "cache"
    stopped = KnowledgeConfig(budget=BudgetConfig(max_requests=4))
    with pytest.raises(UserError, match="max_requests"):
        distill_knowledge(dataset, stopped, cache=cache, out=tmp_path / "out", shard=Shard(0, 1))
    shards = [tmp_path / f"shard{number}" for number in range(2)]
    for number, out in enumerate(shards):
        distill_knowledge(dataset, KnowledgeConfig(), cache=cache, out=out, shard=Shard(number, 2))
    merge_knowledge(dataset, shards, KnowledgeConfig(), cache=cache, out=tmp_path / "merged")
    merged = ledger(tmp_path / "merged")
    assert merged["paid"]["total"]["asked"] == len(asked) - 4
    assert merged["spent"]["total"]["asked"] == len(asked)
