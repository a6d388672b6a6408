"""What a page is about reaches the model: texts by a query encoder in a thread, a seed item by the store."""

import asyncio
import json
import shutil
import threading

import numpy as np
import pytest
from test_ranking import VECTORS, Model, Store, build_service

from feature_repo.online.query_encoders import locate_query_encoder
from models.knowledge.embedding.query_encoder import DESCRIPTION_FILE
from models.ranker.inputs.item_encoder import SCENE_INDEX
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec
from serving.deployment.routes import Arm, ExperimentPlan, write_routes
from serving.event_log.event_log import EventLog
from serving.gateway import page_context as page_context_module
from serving.gateway.messages import RankRequest
from serving.gateway.page_context import PageContext, TextVectorCache

QUERY_VECTOR = (0.25, 0.5, 0.75)


class Encoder:
    """Stands in for a query encoder: knows its space by the description, counts what it encodes."""

    loaded: list[str] = []
    encoded: list[str] = []
    may_go_on = threading.Event()
    """Encoding waits for it."""

    def __init__(self, folder, *, threads):
        self.space = json.loads((folder / DESCRIPTION_FILE).read_text())["space"]
        self.loaded.append(self.space)

    def encode_texts(self, texts):
        assert self.may_go_on.wait(10)
        if texts == ["fails"]:
            raise RuntimeError("no such word")
        self.encoded.extend(texts)
        return np.array([QUERY_VECTOR] * len(texts), np.float32)


@pytest.fixture
def encoder(monkeypatch):
    monkeypatch.setattr(page_context_module, "QueryEncoder", Encoder)
    Encoder.loaded, Encoder.encoded = [], []
    Encoder.may_go_on.set()
    yield Encoder
    Encoder.may_go_on.set()


def _install(store, space, *, said=None):
    folder = locate_query_encoder(store, space)
    folder.mkdir(parents=True)
    (folder / DESCRIPTION_FILE).write_text(json.dumps({"space": said or space}))


@pytest.fixture
def store_folder(tmp_path):
    _install(tmp_path / "store", "sample-space")
    return tmp_path / "store"


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "events") as log:
        yield log


@pytest.fixture
def page_context(store_folder, encoder):
    page_context = PageContext(store_folder, cached_queries=2)
    yield page_context
    encoder.may_go_on.set()
    page_context.close()


def _rank(service, **context):
    request = RankRequest(user_id="u1", candidates=["b", "a", "c"], context=context)
    return asyncio.run(service.rank_candidates(request))


def _sent_vector(model):
    return model.feeds[-1]["context_vectors"][0, 0].tolist()


class CountingStore(Store):
    """Notes what is read together."""

    def __init__(self):
        super().__init__()
        self.reads = []

    async def read_items(self, item_ids, **options):
        self.reads.append(list(item_ids))
        return await super().read_items(item_ids, **options)


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ({"scene": "search", "query": " tent "}, "tent"),
        ({"scene": "category", "page_category": "Home > All"}, "Home > All"),
        ({"scene": "search", "query": "tent", "page_category": "Home > All"}, "tent"),
    ],
)
def test_a_text_is_placed_in_the_rankers_space(state, log, page_context, encoder, context, text):
    model = Model()
    service = build_service(state, log, model=model, page_context=page_context)
    for _ in range(2):
        answer = _rank(service, **context)
        assert answer.degraded == []
        assert _sent_vector(model) == list(QUERY_VECTOR)
        assert model.feeds[-1]["context_scene"].tolist() == [[SCENE_INDEX[context["scene"]]]]
    assert encoder.encoded == [text], "the second answer has it from the cache"


def test_a_seed_item_comes_with_the_candidates_and_wins(state, log, page_context, encoder):
    store, model = CountingStore(), Model()
    service = build_service(state, log, store=store, model=model, page_context=page_context)
    answer = _rank(service, scene="similar", seed_item_id="c", page_category="Home > All")
    assert _sent_vector(model) == pytest.approx(VECTORS["c"], abs=1e-3)
    assert store.reads[0] == ["b", "a", "c", "c"]
    assert len(answer.items) == 3
    assert (answer.degraded, encoder.encoded) == ([], [])
    assert len(store.reads) == 2, "no read of its own"


def test_a_seed_item_without_a_vector_leaves_the_text(state, log, page_context):
    model = Model()
    service = build_service(state, log, model=model, page_context=page_context)
    assert _rank(service, seed_item_id="new", query="tent").degraded == []
    assert _sent_vector(model) == list(QUERY_VECTOR)
    assert _rank(service, seed_item_id="new").degraded == ["no_context"]
    assert not any(_sent_vector(model))


def test_a_page_that_says_nothing_lacks_nothing(state, log, page_context, encoder):
    model = Model()
    answer = _rank(build_service(state, log, model=model, page_context=page_context), scene="home")
    assert (answer.degraded, encoder.encoded) == ([], [])
    assert not any(_sent_vector(model))


