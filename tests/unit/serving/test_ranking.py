import asyncio
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from contracts.errors import UserError
from feature_repo.online.feature_reader import UserFeatures
from feature_repo.online.item_cache import StoredItems
from serving.config import ExplorationConfig, GatewayConfig
from serving.deployment.routes import Arm, Canary, ExperimentPlan, read_routes, write_routes
from serving.event_log.event_log import EventLog
from serving.event_log.log_tables import read_answers, read_exposures
from serving.experiments.experiment_layers import ExperimentLayer
from serving.gateway.deployment_watcher import DeploymentWatcher
from serving.gateway.messages import FALLBACK, PostedEvent, RankRequest
from serving.gateway.ranking_service import RankingService
from serving.gateway.recent_events import RecentEvents
from serving.triton.triton_client import TritonError

NOW = datetime(2026, 1, 2, tzinfo=UTC)
VECTORS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.6, 0.8, 0.0)}


class Store:
    """Features from dictionaries; each part can fail or hang."""

    def __init__(self, *, user_fails=False, items_hang=False, inferred=True, history=("b",)):
        self.user_fails, self.items_hang = user_fails, items_hang
        self.person = UserFeatures(
            history_item_ids=list(history),
            history_event_types=["click"] * len(history),
            history_ages_s=[60] * len(history),
            history_as_of=NOW if history else None,
            inferred_item_ids=["c"] if inferred else [],
            inferred_scores=[0.5] if inferred else [],
            inferred_as_of=NOW if inferred else None,
        )

    async def read_user(self, user_id, *, service):
        if self.user_fails:
            raise ConnectionError("the store is down")
        return self.person

    async def read_items(self, item_ids, *, service, dim, encode):
        if self.items_hang:
            await asyncio.Event().wait()
        is_stored = np.array([item in VECTORS for item in item_ids], np.bool_)
        vectors = np.array([VECTORS.get(item, (0.0, 0.0, 0.0)) for item in item_ids], np.float16).reshape(
            -1, dim
        )
        sides = [(None, None, 15.0)] * len(item_ids)
        return StoredItems(item_ids, sides, vectors, is_stored, is_stored).encode_with(encode)


class Model:
    """Scores by the first coordinate of the vector, and keeps what it was sent."""

    def __init__(self, *, fails=False):
        self.fails = fails
        self.feeds = []

    async def score(self, model, feed, outputs, *, timeout_s):
        assert timeout_s > 0
        if self.fails:
            raise TritonError("UNAVAILABLE: down")
        self.feeds.append(feed)
        return dict.fromkeys(outputs, feed["candidate_vectors"][:, :, 0])


def build_service(state, log, store=None, model=None, histories=None, page_context=None, **options):
    parts = {"features": store or Store(), "scorer": model or Model(), "log": log}
    parts |= {"histories": histories, "page_context": page_context}
    return RankingService(
        GatewayConfig(**options), deployments=DeploymentWatcher(state, state / "rankers"), **parts
    )


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "events") as log:
        yield log


def _rank(service, candidates=("b", "a", "c"), **options):
    context = {"timestamp": NOW + timedelta(seconds=40)}
    request = RankRequest(user_id="u1", candidates=list(candidates), context=context, **options)
    return asyncio.run(service.rank_candidates(request))


def test_candidates_come_back_in_the_order_of_their_scores(state, spec, log):
    answer = _rank(build_service(state, log))
    assert [item["item_id"] for item in answer.items] == ["a", "c", "b"]
    assert answer.items[0]["score"] == 1.0
    assert answer.model_version == spec.version
    assert answer.degraded == []
    assert answer.arm in ("control", "treatment")


def test_ages_are_those_at_the_time_of_the_request(state, log):
    model = Model()
    _rank(build_service(state, log, model=model))
    assert model.feeds[0]["history_ages_s"][0].tolist() == [100, 0, 0, 0]
    assert model.feeds[0]["candidate_vectors"].shape == (1, 3, 3)


def test_only_what_was_answered_counts_as_shown(state, log, tmp_path):
    answer = _rank(build_service(state, log), limit=2, request_id="mine")
    rows = read_exposures(tmp_path / "events")
    assert answer.request_id == "mine"
    assert rows["item_id"].to_list() == ["a", "c"]
    assert rows["timestamp"][0] == NOW + timedelta(seconds=40)
    assert rows["degraded"].to_list() == [[], []]


