"""Many conversations at once: cache, repair, quarantine, ledger and budget of their questions."""

from pathlib import Path

import pytest

from models.knowledge.agents import prompt_files as prompts
from models.knowledge.agents.agent_roles import CRITIC, PLANNER, CategoryBrief, CategoryPlan, CriticReview
from models.knowledge.agents.conversation import Outcome, Question
from models.knowledge.agents.question_scheduler import QuestionScheduler
from models.knowledge.cache.workspace_cache import digest_recipe, open_workspace_cache
from models.knowledge.config import BudgetConfig
from models.knowledge.costs.budget import Budget, BudgetReachedError
from models.knowledge.costs.cost_ledger import CostLedger
from models.knowledge.teachers import chat_messages as chat
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse

INPUTS = [CategoryBrief(category=name) for name in ("cups", "cars", "cups", "coats")]


def plan(request: TeacherRequest) -> TeacherResponse:
    category = request.agent_input.model_dump()["category"]
    text = CategoryPlan(reasoning="r", product_kind=category, focus=(), pitfalls=()).model_dump_json()
    return TeacherResponse(0, text, tokens_in=1000, tokens_out=500, seconds=0.5)


def converse(given):
    (outcome,) = yield (Question(PLANNER, given),)
    return given, outcome


def ask(
    folder: Path, teacher, inputs=INPUTS, ledger: CostLedger | None = None, **limits
) -> list[Outcome[CategoryPlan]]:
    """The outcome of each input, in order."""
    ledger = ledger or CostLedger(teacher.price)
    with open_workspace_cache(folder, teacher) as cache:
        scheduler = QuestionScheduler(
            teacher, cache.answers, ledger, Budget(BudgetConfig(**limits), ledger), max_open=2
        )
        ended = list(scheduler.run_conversations(converse(given) for given in inputs))
    return [next(outcome for asked, outcome in ended if asked == given) for given in inputs]


def test_equal_inputs_are_asked_once(tmp_path: Path, scripted) -> None:
    teacher, ledger = scripted(plan), CostLedger(scripted.price)
    outcomes = ask(tmp_path, teacher, ledger=ledger)
    assert [outcome.answer.product_kind for outcome in outcomes] == ["cups", "cars", "cups", "coats"]
    assert len(teacher.asked) == 3
    account = ledger.accounts["planner"]
    assert (account.requests, account.asked, account.cached, account.tokens_in) == (3, 3, 0, 3000)
    assert account.money == pytest.approx((3000 * 1.0 + 1500 * 2.0) / 1e6)
    assert (
        ledger.flatten_metrics({})["planner_tokens_out"] == ledger.flatten_metrics({})["tokens_out"] == 1500
    )


def test_conversations_go_on_while_others_wait(tmp_path: Path, scripted) -> None:
    """A live teacher gets the questions of other products while the first of one is in flight."""

    class Live(scripted):
        def answer_live(self, feed):
            slow, numbered = None, enumerate(feed)
            while (taken := next(numbered, None) or slow) is not None:
                if taken[0] == 0 and slow is None:
                    slow = taken
                    continue
                slow = None if taken is slow else slow
                self.asked.append(taken[1])
                yield self.script(taken[1])._replace(number=taken[0])

    def two_steps(given):
        yield (Question(PLANNER, given),)
        yield (Question(CRITIC, given),)

    def answer(request: TeacherRequest) -> TeacherResponse:
        review = CriticReview(reasoning="r", objections=()).model_dump_json()
        return TeacherResponse(0, review) if request.agent == "critic" else plan(request)

    teacher, ledger = Live(answer), CostLedger(scripted.price)
    with open_workspace_cache(tmp_path, teacher) as cache:
        scheduler = QuestionScheduler(
            teacher, cache.answers, ledger, Budget(BudgetConfig(), ledger), max_open=3
        )
        assert len(list(scheduler.run_conversations(two_steps(given) for given in INPUTS))) == 4
    order = [(request.agent_input.category, request.agent) for request in teacher.asked]
    assert order == [(name, agent) for name in ("cars", "coats", "cups") for agent in ("planner", "critic")]


def test_a_killed_run_resumes_at_the_exact_request(tmp_path: Path, scripted) -> None:
    def dies_at_cups(request: TeacherRequest) -> TeacherResponse:
        if request.agent_input == INPUTS[0]:
            raise KeyboardInterrupt
        return plan(request)

    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, scripted(dies_at_cups))
    teacher, ledger = scripted(plan), CostLedger(scripted.price)
    ask(tmp_path, teacher, ledger=ledger)
    assert INPUTS[0] in [request.agent_input for request in teacher.asked]
    assert ledger.accounts["planner"].cached == 1


@pytest.mark.parametrize("change", ["name", "sampling"])
def test_another_teacher_is_asked_anew(tmp_path: Path, scripted, change: str) -> None:
    first, second = scripted(plan), scripted(plan)
    setattr(second, change, {"name": "scripted-2", "sampling": {"temperature": 1}}[change])
    for teacher in (first, second):
        ask(tmp_path, teacher)
    assert len(second.asked) == 3


