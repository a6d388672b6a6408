"""The OpenAI-compatible teacher against a real HTTP server that speaks chat completions."""

import json
import socket
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scripted_chat_server import CUT_OFF, asked, config, given, keep_to_schema, obedient, serve

from contracts.artifacts import create_artifact, read_lineage, read_table, write_json, write_table
from contracts.errors import UserError
from contracts.tables import EVENTS, ITEMS, KNOWLEDGE
from models.knowledge.agents.agent_roles import PLANNER, CategoryBrief
from models.knowledge.config import KnowledgeConfig, OpenAITeacherConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teachers import chat_server
from models.knowledge.teachers.openai_teacher import OpenAICompatibleTeacher
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)


def ask(teacher: OpenAICompatibleTeacher, categories: list[str], attempt: int = 0) -> list[TeacherResponse]:
    requests = [
        TeacherRequest("planner", CategoryBrief(category=name), PLANNER.answer_type, "1", attempt)
        for name in categories
    ]
    return sorted(teacher.answer_batch(requests))


def write_dataset(folder: Path, titles: list[str]) -> Path:
    items = [
        {"item_id": str(number), "title": title, "category": "Mugs"} for number, title in enumerate(titles)
    ]
    frame = pl.DataFrame([{**dict.fromkeys(ITEMS.schema), **item} for item in items], schema=ITEMS.schema)
    event = {"user_id": "u", "timestamp": START, "item_id": "0", "event_type": "click"}
    with create_artifact(folder, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, frame)
        write_table(artifact.path / "events.parquet", EVENTS, pl.DataFrame([event]))
        write_json(
            artifact.path / "split.json", dict.fromkeys(("train_end", "validation_end", "cutoff"), START)
        )
    return folder


def test_a_catalogue_is_distilled_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", ["Red Mug", "Blue Mug", "Red Mug"])
    with serve(obedient) as server:
        teacher = config(server, price_per_million_input_tokens=2.0, price_per_million_output_tokens=10.0)
        for name in ("first", "second"):
            distill_knowledge(
                dataset, KnowledgeConfig(teacher=teacher), cache=tmp_path / "cache", out=tmp_path / name
            )
        assert server.counts["schema_trial"] == 1  # a wholly cached run does not even try the server
        assert len(server.bodies) == 1 + 1 + 4 * 2
        body = server.bodies[1]
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["strict"] is True
    frame = read_table(tmp_path / "first" / "knowledge.parquet", KNOWLEDGE)
    texts = frame.select(pl.col("demands").list.eval(pl.element().struct.field("text")))["demands"].to_list()
    assert texts == [["drink from Red Mug"], ["drink from Blue Mug"], ["drink from Red Mug"]]
    metrics = read_lineage(tmp_path / "first").metrics
    assert (metrics["tokens_in"], metrics["tokens_out"]) == (900, 90)
    assert metrics["money"] == pytest.approx((900 * 2 + 90 * 10) / 1e6)
    assert read_lineage(tmp_path / "second").metrics["money"] == 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_faults_are_retried(status: int) -> None:
    with serve(lambda body, count: (status, "") if count < 2 else obedient(body, count)) as server:
        (response,) = ask(OpenAICompatibleTeacher(config(server)), ["Mugs"])
        assert server.counts["planner"] == 3
    assert not response.error
    assert response.tokens_in == 100


def test_lasting_faults_become_errors_of_their_requests() -> None:
    def script(body: dict[str, Any], count: int) -> tuple[int, str]:
        return (500, "") if given(body)["category"] == "Bad" else obedient(body, count)

    with serve(script) as server:
        good, bad = ask(OpenAICompatibleTeacher(config(server, max_retries=1)), ["Good", "Bad"])
    assert not good.error
    assert "HTTP 500" in bad.error


@pytest.mark.parametrize(
    "content", [b'{"error": {"message": "busy"}}', b"<html>busy</html>", b'{"choices": null}', b"7"]
)
def test_what_is_no_chat_completion_is_an_error_of_its_request(content: bytes) -> None:
    """Gateways report their own faults with HTTP 200."""
    with serve(lambda body, count: (200, content)) as server:
        (response,) = ask(OpenAICompatibleTeacher(config(server, max_retries=0)), ["Mugs"])
    assert "no chat completion" in response.error


