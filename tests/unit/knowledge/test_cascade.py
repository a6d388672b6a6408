"""One question an item, and a cascade of two teachers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from tiny_catalogue import SHOP

from benchmarks.knowledge.tiny_model import make_tiny_model
from contracts.artifacts import read_lineage
from contracts.errors import UserError
from contracts.shards import Shard
from models.knowledge.config import CascadeTeacherConfig, KnowledgeConfig, TransformersTeacherConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.distillation.merge_knowledge import merge_knowledge
from models.knowledge.knowledge_schema import KnowledgeRecord
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.cascade import cascade_teacher
from models.knowledge.teachers.cascade.calibration import Calibration
from models.knowledge.teachers.compact.compact_answer import CompactAnswer
from models.knowledge.teachers.compact.compact_teacher import COMPACT_EVIDENCE, CompactTeacher
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse

TITLES = ["sure thing", "doubtful thing", "broken thing", "unknown thing"]
CONFIDENCES = {"sure": -0.1, "doubtful": -2.0, "broken": -0.1, "unknown": -0.1}
ITEMS = [{**SHOP[0], "item_id": title.split()[0], "title": title} for title in TITLES]
CATALOGUE_FACETS = ("needs", "users", "uses", "features", "also", "instead")


def write_answer(kind: str, **facets: list[str]) -> str:
    fields: dict[str, Any] = {**dict.fromkeys(CATALOGUE_FACETS, ()), **facets, "kind": kind, "life": "years"}
    return CompactAnswer.model_validate(fields).model_dump_json()


def answer_compactly(request: TeacherRequest) -> TeacherResponse:
    title = request.agent_input.model_dump()["title"]
    word = title.split()[0]
    text = write_answer("unknown" if word == "unknown" else title, needs=["hold tea"], features=[title])
    text = text[:20] if word == "broken" else text
    return TeacherResponse(0, text, 10, 5, 0.5, mean_logprob=CONFIDENCES[word])


def answer_by_agent(request: TeacherRequest) -> TeacherResponse:
    claim = {"text": "large claim", "evidence": "large reason", "source": "reasoning", "confidence": 0.9}
    answers: dict[str, dict[str, Any]] = {
        "planner": {"product_kind": "thing", "focus": [], "pitfalls": []},
        "demand_analyst": {"recognized": True, "summary": "A large thing.", "demands": [claim]}
        | dict.fromkeys(("audiences", "scenarios"), ()),
        "attribute_analyst": {"recognized": True}
        | dict.fromkeys(("attributes", "complements", "substitutes", "lifecycle"), ()),
        "critic": {"objections": []},
    }
    if request.agent == "editor":
        record = request.agent_input.model_dump(mode="json")["record"]
        return TeacherResponse(0, json.dumps({"reasoning": "", "record": record}), 100, 50)
    return TeacherResponse(0, json.dumps({"reasoning": "", **answers[request.agent]}), 100, 50)


def read_records(knowledge: Path) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in pl.read_parquet(knowledge / "knowledge.parquet").to_dicts()}


@pytest.fixture
def cascade_config(tmp_path: Path) -> CascadeTeacherConfig:
    (tmp_path / "student").mkdir()
    Calibration([-3.0, -1.0, -0.5], [0.2, 0.5, 0.8], 1).write(tmp_path / "student")
    return CascadeTeacherConfig.model_validate(
        {
            "kind": "cascade",
            "student": {"kind": "transformers", "model": str(tmp_path / "student")},
            "fallback": {"kind": "handbook"},
            "min_agreement": 0.5,
        }
    )


@pytest.fixture
def teachers(monkeypatch, scripted) -> tuple[Any, Any]:
    student, large = scripted(answer_compactly), scripted(answer_by_agent)
    student.name = "small"
    large.name, large.price = "large", large.price._replace(tokens_in=1000.0, tokens_out=2000.0)
    built = iter([CompactTeacher(student), large] * 9)
    monkeypatch.setattr(cascade_teacher, "build_teacher", lambda config: next(built))
    monkeypatch.setattr(
        "models.knowledge.distillation.distill_knowledge.build_teacher", cascade_teacher.CascadeTeacher
    )
    return student, large


def test_doubtful_and_invalid_answers_go_to_the_large_teacher(
    write_dataset: Callable[..., Path], tmp_path, cascade_config, teachers, capsys
):
    student, large = teachers
    out = tmp_path / "knowledge"
    config = KnowledgeConfig(teacher=cascade_config)
    distill_knowledge(write_dataset(ITEMS), config, cache=tmp_path / "cache", out=out)

    records = read_records(out)
    assert records["sure"]["summary"] == "sure thing"
    assert [claim["evidence"] for claim in records["sure"]["demands"]] == [COMPACT_EVIDENCE]
    assert [claim["source"] for claim in records["sure"]["attributes"]] == ["catalogue"]
    assert records["unknown"]["status"] == "unknown"
    for word in ("doubtful", "broken"):
        assert [claim["text"] for claim in records[word]["demands"]] == ["large claim"]
    # Once an item; the large one was asked as a team, but never about what the student was sure of.
    assert len(student.asked) == len(ITEMS)
    asked_agents = sorted(request.agent for request in large.asked)
    assert asked_agents.count("planner") == 1
    assert asked_agents.count("demand_analyst") == asked_agents.count("critic") == 2
    screen = capsys.readouterr().err
    assert (
        "asked about 4 items; 2 (50.0%) were sent on: 1 with a confidence below -1.000, 1 without" in screen
    )


def test_each_teacher_is_paid_by_its_own_prices(write_dataset, tmp_path, cascade_config, teachers):
    out = tmp_path / "knowledge"
    config = KnowledgeConfig(teacher=cascade_config)
    distill_knowledge(write_dataset(ITEMS), config, cache=tmp_path / "cache", out=out)
    metrics = read_lineage(out).metrics
    student_money = 4 * (10 * 1.0 + 5 * 2.0) / 1e6
    large_money = len(teachers[1].asked) * (100 * 1000.0 + 50 * 2000.0) / 1e6
    assert metrics["cascade_student_money"] == pytest.approx(student_money)
    assert metrics["cascade_fallback_money"] == pytest.approx(large_money)
    assert metrics["money"] == pytest.approx(student_money + large_money)
    assert metrics["tokens_in"] == 4 * 10 + 100 * len(teachers[1].asked)


def test_shards_add_up_what_was_sent_on(write_dataset, tmp_path, cascade_config, teachers):
    dataset, config = write_dataset(ITEMS), KnowledgeConfig(teacher=cascade_config)
    shards = [tmp_path / f"shard{number}" for number in range(2)]
    for number, out in enumerate(shards):
        shard = Shard(number, 2)
        distill_knowledge(dataset, config, cache=tmp_path / "cache", out=out, shard=shard)
    merge_knowledge(dataset, shards, config, cache=tmp_path / "cache", out=tmp_path / "merged")
    metrics = read_lineage(tmp_path / "merged").metrics
    assert (metrics["cascade_items"], metrics["cascade_sent"]) == (4, 2)
    assert (metrics["cascade_sent_unsure"], metrics["cascade_sent_invalid"]) == (1, 1)


def test_a_broken_compact_answer_is_asked_for_once_more(write_dataset, tmp_path, monkeypatch, scripted):
    student = scripted(answer_compactly)
    monkeypatch.setattr(
        "models.knowledge.distillation.distill_knowledge.build_teacher", lambda _: CompactTeacher(student)
    )
    out = tmp_path / "knowledge"
    config = KnowledgeConfig(max_invalid_rate=1)
    distill_knowledge(write_dataset(ITEMS), config, cache=tmp_path / "cache", out=out)
    assert read_records(out)["broken"]["status"] == "invalid"
    repairs = [request for request in student.asked if request.attempt]
    assert len(repairs) == 1
    assert "cut off" in repairs[0].complaint
    assert read_lineage(out).metrics["tokens_in"] == 10 * (len(ITEMS) + 1), "both analysts share one answer"


def test_a_record_becomes_the_answer_that_it_would_have_been():
    claim = {"evidence": "e", "source": "reasoning", "confidence": 0.5}
    facets = dict.fromkeys(("audiences", "scenarios", "complements", "substitutes"), ())
    record = KnowledgeRecord.model_validate(
        {
            **facets,
            "summary": "mug",
            "demands": [claim | {"text": f"need {number}"} for number in range(5)],
            "attributes": [claim | {"text": "word " * 30}],
            "lifecycle": [claim | {"text": "lasts years"}],
        }
    )
    answer = CompactAnswer.of_record(record, max_claims=4)
    assert answer.needs == ("need 0", "need 1", "need 2", "need 3")
    assert answer.features[0].endswith("word")
    assert len(answer.features[0]) <= 80
    knowledge = answer.to_knowledge()
    assert (knowledge.kind, knowledge.lifecycle) == ("mug", ("lasts years",))
    assert not CompactAnswer.of_record(None, 2).to_knowledge().is_known


@pytest.mark.parametrize("rule", [{}, {"share": 0.5, "min_agreement": 0.5}])
def test_a_cascade_needs_one_rule(cascade_config, rule):
    fields = cascade_config.model_dump(exclude={"share", "min_agreement"})
    with pytest.raises(ValidationError, match="either share or min_agreement"):
        CascadeTeacherConfig.model_validate({**fields, **rule})


def test_a_cascade_without_calibration_says_where_it_comes_from(cascade_config, tmp_path):
    (tmp_path / "student/calibration.json").unlink()
    with pytest.raises(UserError, match="`distill_teacher` writes it beside"):
        build_teacher(cascade_config)
    (tmp_path / "student/calibration.json").write_text("[]")
    with pytest.raises(UserError, match="is no calibration"):
        build_teacher(cascade_config)


def test_a_real_model_answers_in_the_compact_schema_and_says_how_sure_it_is(tmp_path):
    from models.knowledge.distillation.product_text import Product

    folder = make_tiny_model(tmp_path / "tiny")
    config = TransformersTeacherConfig(
        kind="transformers", model=str(folder), form="compact", confidence=True, max_tokens=3000, batch_size=4
    )
    teacher = build_teacher(config)
    assert isinstance(teacher, CompactTeacher)
    replies = list(teacher.ask_about_products([Product(title=f"Mug {number}") for number in range(3)]))
    assert all(reply.answer is not None for reply in replies)
    confidences = [reply.response.mean_logprob for reply in replies]
    assert all(confidence is not None and confidence < 0 for confidence in confidences)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from models.knowledge.agents.prompt_files import render_chat_messages
    from models.knowledge.teachers.compact.compact_answer import ITEM_WRITER, CompactProduct

    # The same number by one pass over question and answer.
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    reply = next(reply for reply in replies if reply.number == 0)
    product = CompactProduct.of_product(Product(title="Mug 0"))
    messages = render_chat_messages(ITEM_WRITER, product, CompactAnswer, tells_schema=False)
    question = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(question, add_special_tokens=False)["input_ids"]
    answered = tokenizer(reply.response.text, add_special_tokens=False)["input_ids"]
    answered.append(tokenizer.eos_token_id)
    with torch.inference_mode():
        logits = model(torch.tensor([asked + answered])).logits[0, len(asked) - 1 : -1]
    logprobs = torch.log_softmax(logits, dim=-1)[range(len(answered)), answered]
    assert reply.response.mean_logprob == pytest.approx(float(logprobs.mean()), abs=1e-3)