def test_a_broken_answer_is_repaired_once(tmp_path: Path, scripted) -> None:
    def mends(request: TeacherRequest) -> TeacherResponse:
        return plan(request) if request.attempt else TeacherResponse(0, '{"reasoning": 1}')

    teacher, ledger = scripted(mends), CostLedger(scripted.price)
    (outcome,) = ask(tmp_path, teacher, INPUTS[:1], ledger)
    assert outcome.answer is not None
    assert [request.attempt for request in teacher.asked] == [0, 1]
    assert "reasoning" in teacher.asked[1].complaint
    assert (ledger.accounts["planner"].repaired, ledger.accounts["planner"].asked) == (1, 2)


@pytest.mark.parametrize(
    "text", ["no JSON at all", "", "[1]", '{"reasoning": "' + "x" * 9999 + '"}', '{"a": "\ud800"}']
)
def test_what_stays_broken_is_invalid_with_its_raw_answer(tmp_path: Path, scripted, text: str) -> None:
    for _ in range(2):  # asked, then cached
        teacher, ledger = scripted(lambda request: TeacherResponse(0, text)), CostLedger(scripted.price)
        (outcome,) = ask(tmp_path, teacher, INPUTS[:1], ledger)
        assert outcome.answer is None
        assert outcome.raw_answer == (text.encode("utf-8", "backslashreplace").decode() or "(empty)")
        assert ledger.accounts["planner"].invalid == 1
        assert len(teacher.asked) == 2 - 2 * ledger.accounts["planner"].cached


def test_a_repair_without_an_answer_leaves_the_first_one_for_the_quarantine(tmp_path: Path, scripted) -> None:
    teacher = scripted(
        lambda request: (
            TeacherResponse(0, "", error="down") if request.attempt else TeacherResponse(0, "rubbish")
        )
    )
    (outcome,) = ask(tmp_path, teacher, INPUTS[:1])
    assert (outcome.fault, outcome.raw_answer) == ("down", "rubbish")


@pytest.mark.parametrize("thought", ["", '{"reasoning": "r", "pro'])
def test_a_truncated_answer_is_asked_again(tmp_path: Path, scripted, thought: str) -> None:
    teacher = scripted(
        lambda request: plan(request) if request.attempt else TeacherResponse(0, thought, truncated=True)
    )
    (outcome,) = ask(tmp_path, teacher, INPUTS[:1])
    assert outcome.answer is not None
    assert "token limit" in teacher.asked[1].complaint


def test_failures_of_the_transport_are_not_cached(tmp_path: Path, scripted) -> None:
    failing, well = scripted(lambda request: TeacherResponse(0, "", error="timeout \ud800")), scripted(plan)
    (failed,) = ask(tmp_path, failing, INPUTS[:1])
    (answered,) = ask(tmp_path, well, INPUTS[:1])
    assert (failed.answer, failed.fault) == (None, "timeout \\ud800")
    assert len(failing.asked) == 1
    assert answered.answer is not None


@pytest.mark.parametrize(
    ("limits", "num_asked"),
    [
        ({"max_requests": 2}, 2),
        ({"max_requests": 0}, 0),
        ({"max_tokens": 1500}, 2),
        ({"max_money": 0.002}, 2),
        ({"max_hours": 0}, 0),
    ],
)
def test_a_budget_stops_the_run_and_keeps_the_answers(
    tmp_path: Path, scripted, limits, num_asked: int
) -> None:
    """Two are in flight at once, so limits known only afterwards are passed by one at most."""
    teacher = scripted(plan)
    with pytest.raises(BudgetReachedError, match=next(iter(limits))):
        ask(tmp_path, teacher, **limits)
    assert len(teacher.asked) == num_asked
    going_on = scripted(plan)
    ask(tmp_path, going_on)
    assert len(going_on.asked) == 3 - num_asked


@pytest.mark.parametrize("change", ["opening", "schema", "escape", "repair", "room"])
def test_requests_that_are_put_otherwise_are_asked_anew(
    tmp_path: Path, scripted, monkeypatch, change: str
) -> None:
    first, second = scripted(plan), scripted(plan)
    ask(tmp_path, first)
    recipe_digest = digest_recipe(first)
    match change:
        case "opening":
            monkeypatch.setattr(prompts, "OPENING_MARKER", "<data>")
        case "schema":
            monkeypatch.setattr(prompts, "_dump_answer_schema", lambda answer: "any JSON")
        case "escape":
            monkeypatch.setattr(chat, "frame_chat_messages", lambda *parts: [{"content": str(parts)}])
        case "repair":
            monkeypatch.setattr(
                chat, "_make_repair_message", lambda complaint: {"role": "user", "content": "Again."}
            )
        case "room":
            monkeypatch.setattr(chat.ChatPrompt, "limit_answer_tokens", lambda self, first: first)
    chat.digest_prompt_rendering.cache_clear()
    try:
        ask(tmp_path, second)
        assert digest_recipe(second) != recipe_digest
    finally:
        monkeypatch.undo()
        chat.digest_prompt_rendering.cache_clear()
    assert len(second.asked) == 3
