"""Cache, repair, quarantine and ledger of single requests."""

from pathlib import Path

import pytest

from contracts.errors import UserError
from models.knowledge.agents.desk import Desk
from models.knowledge.agents.roles import PLANNER, CategoryBrief, Plan
from models.knowledge.cache import CACHE_FILE, open_cache
from models.knowledge.ledger import Ledger
from models.knowledge.teachers.base import Request, Response

INPUTS = [CategoryBrief(category=name) for name in ("cups", "cars", "cups", "coats")]


def plan(request: Request) -> Response:
    category = request.given.model_dump()["category"]
    text = Plan(reasoning="r", product_kind=category, focus=(), pitfalls=()).model_dump_json()
    return Response(0, text, tokens_in=1000, tokens_out=500, seconds=0.5)


def test_equal_inputs_are_asked_once_and_answers_stand_in_order(tmp_path: Path, scripted) -> None:
    teacher, ledger = scripted(plan), Ledger(scripted.price)
    with open_cache(tmp_path) as cache:
        outcomes = Desk(teacher, cache, ledger).ask(PLANNER, INPUTS)
    assert [outcome.answer.product_kind for outcome in outcomes] == ["cups", "cars", "cups", "coats"]
    assert len(teacher.asked) == 3
    account = ledger.accounts["planner"]
    assert (account.requests, account.cached, account.tokens_in) == (3, 0, 3000)
    assert account.money == pytest.approx((3000 * 1.0 + 1500 * 2.0) / 1e6)


def test_a_killed_run_resumes_at_the_exact_request(tmp_path: Path, scripted) -> None:
    def dies_at_cups(request: Request) -> Response:
        if request.given == INPUTS[0]:
            raise KeyboardInterrupt
        return plan(request)

    with open_cache(tmp_path) as cache, pytest.raises(KeyboardInterrupt):
        Desk(scripted(dies_at_cups), cache, Ledger(scripted.price)).ask(PLANNER, INPUTS)
    teacher, ledger = scripted(plan), Ledger(scripted.price)
    with open_cache(tmp_path) as cache:
        Desk(teacher, cache, ledger).ask(PLANNER, INPUTS)
    assert [request.given for request in teacher.asked] == [INPUTS[0]]
    assert ledger.accounts["planner"].cached == 2


@pytest.mark.parametrize("change", ["name", "sampling"])
def test_another_teacher_is_asked_anew(tmp_path: Path, scripted, change: str) -> None:
    first, second = scripted(plan), scripted(plan)
    setattr(second, change, {"name": "scripted-2", "sampling": {"temperature": 1}}[change])
    with open_cache(tmp_path) as cache:
        for teacher in (first, second):
            Desk(teacher, cache, Ledger(teacher.price)).ask(PLANNER, INPUTS)
    assert len(second.asked) == 3


def test_a_broken_answer_is_repaired_once(tmp_path: Path, scripted) -> None:
    def mends(request: Request) -> Response:
        return plan(request) if request.attempt else Response(0, '{"reasoning": 1}')

    teacher, ledger = scripted(mends), Ledger(scripted.price)
    with open_cache(tmp_path) as cache:
        (outcome,) = Desk(teacher, cache, ledger).ask(PLANNER, INPUTS[:1])
    assert outcome.answer is not None
    assert [request.attempt for request in teacher.asked] == [0, 1]
    assert "reasoning" in teacher.asked[1].complaint
    assert ledger.accounts["planner"].repaired == 1


@pytest.mark.parametrize("text", ["no JSON at all", "", "[1]", '{"reasoning": "' + "x" * 9999 + '"}'])
def test_what_stays_broken_is_invalid_with_its_raw_answer(tmp_path: Path, scripted, text: str) -> None:
    teacher, ledger = scripted(lambda request: Response(0, text)), Ledger(scripted.price)
    with open_cache(tmp_path) as cache:
        (outcome,) = Desk(teacher, cache, ledger).ask(PLANNER, INPUTS[:1])
    assert outcome.answer is None
    assert outcome.raw == (text or "(empty)")
    assert len(teacher.asked) == 2
    assert ledger.accounts["planner"].invalid == 1


def test_a_truncated_answer_is_asked_again(tmp_path: Path, scripted) -> None:
    teacher = scripted(lambda request: plan(request)._replace(truncated=request.attempt == 0))
    with open_cache(tmp_path) as cache:
        (outcome,) = Desk(teacher, cache, Ledger(scripted.price)).ask(PLANNER, INPUTS[:1])
    assert outcome.answer is not None
    assert "token limit" in teacher.asked[1].complaint


def test_failures_of_the_transport_are_not_cached(tmp_path: Path, scripted) -> None:
    failing, well = scripted(lambda request: Response(0, "", error="timeout")), scripted(plan)
    with open_cache(tmp_path) as cache:
        (failed,) = Desk(failing, cache, Ledger(scripted.price)).ask(PLANNER, INPUTS[:1])
        (answered,) = Desk(well, cache, Ledger(scripted.price)).ask(PLANNER, INPUTS[:1])
    assert (failed.answer, failed.fault) == (None, "timeout")
    assert len(failing.asked) == 1
    assert answered.answer is not None


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / CACHE_FILE).write_text("this is not a database, and long enough to be looked at as one " * 20)
    with pytest.raises(UserError, match="not a usable request cache"), open_cache(tmp_path):
        pass
