"""Only what is new or changed is asked; shards together are what one worker makes; a budget stops cleanly."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import KNOWLEDGE
from models.knowledge.agents import record_review as review
from models.knowledge.agents.agent_roles import CategoryPlan
from models.knowledge.config import BudgetConfig, HandbookTeacherConfig, KnowledgeConfig
from models.knowledge.distillation import distill_knowledge as distill
from models.knowledge.distillation import item_batches
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.distillation.merge_knowledge import merge_knowledge
from models.knowledge.teachers.handbook_teacher import HandbookTeacher
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse


@cache
def handbook() -> HandbookTeacher:
    return HandbookTeacher(HandbookTeacherConfig())


@pytest.fixture
def teachers(monkeypatch, scripted):
    """Every teacher that was built; each answers like the handbook and keeps what it was asked."""
    built = []

    def build(config):
        built.append(scripted(lambda request: next(iter(handbook().answer_batch([request])))))
        return built[-1]

    monkeypatch.setattr(distill, "build_teacher", build)
    return built


def run(
    dataset: Path, out: Path, cache: str = "cache", config: KnowledgeConfig | None = None, **options
) -> Path:
    distill_knowledge(dataset, config or KnowledgeConfig(), cache=out.parent / cache, out=out, **options)
    return out


def table(folder: Path) -> pl.DataFrame:
    return read_table(folder / "knowledge.parquet", KNOWLEDGE)


def as_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.sort("item_id").write_ipc(buffer)
    return buffer.getvalue()


def traces(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "traces.jsonl").read_text(encoding="utf-8").splitlines()]


def test_an_unchanged_product_is_taken_over_without_a_question(
    tmp_path, write_dataset, shop, teachers
) -> None:
    first = run(write_dataset(shop), tmp_path / "first")
    shop[0] |= {"description": "Now also in red.", "price": 3.0}
    shop[1] |= {"price": 9.0}
    changed = write_dataset(
        [*shop, {"item_id": "e", "title": "Nylon Dog Leash", "category": "Pets > Leashes"}]
    )
    second = run(changed, tmp_path / "second", cache="empty", previous=first)
    whole = run(changed, tmp_path / "whole", cache="other")
    titles = {
        request.agent_input.product.title for request in teachers[1].asked if request.agent != "planner"
    }
    assert titles == {shop[0]["title"], "Nylon Dog Leash"}
    assert_frame_equal(table(second), table(whole))
    assert traces(second) == traces(whole)
    metrics = read_lineage(second).metrics
    assert (metrics["carried_over"], metrics["items"], metrics["cached"]) == (3, 5, 0)
    assert metrics["claims_dropped"] == read_lineage(whole).metrics["claims_dropped"]


@pytest.mark.parametrize("change", ["teacher", "rules"])
def test_another_recipe_takes_nothing_over(
    tmp_path, write_dataset, shop, teachers, scripted, monkeypatch, change
) -> None:
    dataset = write_dataset(shop)
    first = run(dataset, tmp_path / "first")
    if change == "rules":
        monkeypatch.setattr("models.knowledge.cache.workspace_cache.RULES_VERSION", review.RULES_VERSION + 1)
    else:
        monkeypatch.setattr(scripted, "name", "scripted-2")
    second = run(dataset, tmp_path / "second", previous=first)
    assert read_lineage(second).metrics["carried_over"] == 0
    # New rules only settle cached answers anew.
    assert bool(teachers[1].asked) == (change == "teacher")


def test_invalid_items_are_not_taken_over(
    tmp_path, write_dataset, shop, teachers, scripted, monkeypatch
) -> None:
    dataset = write_dataset(shop)
    generous = KnowledgeConfig(max_invalid_rate=1)
    with monkeypatch.context() as patch:
        patch.setattr(
            distill,
            "build_teacher",
            lambda config: scripted(lambda request: TeacherResponse(0, "", error="down")),
        )
        first = run(dataset, tmp_path / "first", config=generous)
    second = run(dataset, tmp_path / "second", previous=first)
    assert table(first)["status"].unique().to_list() == ["invalid"]
    assert table(second)["status"].to_list() == ["ok", "ok", "ok", "unknown"]


@pytest.mark.parametrize("num_shards", [1, 2, 5])
def test_shards_make_the_table_of_one_worker(
    tmp_path, write_dataset, shop, teachers, monkeypatch, num_shards: int
) -> None:
    items = [{**item, "item_id": f"{item['item_id']}{number}"} for number in range(5) for item in shop]
    dataset = write_dataset(items)
    monkeypatch.setattr(item_batches, "BATCH_ITEMS", 3)
    config = KnowledgeConfig()
    whole = run(dataset, tmp_path / "whole", config=config)
    shards = [
        run(dataset, tmp_path / f"shard{n}", cache=f"cache{n}", config=config, shard=Shard(n, num_shards))
        for n in range(num_shards)
    ]
    merge_knowledge(dataset, shards[::-1], config, cache=tmp_path / "cache", out=tmp_path / "merged")
    assert as_bytes(table(tmp_path / "merged")) == as_bytes(table(whole))
    assert table(tmp_path / "merged")["item_id"].to_list() == [item["item_id"] for item in items]
    assert traces(tmp_path / "merged") == traces(whole)
    merged, one = read_lineage(tmp_path / "merged"), read_lineage(whole)
    assert merged.metrics["items"] == 20
    assert {name: merged.metrics[name] for name in ("coverage", "claims_dropped")} == {
        name: one.metrics[name] for name in ("coverage", "claims_dropped")
    }
    assert merged.labels["teacher"] == one.labels["teacher"]


def test_shards_that_share_a_cache_ask_nothing_twice_but_plans(
    tmp_path, write_dataset, shop, teachers
) -> None:
    dataset = write_dataset(shop)
    for number in range(2):
        run(dataset, tmp_path / f"shard{number}", shard=Shard(number, 2))
    asked = [(request.agent, request.agent_input) for teacher in teachers for request in teacher.asked]
    assert len(asked) == len(set(asked)), "one after the other they even share the plans"


@pytest.mark.parametrize("broken", [False, True], ids=["at once", "after a repair"])
def test_shards_that_are_answered_otherwise_agree_on_one_plan(
    tmp_path, write_dataset, scripted, monkeypatch, broken: bool
) -> None:
    """A teacher that samples plans both shards' category at the same moment."""
    items = [{"item_id": str(n), "title": f"Cable {n}", "category": "Cables > USB Cables"} for n in range(12)]
    dataset, config = write_dataset(items), KnowledgeConfig()
    both_asked, asked = Barrier(2, timeout=60), []

    def sample(request: TeacherRequest) -> TeacherResponse:
        asked.append(request)
        if request.agent != "planner":
            return next(iter(handbook().answer_batch([request])))
        if not request.attempt and both_asked.wait() == 0 and broken:
            return TeacherResponse(0, "rubbish")
        return TeacherResponse(
            0,
            CategoryPlan(
                reasoning=uuid4().hex, product_kind="cable", focus=(), pitfalls=()
            ).model_dump_json(),
        )

    monkeypatch.setattr(distill, "build_teacher", lambda config: scripted(sample))
    with ThreadPoolExecutor(2) as threads:
        outs = [tmp_path / f"shard{number}" for number in range(2)]
        list(threads.map(lambda n: run(dataset, outs[n], shard=Shard(n, 2)), range(2)))
    assert sum(request.agent == "planner" and not request.attempt for request in asked) == 2
    merge_knowledge(dataset, outs, config, cache=tmp_path / "cache", out=tmp_path / "merged")
    assert len({trace["reasoning"]["planner"] for trace in traces(tmp_path / "merged")}) == 1
    (tmp_path / "cache" / "items").rename(tmp_path / "gone")
    num_asked = len(asked)
    whole = run(dataset, tmp_path / "whole")
    assert len(asked) == num_asked, "one worker goes on from the same plan"
    assert (table(whole).equals(table(tmp_path / "merged")), traces(whole)) == (
        True,
        traces(tmp_path / "merged"),
    )


