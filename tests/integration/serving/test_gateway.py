"""The whole serving side: Feast, a real Triton and the BentoML gateway, through HTTP."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from served_shop import ITEMS, Served

from reaseq.cli import main
from serving.deployment.deploy_rankers import deploy_rankers, load_routed_models, roll_back_routes
from serving.deployment.local_stack import LocalStack
from serving.event_log.log_tables import read_events, read_exposures, read_outcomes
from serving.triton.triton_server import start_triton

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(served: Served) -> Iterator[LocalStack]:
    # No Triton runs yet: the deployment starts one for its checks.
    arms = {"control": served.baseline, "treatment": served.challenger}
    deploy_rankers(arms, served.config, state=served.config.state)
    with LocalStack(served.config) as stack:
        yield stack


def _call(stack: LocalStack, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(stack.url + path, data, {"content-type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    return status, json.loads(text) if text.startswith(("{", "[")) else text


def test_a_bare_body_is_ranked_by_the_users_arm(stack: LocalStack) -> None:
    arms = {}
    for number in range(3):
        status, answer = _call(stack, "/rank", {"user_id": f"user_{number}", "candidates": ITEMS})
        assert status == 200
        assert sorted(item["item_id"] for item in answer["items"]) == ITEMS
        scores = [item["score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True)
        assert answer["degraded"] == []
        assert all(0 < item["click"] < 1 for item in answer["items"])
        arms[answer["arm"]] = answer["model_version"]
    for number in range(20):
        answer = _call(stack, "/rank", {"user_id": f"stranger_{number}", "candidates": ITEMS})[1]
        arms[answer["arm"]] = answer["model_version"]
        assert "no_history" in answer["degraded"]
    assert len(set(arms.values())) == 2


def test_a_space_without_a_query_encoder_is_served_and_says_so(stack: LocalStack) -> None:
    search = {"user_id": "user_0", "candidates": ITEMS, "context": {"scene": "search", "query": "lamp"}}
    for arm, degraded in {"control": [], "treatment": ["no_context"]}.items():
        answer = _call(stack, "/rank", search, **{"x-reaseq-arms": f"ranker={arm}"})[1]
        assert answer["degraded"] == degraded
    similar = search | {"context": {"scene": "similar", "seed_item_id": ITEMS[0]}}
    answer = _call(stack, "/rank", similar, **{"x-reaseq-arms": "ranker=treatment"})[1]
    assert answer["degraded"] == [], "a seed item has its own vector"


def test_an_arm_can_be_forced(stack: LocalStack) -> None:
    body = {"user_id": "user_0", "candidates": ITEMS}
    for arm in ("control", "treatment"):
        answer = _call(stack, "/rank", body, **{"x-reaseq-arms": f"ranker={arm}"})[1]
        assert (answer["arm"], answer["assignment"]) == (arm, "forced")
    assert _call(stack, "/rank", body, **{"x-reaseq-arms": "ranker=nowhere"})[0] == 422
    assert _call(stack, "/rank", body)[1]["assignment"] == "drawn"


def test_what_was_shown_and_done_is_on_the_disk(stack: LocalStack, served: Served) -> None:
    body = {"user_id": "user_0", "candidates": ITEMS, "limit": 3, "request_id": "logged"}
    answer = _call(stack, "/rank", body)[1]
    first = answer["items"][0]["item_id"]
    done = {"user_id": "user_0", "item_id": first, "request_id": "logged"}
    events = [done | {"event_type": "click"}, done | {"event_type": "order", "price": 12.5}]
    assert _call(stack, "/events", {"events": events}) == (202, {"accepted": 2})
    shown = read_exposures(served.config.event_log_folder).filter(request_id="logged")
    assert shown["item_id"].to_list() == [item["item_id"] for item in answer["items"]]
    outcome = (
        read_outcomes(served.config.event_log_folder)
        .filter(request_id="logged", item_id=first)
        .row(0, named=True)
    )
    assert (outcome["click"], outcome["order"], outcome["revenue"]) == (True, True, 12.5)
    assert read_events(served.config.event_log_folder).filter(request_id="logged")[
        "arm"
    ].unique().to_list() == [answer["arm"]]


def test_a_click_changes_the_next_ranking(stack: LocalStack) -> None:
    body = {"user_id": "newcomer", "candidates": ITEMS}
    assert "no_history" in _call(stack, "/rank", body)[1]["degraded"]
    click = {"user_id": "newcomer", "item_id": ITEMS[0], "event_type": "click"}
    assert _call(stack, "/events", {"events": [click]})[0] == 202
    deadline = time.monotonic() + 60
    while "no_history" in (answer := _call(stack, "/rank", body)[1])["degraded"]:
        assert time.monotonic() < deadline, "the click did not reach the store"
    assert answer["model_version"] != "fallback"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rank", {"candidates": ["a"]}, 422),
        ("/rank", {"user_id": "u", "candidates": []}, 422),
        ("/rank", {"user_id": "u", "candidates": ["a", "a"]}, 422),
        ("/rank", [1, 2], 422),
        ("/rank", {"user_id": "u", "candidates": [f"i{n}" for n in range(1001)]}, 413),
        ("/events", {"events": [{"user_id": "u", "item_id": "a", "event_type": "stare"}]}, 422),
        ("/nothing", {}, 404),
    ],
)
def test_bad_requests_are_the_callers_fault(stack: LocalStack, path: str, body: Any, status: int) -> None:
    assert _call(stack, path, body)[0] == status


def test_health_and_metrics(stack: LocalStack) -> None:
    _call(stack, "/rank", {"user_id": "user_0", "candidates": ITEMS})
    for path in ("/healthz", "/livez", "/readyz"):
        assert _call(stack, path)[0] == 200
    text = _call(stack, "/metrics")[1]
    assert "reaseq_ranked_total{" in text
    assert "reaseq_rank_seconds_bucket" in text
    assert "bentoml_service_request" in text


def test_the_status_tells_who_is_in_service(
    stack: LocalStack, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    status, body = _call(stack, "/status")
    assert (status, body["ready"]) == (200, True)
    assert set(body["routes"]["arms"]) == {"control", "treatment"}
    assert set(body["models"]) == {arm["model"] for arm in body["routes"]["arms"].values()}
    assert main(["status", "--gateway", stack.url]) == 0
    printed = capsys.readouterr().out
    assert f"gateway {stack.url}: ready" in printed
    assert f"  control: {body['routes']['arms']['control']['model']} (50% of the users)" in printed


def test_a_rollback_reaches_the_running_gateway(stack: LocalStack, served: Served) -> None:
    deploy_rankers({"everyone": served.challenger}, served.config, state=served.config.state)
    assert _call(stack, "/rank", {"user_id": "user_0", "candidates": ITEMS})[1]["arm"] == "everyone"
    roll_back_routes(served.config, state=served.config.state)
    assert _call(stack, "/rank", {"user_id": "user_0", "candidates": ITEMS})[1]["arm"] in (
        "control",
        "treatment",
    )


def test_without_triton_users_still_get_a_ranking_and_with_it_again_a_scored_one(
    stack: LocalStack, served: Served
) -> None:
    pid = stack.pids["triton"]
    os.killpg(pid, signal.SIGKILL)
    body = {"user_id": "user_0", "candidates": ITEMS}
    status, answer = _call(stack, "/rank", body)
    assert status == 200
    assert answer["degraded"] == ["model"]
    assert answer["model_version"] == "fallback"
    assert len(answer["items"]) == len(ITEMS)
    config = served.config
    with start_triton(config.model_repository, config.triton, scratch=config.state / "triton"):
        load_routed_models(config)
        deadline = time.monotonic() + 60
        while (answer := _call(stack, "/rank", body)[1])["degraded"]:
            assert time.monotonic() < deadline, answer["degraded"]
    assert answer["model_version"] != "fallback"