def test_the_log_tells_how_long_an_answer_took_and_that_there_was_none(state, log, tmp_path, monkeypatch):
    clock = iter(number / 100 for number in range(1000))
    monkeypatch.setattr("serving.gateway.ranking_service.time.monotonic", lambda: next(clock))
    model = Model()
    service = build_service(state, log, model=model, deadline_ms=2000)
    _rank(service, request_id="fast")
    monkeypatch.setattr(model, "score", None)
    with pytest.raises(TypeError):
        _rank(service, request_id="broken")
    answers = read_answers(tmp_path / "events").sort("request_id")
    assert answers.select("request_id", "failure").rows() == [("broken", "TypeError"), ("fast", None)]
    assert (answers["latency_ms"] >= 10).all()
    assert answers["arm"].n_unique() == 1
    assert read_exposures(tmp_path / "events")["request_id"].unique().to_list() == ["fast"]


def test_the_context_of_a_request_and_its_propensities_are_logged(state, log, tmp_path):
    exploration = ExplorationConfig(kind="top_k", top_k=3, temperature=10)
    context = {"scene": "search", "query": "tent", "timestamp": NOW}
    request = RankRequest(user_id="u1", candidates=["a", "b", "c"], request_id="r", context=context)
    service = build_service(state, log, exploration=exploration)
    answers = [asyncio.run(service.rank_candidates(request)) for _ in range(2)]
    shown = read_exposures(tmp_path / "events")
    assert answers[0].items == answers[1].items, "a retry shows the same page"
    assert shown["item_id"].to_list() == [item["item_id"] for item in answers[0].items]
    assert shown["propensity"].to_list() == pytest.approx([item["propensity"] for item in answers[0].items])
    assert (shown["propensity"] < 1).any()
    assert shown.select("scene", "query", "device").unique().rows() == [("search", "tent", None)]


def test_an_answer_without_a_model_is_not_drawn(state, log):
    exploration = ExplorationConfig(kind="epsilon", epsilon=0.9)
    service = build_service(state, log, model=Model(fails=True), exploration=exploration)
    for number in range(5):
        answer = _rank(service, request_id=f"r{number}")
        assert [item["item_id"] for item in answer.items] == ["b", "c", "a"]
        assert [item["propensity"] for item in answer.items] == [1.0] * 3


def test_unknown_items_are_flagged_one_by_one(state, log):
    answer = _rank(build_service(state, log), candidates=["a", "new"])
    assert {item["item_id"]: item["degraded"] for item in answer.items} == {"a": [], "new": ["unknown_item"]}


@pytest.mark.parametrize(
    ("store", "degraded"),
    [
        (Store(inferred=False), ["no_inferred"]),
        (Store(history=()), ["no_history"]),
        (Store(user_fails=True), ["feature_store"]),
        (Store(items_hang=True), ["feature_store"]),
    ],
)
def test_missing_features_are_flagged_and_the_model_still_scores(state, log, spec, store, degraded):
    answer = _rank(build_service(state, log, store=store, deadline_ms=300, feature_share=0.2))
    assert answer.degraded == degraded
    assert answer.model_version == spec.version
    assert len(answer.items) == 3


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_no_answer(state, log, tmp_path, monkeypatch, number):
    model = Model()
    scored = model.score

    async def score(*args, **more):
        return {name: values * np.float32(number) for name, values in (await scored(*args, **more)).items()}

    monkeypatch.setattr(model, "score", score)
    answer = _rank(build_service(state, log, model=model))
    assert (answer.model_version, answer.degraded) == (FALLBACK, ["model"])
    assert all(np.isfinite(item["score"]) for item in answer.items)
    assert len(read_exposures(tmp_path / "events")) == 3


def test_without_a_model_the_order_is_likeness_to_the_history(state, log, tmp_path, spec):
    answer = _rank(build_service(state, log, model=Model(fails=True)), candidates=["a", "new", "c", "b"])
    assert [item["item_id"] for item in answer.items] == ["b", "c", "a", "new"]
    assert (answer.model_version, answer.degraded) == (FALLBACK, ["model"])
    assert answer.items[0]["click"] is None
    shown = read_exposures(tmp_path / "events").select("model_version", "routed_version").unique()
    assert shown.rows() == [(FALLBACK, spec.version)]


def test_without_model_and_features_the_given_order_stays(state, log):
    service = build_service(state, log, store=Store(user_fails=True), model=Model(fails=True))
    answer = _rank(service, candidates=["c", "a", "b"])
    assert [item["item_id"] for item in answer.items] == ["c", "a", "b"]
    assert answer.degraded == ["feature_store", "model"]


def test_an_exposure_that_cannot_be_logged_is_said(state, log, monkeypatch):
    monkeypatch.setattr("serving.event_log.log_files.os.write", _refuse)
    assert _rank(build_service(state, log)).degraded == ["event_log"]


def _refuse(descriptor, content):
    raise OSError("no space left on device")