def test_a_slow_answer_is_given_up() -> None:
    with serve(lambda body, count: (server.release.wait(30) and 200, "")) as server:
        (response,) = ask(OpenAICompatibleTeacher(config(server, timeout_s=0.2, max_retries=0)), ["Mugs"])
    assert "too long" in response.error


def test_retries_end_at_the_deadline() -> None:
    with serve(lambda body, count: (503, "")) as server:
        server.retry_after_ms = "60000"
        (response,) = ask(OpenAICompatibleTeacher(config(server, deadline_s=0.3)), ["Mugs"])
        assert server.counts["planner"] == 1
    assert "too long" in response.error


def test_a_server_that_goes_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    with ExitStack() as back:

        async def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                back.enter_context(serve(obedient, port))

        monkeypatch.setattr(chat_server, "_pause_for", pause)
        with serve(obedient) as server:
            port = server.server_address[1]
            teacher = OpenAICompatibleTeacher(config(server, concurrency=1, max_retries=0))
            requests = [
                TeacherRequest("planner", CategoryBrief(category=f"c{n}"), PLANNER.answer_type, "1")
                for n in range(3)
            ]
            answers = teacher.answer_batch(requests)
            responses = [next(answers)]
        responses += answers
    assert [(response.number, response.error) for response in responses] == [(0, ""), (1, ""), (2, "")]
    assert len(pauses) == 3
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2 <= pauses[2] <= 4


def test_a_server_that_stays_away_stops_the_run_and_loses_no_answer(tmp_path: Path) -> None:
    is_gone = threading.Event()

    def hangs_up(body: dict[str, Any], count: int) -> tuple[int, str]:
        if asked(body) == "critic":
            is_gone.set()
        if is_gone.is_set():
            raise ConnectionError
        return keep_to_schema(body, count) if asked(body) == "schema_trial" else obedient(body, count)

    dataset = write_dataset(tmp_path / "dataset", ["Red Mug"])
    with serve(hangs_up) as server:
        server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
        server.trial = hangs_up
        knowledge = KnowledgeConfig(teacher=config(server, max_retries=0, deadline_s=0.3))
        with pytest.raises(
            UserError, match=r"not be reached any more .* 0\.3 s .* answers so far are cached"
        ):
            distill_knowledge(dataset, knowledge, cache=tmp_path / "cache", out=tmp_path / "knowledge")
        assert {"planner", "demand_analyst", "attribute_analyst"} <= set(server.counts)
    with serve(obedient) as server:
        knowledge = KnowledgeConfig(teacher=config(server))
        distill_knowledge(dataset, knowledge, cache=tmp_path / "cache", out=tmp_path / "knowledge")
        assert server.counts == {"schema_trial": 1, "critic": 1, "editor": 1}


@pytest.mark.parametrize("structured_output", ["response_format", "structured_outputs"])
@pytest.mark.parametrize(
    "answer", ["Good morning to you!", '{"greeting": "Good morning!"}', '{"code": "none"}']
)
def test_a_server_that_ignores_the_schema_is_found_out(structured_output: str, answer: str) -> None:
    with serve(obedient) as server:
        server.trial = lambda body, count: (200, answer)
        teacher = OpenAICompatibleTeacher(config(server, structured_output=structured_output))
        with pytest.raises(UserError, match=r"schema was ignored.*response_format.*structured_outputs.*none"):
            ask(teacher, ["Mugs"])
        assert list(server.counts) == ["schema_trial"]


