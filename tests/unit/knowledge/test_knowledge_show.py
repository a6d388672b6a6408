"""What a person can look at: an item's knowledge with its reasons, and its nearest items."""

from pathlib import Path

import polars as pl
import pytest

from contracts.artifacts import create_artifact, write_table
from contracts.errors import UserError
from contracts.tables import ITEM_EMBEDDINGS
from models.knowledge.agents.agent_roles import (
    AttributeFindings,
    CategoryPlan,
    CriticReview,
    DemandFindings,
    EditedRecord,
    Objection,
)
from models.knowledge.config import KnowledgeConfig
from models.knowledge.distillation import distill_knowledge as distill
from models.knowledge.distillation.describe_item import describe_item
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.nearest_items import find_neighbors
from models.knowledge.knowledge_schema import Claim
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse
from pipelines.config import load_config
from reaseq.cli import main
from tests.unit.knowledge.conftest import START

HOSTILE = "\x1b[2J\u202e<script>alert(1)</script>"


def claim(text: str, evidence: str = "why not", source: str = "reasoning") -> Claim:
    return Claim(text=text, evidence=evidence, source=source, confidence=0.5)


def answer(request: TeacherRequest) -> TeacherResponse:
    """A team whose every text tries to command the terminal."""
    if request.answer_type is CategoryPlan:
        made = CategoryPlan(reasoning=f"the plan {HOSTILE}", product_kind="cable", focus=(), pitfalls=())
    elif request.answer_type is DemandFindings:
        demands = (claim("charge a phone"), claim("fly to the moon"), claim("no reason", evidence=""))
        made = DemandFindings(
            reasoning="demand side",
            recognized=True,
            summary="A cable.",
            demands=demands,
            audiences=(),
            scenarios=(),
        )
    elif request.answer_type is AttributeFindings:
        attributes = (claim("braided", "braided", "catalogue"), claim("gold", "made of gold", "catalogue"))
        made = AttributeFindings(
            reasoning="product side",
            recognized=True,
            attributes=attributes,
            complements=(),
            substitutes=(),
            lifecycle=(),
        )
    elif request.answer_type is CriticReview:
        objection = Objection(
            facet="demands", number=1, problem=f"cables do not fly {HOSTILE}", remedy="drop"
        )
        made = CriticReview(reasoning="critic", objections=(objection,))
    else:
        made = EditedRecord(reasoning="editor", record=request.agent_input.record)
    return TeacherResponse(0, made.model_dump_json())


@pytest.fixture
def knowledge(tmp_path, write_dataset, shop, scripted, monkeypatch) -> Path:
    monkeypatch.setattr(distill, "build_teacher", lambda config: scripted(answer))
    distill_knowledge(
        write_dataset(shop), KnowledgeConfig(), cache=tmp_path / "cache", out=tmp_path / "knowledge"
    )
    return tmp_path / "knowledge"


def test_an_item_is_shown_with_all_reasons(knowledge: Path) -> None:
    shown = describe_item(knowledge, "a")
    for text in (
        "Brightline USB C Cable, braided, 2 m",
        "category: Cables > USB Cables",
        "demand analyst\n  demand side",
        "drop demands 'fly to the moon': cables do not fly",
        "0.50 charge a phone\n         reasoning: why not",
        "0.50 braided\n         catalogue: 'braided'",
        "objected to: demands 'fly to the moon'",
        "no evidence: demands 'no reason'",
        "quotation not in the catalogue: attributes 'gold' (evidence: made of gold)",
        "teacher scripted-1",
    ):
        assert text in shown


def test_no_text_can_command_the_terminal(knowledge: Path) -> None:
    shown = describe_item(knowledge, "a")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "the plan \\x1b[2J\\u202e<script>" in shown


def test_an_unknown_item_gets_near_ones(knowledge: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no item 'aa' .* did you mean a\?"):
        describe_item(knowledge, "aa")
    with pytest.raises(UserError, match=r"no item 'xyz' in .*knowledge$"):
        describe_item(knowledge, "xyz")
    with pytest.raises(UserError, match="not a complete artifact"):
        describe_item(tmp_path / "nowhere", "a")
    (dataset,) = tmp_path.glob("dataset-*")
    with pytest.raises(UserError, match="kind 'dataset'"):
        describe_item(dataset, "a")


def write_embeddings(out: Path) -> Path:
    vectors = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-2.0, 0.0]]
    frame = pl.DataFrame(
        {
            "item_id": list("abcd"),
            "embedding": vectors,
            "semantic_id": [[number] for number in range(4)],
            "space": "s",
            "event_timestamp": START,
        }
    )
    with create_artifact(out, kind="item_embeddings", inputs={}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, frame)
    return out


def test_nearest_items(tmp_path: Path, write_dataset, shop) -> None:
    dataset = write_dataset(shop)
    write_embeddings(tmp_path / "embeddings")
    near = find_neighbors(tmp_path / "embeddings", dataset / "items.parquet", "a", count=3)
    assert near["item_id"].to_list() == ["b", "c", "d"]
    assert near["cosine"].to_list() == pytest.approx([0.8, 0.0, -1.0])
    assert near["title"][0] == shop[1]["title"]
    with pytest.raises(UserError, match="--count 0"):
        find_neighbors(tmp_path / "embeddings", dataset / "items.parquet", "a", count=0)
    with pytest.raises(UserError, match="no item 'q'"):
        find_neighbors(tmp_path / "embeddings", dataset / "items.parquet", "q")


def test_the_verb_finds_what_the_last_run_made(tmp_path, write_dataset, shop, knowledge, capsys) -> None:
    workspace = ["--set", f"workspace={tmp_path / 'workspace'}"]
    steps = load_config(None, workspace[1:]).home / "steps" / "run"
    made = {"ingest/dataset": write_dataset(shop), "merge-knowledge/knowledge": knowledge}
    made["embed-items/item_embeddings"] = write_embeddings(tmp_path / "embeddings")
    for place, folder in made.items():
        (steps / place).parent.mkdir(parents=True)
        folder.rename(steps / place)
    assert main(["knowledge", "show", "a", *workspace]) == 0
    assert "objected to: demands 'fly to the moon'" in capsys.readouterr().out
    assert main(["knowledge", "neighbors", "a", "--count", "2", *workspace]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"0.800  b  {shop[1]['title']}  [Baby")
    assert second.startswith("0.000  c  ")