def test_wrong_shards_are_named(tmp_path, write_dataset, shop, teachers) -> None:
    dataset, config = write_dataset(shop), KnowledgeConfig()
    first = run(dataset, tmp_path / "first", shard=Shard(0, 2))
    with pytest.raises(UserError, match="0/1 are needed"):
        merge_knowledge(dataset, [first], config, cache=tmp_path / "cache", out=tmp_path / "merged")
    with pytest.raises(UserError, match="not a shard of the knowledge on"):
        merge_knowledge(
            write_dataset(shop[:2]), [first, first], config, cache=tmp_path, out=tmp_path / "merged"
        )
    for text in ("2/2", "x", "0", "-1/2"):
        with pytest.raises(UserError, match="number/total"):
            Shard.parse_shard(text)
    assert Shard.parse_shard("1/2") == Shard(1, 2)


def test_the_gate_on_coverage_looks_at_all_shards_together(tmp_path, write_dataset, shop, teachers) -> None:
    dataset, config = write_dataset(shop), KnowledgeConfig(min_coverage=0.9)
    shards = [run(dataset, tmp_path / f"{n}", config=config, shard=Shard(n, 4)) for n in range(4)]
    with pytest.raises(UserError, match=r"75\.0% of 4 items"):
        merge_knowledge(dataset, shards, config, cache=tmp_path / "cache", out=tmp_path / "merged")


