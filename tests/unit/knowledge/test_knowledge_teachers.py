"""Language-model teachers without a server: recorded answers, the trial request, plain transformers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig

from benchmarks.knowledge.tiny_model import make_tiny_model
from contracts.errors import UserError
from models.knowledge.agents.agent_roles import (
    DEMAND_ANALYST,
    PLANNER,
    AnalystAssignment,
    CategoryBrief,
    CategoryPlan,
)
from models.knowledge.cache.workspace_cache import digest_recipe
from models.knowledge.config import (
    HandbookTeacherConfig,
    ReplayTeacherConfig,
    TransformersTeacherConfig,
    VllmTeacherConfig,
)
from models.knowledge.distillation.product_text import Product, clean_catalogue_text
from models.knowledge.teachers import handbook_teacher as handbook
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.chat_messages import make_chat_prompt
from models.knowledge.teachers.constrained_decoding import SchemaConstraint, build_token_table
from models.knowledge.teachers.json_answers import extract_json_object
from models.knowledge.teachers.model_identity import identify_model, identify_source_code
from models.knowledge.teachers.schema_trial import SCHEMA_TRIAL, check_schema_trial
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse
from models.knowledge.teachers.vllm_teacher import limit_positions

PLAN = CategoryPlan(reasoning="r", product_kind="mug", focus=(), pitfalls=())


def about(title: str, brand: str = "", attempt: int = 0) -> TeacherRequest:
    given = AnalystAssignment(product=Product(title=title, brand=brand, category="Mugs"), plan=PLAN)
    return TeacherRequest(
        "demand_analyst", given, DEMAND_ANALYST.answer_type, "1", attempt, "not valid" if attempt else ""
    )


def planning(category: str = "Mugs", attempt: int = 0) -> TeacherRequest:
    return TeacherRequest("planner", CategoryBrief(category=category), PLANNER.answer_type, "1", attempt)


def record(path: Path, *lines: dict[str, Any] | str) -> ReplayTeacherConfig:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return ReplayTeacherConfig(kind="replay", recordings=path)


def replay(config: ReplayTeacherConfig, *requests: TeacherRequest) -> list[str]:
    return [response.text or response.error for response in build_teacher(config).answer_batch(requests)]


def test_the_most_specific_recording_answers(tmp_path: Path) -> None:
    config = record(
        tmp_path / "recordings.jsonl",
        {"agent": "planner", "answer": "any category"},
        {"agent": "planner", "category": "Cups", "answer": "cups"},
        {"agent": "demand_analyst", "title": "Red  Mug", "answer": {"reasoning": "a mug"}},
        "",
        {"agent": "demand_analyst", "title": "Red Mug", "answer": "too late"},
        {"agent": "demand_analyst", "title": "Red Mug", "brand": "Acme", "answer": "Acme's"},
        {"agent": "demand_analyst", "title": "long " * 100, "answer": "long"},
    )
    answers = replay(
        config, planning(), planning("Cups"), about("Red Mug"), about("Red Mug", "Acme"), about("Blue")
    )
    assert replay(config, about(clean_catalogue_text("long " * 100, 400))) == [
        "long"
    ]  # as the catalogue's titles are cut
    assert answers[:4] == ["any category", "cups", '{"reasoning": "a mug"}', "Acme's"]
    assert "no recorded answer" in answers[4]


def test_a_repair_gets_the_recorded_answer_again(tmp_path: Path) -> None:
    config = record(
        tmp_path / "r.jsonl", {"agent": "demand_analyst", "title": "Red Mug", "answer": "broken {"}
    )
    assert replay(config, about("Red Mug", attempt=1)) == ["broken {"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", "line 1: Invalid JSON"),
        ({"agent": "planner"}, "line 1: answer: Field required"),
        ({"agent": "planer", "answer": "x"}, "'planer' unknown; known: planner, demand_analyst"),
        ({"agent": "planner", "answer": "x", "item_id": "7"}, "item_id"),
    ],
)
def test_a_line_that_is_no_recording_is_named(
    tmp_path: Path, line: dict[str, Any] | str, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        replay(record(tmp_path / "r.jsonl", line), planning())


def test_other_recordings_are_another_teacher(tmp_path: Path) -> None:
    configs = [
        record(tmp_path / f"{text}.jsonl", {"agent": "planner", "answer": text}) for text in ("a", "b")
    ]
    assert len({build_teacher(config).name for config in configs}) == 2


@pytest.mark.parametrize(
    "text", ["Good morning!", "", "[]", '{"code": "other"}', '{"code": "kq7-zr2-xw9", "more": 1}']
)
def test_the_trial_fails_with_any_other_answer(text: str) -> None:
    (code,) = SCHEMA_TRIAL.schema["properties"]["code"]["enum"]
    assert code not in json.dumps(SCHEMA_TRIAL.messages)
    check_schema_trial(TeacherResponse(0, json.dumps({"code": code})), remedy="")
    with pytest.raises(UserError, match=r"ignored.*Do this\."):
        check_schema_trial(TeacherResponse(0, text), remedy="Do this.")


@pytest.mark.parametrize(
    ("text", "json_text"),
    [
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('<think>{"a": 0}?</think> Here: {"a": 1}. Anything else?', '{"a": 1}'),
        ("no object } here {", "no object } here {"),
    ],
)
def test_unconstrained_answers_are_freed_of_remarks(text: str, json_text: str) -> None:
    assert extract_json_object(text) == json_text


def test_seeds_depend_on_the_conversation_alone() -> None:
    red, again, blue = (
        make_chat_prompt(about("Red")),
        make_chat_prompt(about("Red")),
        make_chat_prompt(about("Blue")),
    )
    assert red.derive_sampling_seed(1) == again.derive_sampling_seed(1)
    assert (
        len(
            {
                red.derive_sampling_seed(1),
                red.derive_sampling_seed(2),
                blue.derive_sampling_seed(1),
                make_chat_prompt(about("Red", attempt=1)).derive_sampling_seed(1),
            }
        )
        == 4
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", max_positions=4096)


def transformers(model: Path, **options: Any) -> TransformersTeacherConfig:
    return TransformersTeacherConfig(kind="transformers", model=str(model), **options)


def test_transformers_answers_alike_whatever_stands_beside(tiny: Path) -> None:
    short, long = about("Red Mug"), about("A mug that is red, " * 12)
    alone = next(build_teacher(transformers(tiny, max_tokens=16)).answer_batch([short]))
    teacher = build_teacher(transformers(tiny, max_tokens=16, batch_size=2))
    responses = {response.number: response for response in teacher.answer_batch([long, short])}
    assert sorted(responses) == [0, 1]
    assert responses[1]._replace(number=0, seconds=0) == alone._replace(seconds=0)
    assert all(response.tokens_in > 1000 and 0 < response.tokens_out <= 16 for response in responses.values())
    assert not any(response.error for response in responses.values())


def test_transformers_tells_what_was_cut_off_and_what_does_not_fit(tiny: Path) -> None:
    teacher = build_teacher(transformers(tiny, max_tokens=16, temperature=1.0))
    huge, *rest = list(
        teacher.answer_batch([about("x" * 4000), *(planning(f"c{number}") for number in range(3))])
    )
    assert "too long for the model" in huge.error
    for response in rest:
        assert response.truncated == (response.tokens_out == 16)


def test_transformers_answers_keep_to_their_schemas(tiny: Path) -> None:
    teacher = build_teacher(transformers(tiny, max_tokens=1000, temperature=1.0, batch_size=4))
    requests = [planning("Mugs"), about("Red Mug"), planning("Tea"), planning("Pots")]
    for response in teacher.answer_batch(requests):
        assert not response.truncated
        requests[response.number].answer_type.model_validate_json(response.text)


def test_a_model_that_repeats_a_digit_ends_its_number(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    schema = {
        "type": "object",
        "properties": {"confidence": {"type": "number", "minimum": 0, "maximum": 1}},
        "required": ["confidence"],
        "additionalProperties": False,
    }
    constraint = SchemaConstraint(build_token_table(tokenizer, len(tokenizer)), [schema])
    scores = torch.zeros(1, len(tokenizer))
    for rank, character in enumerate("3.0"):
        scores[0, tokenizer.encode(character, add_special_tokens=False)] = 3.0 - rank
    answer = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(40):
        answer = torch.cat([answer, constraint(answer, scores).argmax(1, keepdim=True)], dim=1)
    text = tokenizer.decode(answer[0, 1:], skip_special_tokens=True)
    assert json.loads(text) == {"confidence": 0.33}


def test_a_model_may_think_first(tiny: Path) -> None:
    free = build_teacher(transformers(tiny, max_tokens=16, constrained=False))
    held = build_teacher(transformers(tiny, max_tokens=16))
    assert free.sampling != held.sampling
    assert next(held.answer_batch([planning()])).text.startswith('{"reasoning":"')
    assert not next(free.answer_batch([planning()])).text.startswith("{")


def test_a_template_without_system_messages_gets_one_message(tiny: Path, tmp_path: Path) -> None:
    import shutil

    refusing = "{{ raise_exception('no') }}"
    one_message = "{% if messages|length > 1 %}" + refusing + "{% endif %}<{{ messages[0]['content'] }}>"
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    for template, complaint in ((one_message, ""), (refusing, "refuses the agents' messages: no")):
        for old_template in folder.glob("chat_template*"):
            old_template.unlink()
        (folder / "chat_template.jinja").write_text(template)
        teacher = build_teacher(transformers(folder, max_tokens=16))
        if complaint:
            with pytest.raises(UserError, match=complaint):
                list(teacher.answer_batch([about("Red Mug", attempt=1)]))
        else:
            (response,) = teacher.answer_batch([about("Red Mug", attempt=1)])
            assert not response.error


def test_a_local_model_is_known_by_its_weights(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "notes.txt"):
        (tmp_path / name).write_text("1")
    first = identify_model(str(tmp_path), None)
    (tmp_path / "notes.txt").write_text("2")
    assert identify_model(str(tmp_path), None) == first
    (tmp_path / "model.safetensors").write_text("2")
    assert identify_model(str(tmp_path), None) != first
    assert identify_model("org/model", "abc") == "org/model@abc"


def test_code_is_known_by_its_sources(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    for name in ("room/matcher.py", "claims.py", "room/concepts.yaml"):
        (tmp_path / name).write_text("1")
    paths = [tmp_path / "claims.py", tmp_path / "room"]
    first = identify_source_code(paths)
    assert identify_source_code(paths[::-1]) == first
    (tmp_path / "room/concepts.yaml").write_text("2")
    assert identify_source_code(paths) == first
    (tmp_path / "room/matcher.py").write_text("2")
    assert identify_source_code(paths) != first


def test_a_handbook_that_matches_otherwise_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a cache would answer from the matching of an earlier version for ever."""
    recipes = set()
    for digest in ("1", "2"):
        monkeypatch.setattr(handbook, "_digest_answering_code", lambda digest=digest: digest)
        recipes.add(digest_recipe(build_teacher(HandbookTeacherConfig())))
    assert len(recipes) == 2


