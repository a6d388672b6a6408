"""Servers as they are: one bad answer costs one item, and a server that refuses everything ends the run."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scripted_chat_server import Body, Script, asked, complete, config, given, obedient, serve

from contracts.artifacts import read_table
from contracts.errors import UserError
from contracts.tables import KNOWLEDGE
from models.knowledge.agents.agent_roles import PLANNER, CategoryBrief
from models.knowledge.agents.answer_parsing import parse_teacher_answer
from models.knowledge.config import KnowledgeConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teachers import chat_server
from models.knowledge.teachers.openai_teacher import OpenAICompatibleTeacher
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse

pytestmark = pytest.mark.integration

PLAN = {"reasoning": "Jars {of glass}.", "product_kind": "jar", "focus": ["lid"], "pitfalls": []}
ANSWER = json.dumps(PLAN)
THOUGHTS = 'Jars. Perhaps {"reasoning": "x"}? No.'

ANSWERED = {
    "parts": complete([{"type": "text", "text": ANSWER[:9]}, {"type": "text", "text": ANSWER[9:]}]),
    "parts with thoughts": complete(
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHTS}]},
            {"type": "text", "text": ANSWER},
        ]
    ),
    "strings as parts": complete([ANSWER]),
    "an object for a string": complete(PLAN),
    "reasoning_content": complete(None, reasoning_content=ANSWER),
    "reasoning": complete("", reasoning=f"{THOUGHTS}\n{ANSWER}"),
    "empty think tags": complete(f"<think>\n\n</think>\n\n{ANSWER}"),
    "think tags": complete(f"<think>{THOUGHTS}</think>{ANSWER}"),
    "only the end of think tags": complete(f"{THOUGHTS}</think>{ANSWER}"),
    "unclosed think tag": complete(f"<think>\n{ANSWER}"),
    "a tag inside the answer": complete(json.dumps(PLAN | {"reasoning": "the tag </think> ends thoughts"})),
    "other tags": complete(f"[THINK]{THOUGHTS}[/THINK]\n{ANSWER}"),
    "fenced": complete(f"```json\n{ANSWER}\n```"),
    "prose around": complete(f"Sure, {{reader}}! Here it is:\n{ANSWER}\nAnything else, like {{}}?"),
    "a mark of byte order": complete(f"\ufeff{ANSWER}"),
    "no usage": {**complete(ANSWER), "usage": None},
    "empty usage": {**complete(ANSWER), "usage": {}},
    "strange usage": {**complete(ANSWER), "usage": {"prompt_tokens": "many", "completion_tokens": -1}},
    "no finish reason": complete(ANSWER, None),
    "only the choice": {"choices": [{"message": {"content": ANSWER}}]},
    "parts within parts": complete([[{"type": "text", "content": [{"type": "TEXT", "text": ANSWER}]}]]),
    "a part of JSON": complete([{"type": "output_json", "parsed": PLAN}]),
    "parsed by the gateway": complete(None, parsed=PLAN),
    "a call of a tool": complete(None, "tool_calls", tool_calls=[{"function": {"arguments": ANSWER}}]),
    "a call of a function": complete(None, "function_call", function_call={"arguments": PLAN}),
    "details of the thoughts": complete("", reasoning_details=[{"type": "reasoning.text", "text": ANSWER}]),
    "thinking": complete("", thinking=ANSWER),
    "a draft in the thoughts": complete(f"<Think>{ANSWER.replace('jar', 'lid')}</Think >{ANSWER}"),
    "encoded twice": complete(json.dumps(ANSWER)),
    "wrapped": complete(json.dumps({"answer": PLAN})),
    "a line break in a string": complete(ANSWER.replace("Jars ", "Jars\n")),
    "half an emoji": complete(ANSWER.replace("Jars ", "Jars \\ud83d ")),
    "a message of text": {"choices": [{"message": ANSWER, "finish_reason": "stop"}]},
    "a completed text": {"choices": [{"text": ANSWER, "finish_reason": "stop"}]},
    "an error that says all is well": {**complete(ANSWER), "error": {"code": 0, "message": ""}},
    "a wrapped completion": {"success": True, "result": complete(ANSWER)},
}


def ask_plans(teacher: OpenAICompatibleTeacher, *categories: str) -> list[TeacherResponse]:
    requests = [
        TeacherRequest("planner", CategoryBrief(category=name), PLANNER.answer_type, "1")
        for name in categories
    ]
    return sorted(teacher.answer_batch(requests))


def ask_plan(script: Script, **options: Any) -> TeacherResponse:
    with serve(script) as server:
        (response,) = ask_plans(
            OpenAICompatibleTeacher(config(server, **{"max_retries": 0} | options)), "Jars"
        )
    return response


@pytest.mark.parametrize("structured_output", ["response_format", "none"])
@pytest.mark.parametrize("kind", ANSWERED)
def test_an_answer_is_read_wherever_it_stands(kind: str, structured_output: str) -> None:
    response = ask_plan(lambda body, count: (200, Body(ANSWERED[kind])), structured_output=structured_output)
    outcome = parse_teacher_answer(PLANNER, response)
    assert outcome.answer is not None, outcome.fault
    assert outcome.answer.product_kind == "jar"
    assert min(response.tokens_in, response.tokens_out) >= 0


def test_a_server_that_tells_no_usage_is_told_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(lambda body, count: (200, Body(ANSWERED["empty usage"]))) as server:
        responses = ask_plans(OpenAICompatibleTeacher(config(server)), "Jars", "Lids")
    assert [(response.tokens_in, response.tokens_out) for response in responses] == [(0, 0)] * 2
    assert capsys.readouterr().err.count("does not see it") == 1


def stream(*pieces: str) -> bytes:
    """A streamed completion, whose last event has the usage."""
    events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": complete()["usage"]})
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (json.dumps(complete(ANSWER)).encode("utf-8-sig"), {}),
        (json.dumps(complete(ANSWER)).encode(), {"Content-Type": "text/html; charset=latin-1"}),
        (b"\n \n" + json.dumps(complete(ANSWER)).encode(), {"Content-Type": "text/plain"}),
        (gzip.compress(json.dumps(complete(ANSWER)).encode(), mtime=0), {"Content-Encoding": "gzip"}),
        (b": PROCESSING\n\n" + json.dumps(complete(ANSWER)).encode(), {}),
        (json.dumps(complete(ANSWER)).encode() + b"\n<!-- proxy -->", {}),
        (json.dumps(complete(ANSWER)).encode().replace(b"Jars", b"J\xe4rs"), {}),
        (stream(ANSWER[:9], ANSWER[9:]), {"Content-Type": "text/event-stream"}),
    ],
    ids=["byte order mark", "wrong type", "kept alive", "gzip", "comments", "a tail", "not UTF-8", "stream"],
)
def test_the_body_counts_and_not_its_labels(content: bytes, headers: dict[str, str]) -> None:
    response = ask_plan(lambda body, count: (200, Body(content, headers)))
    assert parse_teacher_answer(PLANNER, response).answer is not None
    assert response.tokens_in == 100


WITHOUT_ANSWER = {
    "message null": ({"choices": [{"finish_reason": "error", "message": None}]}, "finish_reason error"),
    "no message": ({"choices": [{"index": 0}]}, "without message"),
    "no choices": ({"choices": []}, "no choices"),
    "choices null": ({"choices": None}, "no choices"),
    "strange choices": ({"choices": [7]}, "no choices"),
    "an error": ({"error": {"code": 400, "message": "too heavy"}}, "400: too heavy"),
    "an error in words": ({"error": "out of jars"}, "out of jars"),
    "an error beside choices": (complete("{") | {"error": {"message": "fell over"}}, "fell over"),
    "an error in the choice": ({"choices": [{"error": {"message": "fell over"}}]}, "fell over"),
    "a list with an error": ([{"error": {"code": 429, "message": "busy"}}], "429: busy"),
    "an error of vLLM": ({"object": "error", "message": "too long", "code": 400}, "400: too long"),
    "refusal": (complete(None, refusal="I can't help with jars."), "refused: I can't help with jars"),
    "refusal as a part": (complete([{"type": "refusal", "refusal": "No jars."}]), "refused: No jars"),
    "content filter": (complete('{"reasoning": "ja', "content_filter"), "content filter"),
    "page of a proxy": (b"<html><title>Sign in</title></html>", "Sign in"),
    "cut off": (json.dumps(complete(ANSWER)).encode()[:60], "no chat completion"),
    "not UTF-8": (b'{"choices": "\xff\xfe"}', "no chat completion"),
    "empty": (b"", "empty"),
    "deep": (b"[" * 100_000, "no chat completion"),
}


@pytest.mark.parametrize("kind", WITHOUT_ANSWER)
def test_what_is_no_answer_is_a_fault_in_words_and_kept(kind: str) -> None:
    content, words = WITHOUT_ANSWER[kind]
    response = ask_plan(lambda body, count: (200, Body(content)))
    assert words in response.error
    came = content.decode(errors="replace") if isinstance(content, bytes) else json.dumps(content)
    assert response.text == came[:4000]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't help with that.", "Invalid JSON"),
        (ANSWER[:-9], "Invalid JSON"),
        ('{"reasoning": "jars"}', "recognized: Field required"),
    ],
)
def test_answers_that_are_not_valid_are_asked_for_once_more(content: str, words: str, tmp_path: Path) -> None:
    frame, quarantine, server_counts = distill_jars(
        tmp_path,
        lambda body, count: (200, content) if is_about(body, "demand_analyst", 3) else obedient(body, count),
        num_items=24,
    )
    assert frame["status"].to_list().count("ok") == 23
    (row,) = quarantine.iter_rows(named=True)
    assert row["item_id"] == "3"
    assert words in row["reason"]
    assert row["raw_answer"] == (content or "(empty)")
    assert server_counts["demand_analyst"] == 25


def distill_jars(
    folder: Path, script: Script, *, num_items: int, **options: Any
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """The table, the quarantine, and how often each agent was asked."""
    from test_openai_teacher import write_dataset

    dataset = folder / "dataset"
    if not dataset.exists():
        write_dataset(dataset, [f"Jar {number}." for number in range(num_items)])
    with serve(script) as server:
        server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
        knowledge = KnowledgeConfig(teacher=config(server, **{"max_retries": 0} | options))
        distill_knowledge(dataset, knowledge, cache=folder / "cache", out=folder / "out")
        counts = dict(server.counts)
    quarantine_path = folder / "out/quarantine.parquet"
    quarantine = pl.read_parquet(quarantine_path) if quarantine_path.exists() else pl.DataFrame()
    return read_table(folder / "out/knowledge.parquet", KNOWLEDGE), quarantine, counts


def is_about(body: dict[str, Any], agent: str, number: int) -> bool:
    return asked(body) == agent and f'"Jar {number}."' in body["messages"][1]["content"]


ONE_BAD_ANSWER: dict[str, tuple[int, Any]] = {
    "400": (400, Body({"error": {"message": "flagged: jar"}})),
    "401": (401, Body({"error": {"message": "flagged: jar"}})),
    "403": (403, Body({"error": {"code": 403, "message": "flagged: jar"}})),
    "404": (404, Body(b"<html>flagged: jar</html>")),
    "413": (413, Body({"detail": "flagged: jar"})),
    "451": (451, Body({"message": "flagged: jar"})),
    "500": (500, Body(b"flagged: jar")),
    "error in 200": (200, Body({"error": {"code": 403, "message": "flagged: jar"}})),
    "message null": (200, Body({"choices": [{"message": None}], "note": "flagged: jar"})),
    "cut off in the body": (200, Body(complete("flagged: jar"), num_bytes_sent=40)),
    "cut off before the body": (200, Body(b"flagged: jar", num_bytes_sent=0)),
    "not gzip": (200, Body(b"flagged: jar", {"Content-Encoding": "gzip"})),
}


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("kind", ONE_BAD_ANSWER)
def test_one_bad_answer_costs_one_item(
    kind: str, concurrency: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_server, "_pause_for", pause_never)
    frame, quarantine, _ = distill_jars(
        tmp_path,
        lambda body, count: (
            ONE_BAD_ANSWER[kind] if is_about(body, "demand_analyst", 7) else obedient(body, count)
        ),
        num_items=24,
        concurrency=concurrency,
    )
    assert frame.filter(pl.col("status") == "ok").height == 23
    (row,) = quarantine.iter_rows(named=True)
    assert row["item_id"] == "7"
    assert row["reason"].startswith("demand_analyst: ")
    if kind not in ("cut off in the body", "cut off before the body", "not gzip"):
        assert "flagged: jar" in row["raw_answer"]


async def pause_never(seconds: float) -> None:
    pass


def refuse_all(status: int) -> Script:
    return lambda body, count: (status, Body({"error": {"message": "no jars for you"}}))


@pytest.mark.parametrize("structured_output", ["response_format", "none"])
@pytest.mark.parametrize(("status", "words"), [(401, "key was refused"), (404, "no such model")])
def test_a_wrong_key_or_model_ends_the_run_at_once(status: int, words: str, structured_output: str) -> None:
    with serve(refuse_all(status)) as server:
        server.trial = server.script
        teacher = OpenAICompatibleTeacher(config(server, structured_output=structured_output, concurrency=1))
        with pytest.raises(UserError, match=rf"{words}.*no jars for you.*teacher\.api_key_env"):
            ask_plans(teacher, *(f"Jars {number}" for number in range(40)))
        assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [400, 402, 403, 429, 503])
def test_a_server_that_refuses_everything_ends_the_run_early(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_server, "_pause_for", pause_never)
    with serve(refuse_all(status)) as server:  # only the trial is answered
        teacher = OpenAICompatibleTeacher(config(server, max_retries=1))
        with pytest.raises(UserError, match=r"refuses every request.*no jars for you.*teacher\.model"):
            ask_plans(teacher, *(f"Jars {number}" for number in range(200)))
        assert server.counts["planner"] < 100


def test_a_key_that_expires_ends_the_run() -> None:
    def expire(body: dict[str, Any], count: int) -> tuple[int, Any]:
        return refuse_all(401)(body, count) if count >= 30 else obedient(body, count)

    with serve(expire) as server:
        teacher = OpenAICompatibleTeacher(config(server, concurrency=4))
        answers = teacher.answer_live(
            TeacherRequest("planner", CategoryBrief(category=f"Jars {n}"), PLANNER.answer_type, "1")
            for n in range(200)
        )
        valid_responses = [next(answers) for _ in range(30)]
        assert not any(response.error for response in valid_responses)
        server.trial = refuse_all(401)
        with pytest.raises(UserError, match=r"key was refused.*HTTP 401.*answers so far are cached"):
            list(answers)
        assert server.counts["planner"] < 100


def test_many_flagged_products_side_by_side_end_no_run() -> None:
    def flag(body: dict[str, Any], count: int) -> tuple[int, Any]:
        is_flagged = "knife" in given(body)["category"]
        return refuse_all(403)(body, count) if is_flagged else (200, ANSWER)

    categories = ["jar", *(f"knife {number}" for number in range(70)), "lid"]
    with serve(flag) as server:
        responses = ask_plans(OpenAICompatibleTeacher(config(server, concurrency=1)), *categories)
    assert [response.number for response in responses if not response.error] == [0, 71]


@pytest.mark.parametrize(
    ("headers", "told_s"),
    [
        (lambda: {"Retry-After": "90", "Retry-After-Ms": ""}, 90),
        (lambda: {"Retry-After": "0.5", "Retry-After-Ms": ""}, 0.5),
        (lambda: {"Retry-After": tell_date(120), "Retry-After-Ms": ""}, 120),
        (lambda: {"Retry-After": tell_date(-120), "Retry-After-Ms": ""}, 0),
    ],
    ids=["long", "short", "date", "date in the past"],
)
@pytest.mark.parametrize("status", [200, 429])
def test_the_server_says_when_to_come_back(
    status: int, headers: Callable[[], dict[str, str]], told_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def note_pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(chat_server, "_pause_for", note_pause)
    busy = {"error": {"code": 429, "message": "busy"}}
    response = ask_plan(
        lambda body, count: (status, Body(busy, headers())) if count == 0 else (200, ANSWER), max_retries=1
    )
    assert not response.error
    assert pauses == [pytest.approx(told_s, abs=5)]


def tell_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("told", ["soon", "-1", "nan", "inf", "", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_a_strange_time_to_come_back_does_no_harm(told: str) -> None:
    response = ask_plan(
        lambda body, count: (
            (429, Body({}, {"Retry-After": told, "Retry-After-Ms": ""})) if count == 0 else (200, ANSWER)
        ),
        max_retries=1,
    )
    assert not response.error


@pytest.mark.parametrize(
    "error",
    [
        {"code": 429, "message": "busy"},
        {"code": "503", "message": "busy"},
        {"code": "rate_limit_exceeded", "message": "busy"},
        {"type": "overloaded_error", "message": "busy"},
        {"message": "busy"},
        "busy",
    ],
    ids=str,
)
def test_a_passing_error_with_200_is_tried_again(error: Any) -> None:
    response = ask_plan(
        lambda body, count: (200, Body({"error": error})) if count == 0 else (200, ANSWER), max_retries=1
    )
    assert parse_teacher_answer(PLANNER, response).answer is not None


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_what_was_cut_off_in_the_thoughts_is_asked_with_more_room(reason: str, tmp_path: Path) -> None:
    def think_long(body: dict[str, Any], count: int) -> tuple[int, Any]:
        if asked(body) == "planner" and body["max_tokens"] < 3000:
            return 200, Body(complete(None, reason, reasoning_content="Jars are"))
        return obedient(body, count)

    frame, _, counts = distill_jars(tmp_path, think_long, num_items=2)
    assert frame["status"].to_list() == ["ok", "ok"]
    assert counts["planner"] == 2


def test_a_trial_that_ends_in_thoughts_says_what_to_do() -> None:
    with serve(obedient) as server:
        server.trial = lambda body, count: (200, Body(complete("<think>Good", "length")))
        with pytest.raises(UserError, match=r"raise teacher\.max_tokens|Raise teacher\.max_tokens"):
            ask_plans(OpenAICompatibleTeacher(config(server)), "Jars")


@pytest.mark.parametrize("key", ["k\ney", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_named_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", key)
    with serve(obedient) as server, pytest.raises(UserError, match="TEACHER_KEY") as error:
        OpenAICompatibleTeacher(config(server, api_key_env="TEACHER_KEY"))
    assert key not in str(error.value)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": "10", "completion_tokens": "5"}, (10, 5)),
        ({"total_tokens": 15}, (0, 15)),
        ({"prompt_tokens": 10, "total_tokens": 15}, (10, 5)),
        ({"prompt_tokens": 10**30, "completion_tokens": float("nan")}, (0, 0)),
    ],
)
def test_usage_is_counted_as_it_is_told(usage: dict[str, Any], tokens: tuple[int, int]) -> None:
    response = ask_plan(lambda body, count: (200, Body({**complete(ANSWER), "usage": usage})))
    assert (response.tokens_in, response.tokens_out) == tokens


def test_a_draft_alone_is_no_answer() -> None:
    content = f"<think>{ANSWER}</think>"
    response = ask_plan(lambda body, count: (200, Body(complete(content))))
    assert parse_teacher_answer(PLANNER, response).answer is None


@pytest.mark.parametrize("content", ["{" * 1_000_000, '{"' * 300_000, '{"reasoning": ' * 50_000])
def test_an_answer_in_a_loop_is_read_in_no_time(content: str) -> None:
    response = ask_plan(lambda body, count: (200, Body(complete(content))), timeout_s=60)
    assert not response.error
    assert parse_teacher_answer(PLANNER, response).answer is None


def test_credit_that_runs_out_ends_the_run_at_once() -> None:
    def run_out(body: dict[str, Any], count: int) -> tuple[int, Any]:
        return (200, Body(complete(ANSWER))) if count < 2 else (402, "no credit left")

    with serve(run_out) as server:
        teacher = OpenAICompatibleTeacher(config(server, concurrency=1))
        answers = teacher.answer_batch(
            [
                TeacherRequest("planner", CategoryBrief(category=str(name)), PLANNER.answer_type, "1")
                for name in range(9)
            ]
        )
        next(answers)
        next(answers)
        server.trial = lambda body, count: (402, "no credit left")
        with pytest.raises(UserError, match="no credit"):
            list(answers)
    assert server.counts["planner"] == 3


def test_a_redirect_that_forgets_the_question_is_named() -> None:
    content = Body(b"", {"Location": "/elsewhere"})
    with serve(lambda body, count: (301, content)) as server:
        server.trial = lambda body, count: (301, content)
        with pytest.raises(UserError, match=r"redirects to .*elsewhere: set teacher\.base_url"):
            ask_plans(OpenAICompatibleTeacher(config(server)), "Jars")