def test_an_encoder_that_fails_costs_only_the_context(state, log, page_context, spec):
    answer = _rank(build_service(state, log, page_context=page_context), query="fails")
    assert (answer.degraded, answer.model_version) == (["no_context"], spec.version)


def test_a_late_encoder_takes_no_time_from_the_features(state, log, page_context, encoder):
    model = Model()
    service = build_service(
        state, log, model=model, page_context=page_context, deadline_ms=600, feature_share=0.3
    )
    assert _rank(service, query="warm").degraded == []
    encoder.may_go_on.clear()
    assert _rank(service, query="tent").degraded == ["no_context"]
    assert not any(_sent_vector(model))
    encoder.may_go_on.set()
    assert _rank(service, query="tent").degraded == []
    assert encoder.encoded == ["warm", "tent"], "what came late was kept"


def test_a_space_without_an_encoder_is_served(state, log, tmp_path, encoder):
    page_context = PageContext(tmp_path / "empty", cached_queries=2)
    service = build_service(state, log, page_context=page_context)
    assert _rank(service, query="tent").degraded == ["no_context"]
    # It may come later, with the next materialization.
    _install(tmp_path / "empty", "sample-space")
    assert _rank(service, query="tent").degraded == []
    page_context.close()


def test_an_encoder_of_another_space_is_refused_once(state, log, tmp_path, encoder):
    _install(tmp_path / "wrong", "sample-space", said="other-space")
    page_context = PageContext(tmp_path / "wrong", cached_queries=2)
    service = build_service(state, log, page_context=page_context)
    for _ in range(3):
        assert _rank(service, query="tent").degraded == ["no_context"]
    assert encoder.loaded == ["other-space"]
    page_context.close()


def test_a_ranker_that_does_not_read_the_page_asks_for_nothing(state, spec, log, page_context, encoder):
    features = spec.features.model_copy(update={"context": False})
    inputs = [tensor for tensor in spec.inputs if not tensor.name.startswith("context_")]
    _write_spec(state, features=features, inputs=tuple(inputs))
    store, model = CountingStore(), Model()
    service = build_service(state, log, store=store, model=model, page_context=page_context)
    answer = _rank(service, scene="similar", query="tent", seed_item_id="c")
    assert (answer.degraded, encoder.loaded) == ([], [])
    assert store.reads[0] == ["b", "a", "c"]
    assert not any(name.startswith("context_") for name in model.feeds[-1])


def _write_spec(state, name="ranker_0123abcd", **changes):
    folder = state / "rankers" / name
    spec = RankerSpec.read(folder).model_copy(update=changes)
    (folder / SPEC_FILE).write_text(spec.model_dump_json())


def test_rankers_of_one_space_share_an_encoder_and_a_switch_brings_the_next(
    state, spec, log, store_folder, page_context, encoder, tmp_path
):
    for name in ("ranker_twin", "ranker_next"):
        _copy_ranker(state, spec.model_name, name)
    _write_spec(state, "ranker_next", space="next-space", model_name="ranker_next")
    _install(store_folder, "next-space")
    arms = {name: Arm(model=model, share=0.5) for name, model in _ARMS.items()}
    write_routes(state, ExperimentPlan(experiment="ranker", salt="1", arms=arms), note="two of one space")
    service = build_service(state, log, page_context=page_context)
    asyncio.run(service.warm_up())
    assert encoder.loaded == ["sample-space"]
    next_arm = {"all": Arm(model="ranker_next", share=1)}
    write_routes(state, ExperimentPlan(experiment="ranker", salt="1", arms=next_arm), note="switch")
    assert _rank(service, query="warm-up").degraded == []
    assert encoder.loaded == ["sample-space", "next-space"]
    assert encoder.encoded == ["warm-up", "warm-up"], "vectors of two spaces never mix"
    # The former one is still there: a rollback waits for nothing.
    write_routes(state, ExperimentPlan(experiment="ranker", salt="1", arms=arms), note="rollback")
    assert _rank(service, query="warm-up").degraded == []
    assert encoder.loaded == ["sample-space", "next-space"]


_ARMS = {"control": "ranker_0123abcd", "treatment": "ranker_twin"}


def _copy_ranker(state, name, copy):
    shutil.copytree(state / "rankers" / name, state / "rankers" / copy)


def test_the_text_asked_for_least_recently_makes_room():
    cache = TextVectorCache(2)
    vectors = {text: np.full(3, number, np.float16) for number, text in enumerate("abc")}
    cache.store("a", vectors["a"])
    cache.store("b", vectors["b"])
    assert cache.look_up("a") is vectors["a"]
    cache.store("c", vectors["c"])
    assert cache.look_up("b") is None
    assert cache.look_up("a") is vectors["a"]