def test_what_a_killed_process_started_is_ended() -> None:
    code = """
import subprocess, sys
from models.knowledge.teachers.child_processes import kill_children_with_parent
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=sys.stdin)
reaper = kill_children_with_parent()
print(child.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs([child], timeout=30)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def test_what_cannot_be_loaded_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="cannot load"):
        list(build_teacher(transformers(tmp_path)).answer_batch([planning()]))
    # This environment has no vLLM: the teacher can be made and cached answers served, but nothing asked.
    teacher = build_teacher(VllmTeacherConfig(kind="vllm", model=str(tmp_path)))
    assert list(teacher.answer_batch([])) == []
    with pytest.raises(UserError, match=r"scripts/setup\.sh vllm"):
        list(teacher.answer_batch([planning()]))


@pytest.mark.parametrize(("wanted", "expected"), [(16_384, 8192), (2048, 2048)])
def test_a_model_of_few_positions_sets_the_limit_of_vllm(tmp_path: Path, wanted: int, expected: int) -> None:
    LlamaConfig(max_position_embeddings=8192).save_pretrained(tmp_path)
    config = VllmTeacherConfig(kind="vllm", model=str(tmp_path), max_model_len=wanted)
    assert limit_positions(config) == expected


def test_positions_that_a_model_scales_are_left_to_vllm(tmp_path: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
    LlamaConfig(max_position_embeddings=8192, rope_parameters=scaling).save_pretrained(tmp_path)
    assert limit_positions(VllmTeacherConfig(kind="vllm", model=str(tmp_path))) == 16_384