def test_a_spent_budget_leaves_the_cache_and_no_artifact(tmp_path, write_dataset, shop, teachers) -> None:
    dataset = write_dataset(shop)
    config = KnowledgeConfig(budget=BudgetConfig(max_requests=8))
    with pytest.raises(UserError, match=r"max_requests 8 is reached .* of 4 items .* 8 requests") as stop:
        run(dataset, tmp_path / "out", config=config)
    assert "Run again" in str(stop.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    run(dataset, tmp_path / "out")
    questions = [(request.agent, request.agent_input) for teacher in teachers for request in teacher.asked]
    assert len(questions) == len(set(questions)), "nothing is paid twice"


def test_shards_share_the_budget() -> None:
    budget = BudgetConfig(max_requests=6, max_money=1.0, max_hours=3)
    shares = [budget.share_for_shard(number, 4) for number in range(4)]
    assert [share.max_requests for share in shares] == [2, 2, 1, 1]
    assert {(share.max_tokens, share.max_money, share.max_hours) for share in shares} == {(None, 0.25, 3)}


def test_a_shard_takes_over_its_own_items_only(tmp_path, write_dataset, shop, teachers) -> None:
    dataset = write_dataset(shop)
    whole = run(dataset, tmp_path / "whole")
    for number in range(2):
        run(dataset, tmp_path / f"shard{number}", cache="empty", previous=whole, shard=Shard(number, 2))
    metrics = [read_lineage(tmp_path / f"shard{number}").metrics for number in range(2)]
    assert [part["carried_over"] for part in metrics] == [part["items"] for part in metrics]
    assert sum(path.stat().st_size for path in (tmp_path / "empty" / "items").glob("*.idx")) == 24 * len(shop)


def test_figures_of_every_agent_are_flat(tmp_path, write_dataset, shop, teachers) -> None:
    metrics = read_lineage(run(write_dataset(shop), tmp_path / "out")).metrics
    assert metrics["critic_requests"] == 3
    assert metrics["requests"] == sum(metrics[f"{name}_requests"] for name in _AGENTS) == metrics["asked"]
    assert metrics["dropped_objected_to"] >= 1
    assert metrics["dropped_no_evidence"] == 0


_AGENTS = ("planner", "demand_analyst", "attribute_analyst", "critic", "editor")