def test_schemas_are_sent_as_configured() -> None:
    with serve(obedient) as server:
        for structured_output in ("structured_outputs", "none"):
            extra = {"chat_template_kwargs": {"enable_thinking": False}}
            teacher = config(server, structured_output=structured_output, extra_body=extra)
            (response,) = ask(OpenAICompatibleTeacher(teacher), ["Mugs"])
            assert not response.error
        trial, structured, free = server.bodies
    assert "enum" in trial["structured_outputs"]["json"]["properties"]["code"]
    assert set(structured["structured_outputs"]["json"]["properties"]) == set(
        PLANNER.answer_type.model_fields
    )
    assert "structured_outputs" not in free
    assert all("response_format" not in body for body in (structured, free))
    assert free["chat_template_kwargs"] == {"enable_thinking": False}


def test_unconstrained_answers_are_freed_of_what_is_around_them() -> None:
    plan = {"reasoning": "r", "product_kind": "mug", "focus": [], "pitfalls": []}
    text = f"<think>a mug {{maybe}}?</think>Sure:\n```json\n{json.dumps(plan)}\n```"
    with serve(lambda body, count: (200, text)) as server:
        (response,) = ask(OpenAICompatibleTeacher(config(server, structured_output="none")), ["Mugs"])
    assert json.loads(response.text) == plan


def test_answers_that_nobody_waits_for_are_given_up() -> None:
    def script(body: dict[str, Any], count: int) -> tuple[int, str]:
        if given(body)["category"] != "c0":
            server.release.wait(20)
        return obedient(body, count)

    with serve(script) as server:
        teacher = OpenAICompatibleTeacher(config(server, concurrency=3))
        requests = [
            TeacherRequest("planner", CategoryBrief(category=f"c{n}"), PLANNER.answer_type, "1")
            for n in range(9)
        ]
        answers = teacher.answer_batch(requests)
        assert not next(answers).error
        answers.close()
        assert server.counts["planner"] <= 4
        server.release.set()
        (response,) = ask(teacher, ["again"])
    assert not response.error


def test_concurrency_is_bounded() -> None:
    gathered = threading.Barrier(3, timeout=20)

    def script(body: dict[str, Any], count: int) -> tuple[int, str]:
        gathered.wait()  # passes only when three requests are in flight at once
        return obedient(body, count)

    with serve(script) as server:
        responses = ask(
            OpenAICompatibleTeacher(config(server, concurrency=3)), [f"c{number}" for number in range(9)]
        )
        assert server.peak == 3
    assert [response.number for response in responses] == list(range(9))
    assert not any(response.error for response in responses)


def test_broken_and_cut_off_answers_are_repaired_with_more_room(tmp_path: Path) -> None:
    def script(body: dict[str, Any], count: int) -> tuple[int, str]:
        agent = body["response_format"]["json_schema"]["name"]
        broken = {"planner": CUT_OFF, "critic": "Sure! Here is the JSON:"}
        return (200, broken[agent]) if count == 0 and agent in broken else obedient(body, count)

    dataset = write_dataset(tmp_path / "dataset", ["Red Mug"])
    with serve(script) as server:
        knowledge = KnowledgeConfig(teacher=config(server, max_tokens=100))
        distill_knowledge(dataset, knowledge, cache=tmp_path / "cache", out=tmp_path / "knowledge")
        repair = server.bodies[2]
    assert [body["max_tokens"] for body in server.bodies[1:4]] == [100, 200, 100]
    assert "token limit" in repair["messages"][-1]["content"]
    assert read_lineage(tmp_path / "knowledge").metrics["repaired"] == 2
    assert read_table(tmp_path / "knowledge" / "knowledge.parquet", KNOWLEDGE)["status"].to_list() == ["ok"]


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_stops_the_run_and_names_the_cause(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "s3cret")
    with serve(lambda body, count: (status, "")) as server:
        server.trial = server.script
        with pytest.raises(UserError, match=f"HTTP {status}") as error:
            ask(OpenAICompatibleTeacher(config(server, api_key_env="TEACHER_KEY")), ["Mugs"])
        assert server.headers[0]["authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(error.value)


def test_no_server_is_said_plainly() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        teacher = OpenAICompatibleTeacher(
            OpenAITeacherConfig(kind="openai", base_url=url, model="m", max_retries=0)
        )
        with pytest.raises(UserError, match="cannot reach"):
            ask(teacher, ["Mugs"])
