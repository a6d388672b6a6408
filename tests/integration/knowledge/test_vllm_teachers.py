"""vLLM as teacher, in process and as a server, on a tiny random model: valid answers, trial, resume."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distil_run import REQUESTS_PER_AGENT, requests_of_every_agent
from model_processes import ENGINE, ROOT, distill, environment

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.tables import KNOWLEDGE
from models.knowledge.agents.agent_roles import AGENT_NAMES
from models.knowledge.config import OpenAITeacherConfig
from models.knowledge.teachers.chat_messages import ChatPrompt
from models.knowledge.teachers.chat_server import ChatServer
from models.knowledge.teachers.openai_teacher import OpenAICompatibleTeacher

pytestmark = pytest.mark.integration

NUM_ITEMS = 24
CONCURRENCY = 4
Facts = list[dict[str, Any]]


def killed_after(num_stored: int, told: Iterator[dict[str, Any]]) -> Facts:
    """What a run told until so many answers were stored; then it is killed, in the middle of others."""
    facts: Facts = []
    for fact in told:
        facts.append(fact)
        if sum("stored" in known for known in facts) == num_stored:
            break
    told.close()  # type: ignore[attr-defined]
    return facts


def in_session(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False


def assert_nothing_left(session: int) -> None:
    """The engine of a killed process is gone too: it would keep the GPU's memory."""
    left = [process for process in psutil.process_iter() if in_session(process.pid, session)]
    _, alive = psutil.wait_procs(left, timeout=60)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive), [
        process.name() for process in alive
    ]


def named(facts: Facts, kind: str) -> list[str]:
    return [fact[kind] for fact in facts if kind in fact]


def assert_resumed(first: Facts, second: Facts, folder: Path) -> None:
    """What the killed run had stored is not asked again; only what was in flight is paid twice."""
    assert not (folder / "killed").exists()
    asked, stored = named(first, "asked"), named(first, "stored")
    assert len(asked) > len(stored)
    again = set(named(second, "asked"))
    assert not again & set(stored)
    assert len(again & set(asked)) <= CONCURRENCY
    assert max(Counter(named(second, "asked")).values()) == 1
    frame = read_table(folder / "resumed" / "knowledge.parquet", KNOWLEDGE)
    assert frame.height == NUM_ITEMS
    metrics = read_lineage(folder / "resumed").metrics
    # Random words have no evidence, so no claim stands; but every answer was one of its schema.
    assert metrics["invalid_rate"] == 0
    assert metrics["tokens_out"] > 0


@pytest.fixture
def folder(tmp_path: Path, write_dataset: Callable[..., Path]) -> Path:
    write_dataset(
        *({"title": f"Mug {number}", "category": f"Mugs > {number % 3}"} for number in range(NUM_ITEMS))
    )
    return tmp_path


def test_in_process_every_agent_is_answered_by_its_schema_and_a_killed_run_goes_on(
    vllm_python: Path, tiny_model: Path, folder: Path
) -> None:
    teacher = {"kind": "vllm", "model": str(tiny_model), "dtype": "float32", "temperature": 1.0}
    teacher |= {"concurrency": CONCURRENCY, "engine_args": ENGINE}
    first = killed_after(20, distill(vllm_python, teacher, folder, "killed", "agents"))
    assert_nothing_left(first[0]["pid"])
    too_long, *answers = [fact for fact in first if "agent" in fact]
    assert "maximum context length" in too_long["error"]
    assert Counter(answer["agent"] for answer in answers if answer["valid"]) == dict.fromkeys(
        AGENT_NAMES, REQUESTS_PER_AGENT
    )
    assert_resumed(first, list(distill(vllm_python, teacher, folder, "resumed")), folder)


def test_served_a_killed_run_goes_on(vllm_server: str, folder: Path) -> None:
    teacher = {"kind": "openai", "base_url": vllm_server, "model": "tiny", "temperature": 1.0}
    teacher |= {"concurrency": CONCURRENCY}
    first = killed_after(20, distill(sys.executable, teacher, folder, "killed"))
    assert_resumed(first, list(distill(sys.executable, teacher, folder, "resumed")), folder)


@pytest.mark.parametrize("structured_output", ["response_format", "structured_outputs"])
def test_served_every_agent_is_answered_by_its_schema(vllm_server: str, structured_output: str) -> None:
    teacher = served(vllm_server, structured_output=structured_output)
    requests = list(requests_of_every_agent())
    for response in teacher.answer_batch(requests):
        assert not response.error
        assert not response.truncated
        requests[response.number].answer_type.model_validate_json(response.text)


def test_served_a_field_that_the_server_does_not_know_is_found_out(
    vllm_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema is sent as older versions of vLLM wanted it: this one answers with free text."""
    build_request_arguments = ChatServer._build_request_arguments

    def build_outdated(server: ChatServer, chat: ChatPrompt) -> dict[str, Any]:
        return {**build_request_arguments(server, chat), "extra_body": {"guided_json": chat.schema}}

    monkeypatch.setattr(ChatServer, "_build_request_arguments", build_outdated)
    with pytest.raises(UserError, match="schema was ignored"):
        list(served(vllm_server, max_tokens=64).answer_batch(list(requests_of_every_agent())))


def config(url: str, **options: Any) -> OpenAITeacherConfig:
    return OpenAITeacherConfig(kind="openai", base_url=url, model="tiny", temperature=1.0, **options)


def served(url: str, **options: Any) -> OpenAICompatibleTeacher:
    return OpenAICompatibleTeacher(config(url, **options))


def test_the_pipeline_step_runs_in_this_environment(vllm_python: Path, folder: Path) -> None:
    answers: dict[str, dict[str, Any]] = {
        "planner": {"product_kind": "mug", "focus": [], "pitfalls": []},
        "demand_analyst": {
            "recognized": False,
            "summary": "",
            "demands": [],
            "audiences": [],
            "scenarios": [],
        },
        "attribute_analyst": {"recognized": False, "attributes": [], "complements": [], "substitutes": []},
    }
    answers["attribute_analyst"]["lifecycle"] = []
    lines = [
        json.dumps({"agent": agent, "answer": {"reasoning": "r", **answer}})
        for agent, answer in answers.items()
    ]
    (folder / "recordings.jsonl").write_text("\n".join(lines))
    config = {"teacher": {"kind": "replay", "recordings": str(folder / "recordings.jsonl")}}
    code = f"""
from kfp import dsl
from components.distill_knowledge.component import distill_knowledge
artifacts = {{name: kind(name=name, uri=f"{folder}/{{name}}") for name, kind in
             [("dataset", dsl.Dataset), ("knowledge", dsl.Dataset), ("metrics", dsl.Metrics)]}}
distill_knowledge.python_func(
    config={json.dumps(json.dumps(config))}, shard="0/1", workspace="{folder}", code_version="1", **artifacts)
"""
    subprocess.run([vllm_python, "-c", code], env=environment(), cwd=ROOT, check=True)
    assert (
        read_table(folder / "knowledge" / "knowledge.parquet", KNOWLEDGE)["status"].to_list()
        == ["unknown"] * NUM_ITEMS
    )