def test_what_users_do_goes_to_their_histories_and_never_lies_in_the_future(state, log):
    class Histories(list):
        queue_behaviors = list.extend

    histories = Histories()
    service = build_service(state, log, histories=histories)
    done = {"user_id": "u", "item_id": "a"}
    late = datetime.now(UTC) + timedelta(minutes=5)
    kinds = (
        {"event_type": "impression"},
        {"event_type": "return", "timestamp": NOW},
        {"event_type": "click", "timestamp": NOW},
        {"event_type": "order", "timestamp": late},
    )
    asyncio.run(service.log_posted_events([PostedEvent(**done | kind) for kind in kinds]))
    assert [behavior.event_type for behavior in histories] == ["click", "order"]
    assert histories[0].timestamp == NOW
    assert histories[1].timestamp < late


def test_a_named_event_that_is_sent_again_enters_no_history_twice(state, log):
    class Histories(list):
        queue_behaviors = list.extend

    histories = Histories()
    service = build_service(state, log, histories=histories)
    order = {"user_id": "u", "item_id": "a", "event_type": "order", "event_id": "1"}
    posts = [
        order,
        order,
        order | {"item_id": "b"},
        order | {"event_id": "2"},
        order | {"event_type": "click"},
    ]
    for post in posts:
        asyncio.run(service.log_posted_events([PostedEvent(**post)]))
    kept = [(behavior.item_id, behavior.event_type) for behavior in histories]
    assert kept == [("a", "order"), ("b", "order"), ("a", "order"), ("a", "click")]


def test_of_the_named_events_the_oldest_make_room():
    recent = RecentEvents(capacity=2)
    one, two, three = (
        PostedEvent(user_id="u", item_id="a", event_type="click", event_id=name) for name in "123"
    )
    assert recent.take_new([one, two, one]) == [one, two]
    assert recent.take_new([three, one, two]) == [three, two]


def test_events_without_a_time_get_the_present(state, log):
    event = PostedEvent(user_id="u1", item_id="a", event_type="click")
    asyncio.run(build_service(state, log).log_posted_events([event]))


def test_a_switch_takes_effect_with_the_next_request(state, spec, log):
    service = build_service(state, log)
    assert _rank(service).arm in ("control", "treatment")
    _route(state, "everyone", spec.model_name)
    assert _rank(service).arm == "everyone"


def test_broken_routes_leave_the_former_ones_in_effect(state, spec, log):
    service = build_service(state, log)
    (state / "routes.json").write_text("{")
    assert _rank(service).arm in ("control", "treatment")
    _route(state, "x", "ranker_absent")
    assert _rank(service).arm in ("control", "treatment")


def _route(state, arm, model):
    write_routes(
        state, ExperimentPlan(experiment="e", salt="1", arms={arm: Arm(model=model, share=1)}), note="switch"
    )


def test_a_forced_arm_is_said_and_is_no_part_of_a_comparison(state, log, tmp_path):
    service = build_service(state, log)
    request = RankRequest(user_id="u1", candidates=["a"], request_id="forced")
    for arm in ("control", "treatment"):
        answer = asyncio.run(service.rank_candidates(request, {"ranker": arm}))
        assert (answer.arm, answer.assignment) == (arm, "forced")
    with pytest.raises(UserError, match="no arm 'nowhere'"):
        asyncio.run(service.rank_candidates(request, {"ranker": "nowhere"}))
    _rank(service, request_id="drawn")
    shown = [
        set(read_exposures(tmp_path / "events", only_drawn=only)["request_id"]) for only in (False, True)
    ]
    assert shown == [{"forced", "drawn"}, {"drawn"}]


def test_a_layers_arm_is_answered_and_logged(state, log, tmp_path):
    plan = read_routes(state).as_plan
    layers = {
        "page": ExperimentLayer(shares={"control": 0.5, "wide": 0.5}),
        "page_color": ExperimentLayer(shares={"a": 0.5, "b": 0.5}),
    }
    write_routes(state, plan.model_copy(update={"layers": layers}), note="layers")
    answer = _rank(build_service(state, log))
    assert answer.layers.keys() == layers.keys()
    rows = read_exposures(tmp_path / "events", layer="page")
    assert rows["arm"].unique().to_list() == [answer.layers["page"]]
    assert read_exposures(tmp_path / "events", layer="other").is_empty()


def test_a_canary_answers_its_share(state, spec, log):
    shutil.copytree(state / "rankers" / spec.model_name, state / "rankers" / "ranker_next")
    arm = Arm(model=spec.model_name, share=1, canary=Canary(model="ranker_next", share=0.5))
    write_routes(state, ExperimentPlan(experiment="e", salt="1", arms={"control": arm}), note="canary")
    deployments = DeploymentWatcher(state, state / "rankers")
    chosen = [
        deployments.current_deployment().choose_ranker(f"user_{number}")[0].model for number in range(50)
    ]
    assert set(chosen) == {spec.model_name, "ranker_next"}
    assert _rank(build_service(state, log)).arm == "control"
