"""One user, 200 candidates: the gateway beside the floor and beside the plain way, one request at a time.

- floor: one raw Redis pipeline of the same bytes (the user's row, the vectors of candidates, history and
  inferred
  items) and ONNX Runtime in this process. Nothing is encoded, checked, ordered or logged.
- plain: Feast's `get_online_features(...).to_dict()` for the user and for all items, and a fresh tritonclient
  call.
- known query, new query: the gateway, asked for a search page. The texts of the first are in the cache,
  those of the second are not.

Floor and plain way have a ready-made feed, into which they put the vectors that they read: both are
flattered. All are timed in turns, so that other work on the machine hits each of them.
"""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, cycle, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnxruntime
from redis import Redis
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from benchmarks.serving.generated_inputs import DIM, FULL, HISTORY, INFERRED, QUICK, draw_random_tensor
from benchmarks.serving.load_generator import iter_rank_requests
from benchmarks.serving.served_shop import ServedShop, serve_generated_shop
from benchmarks.shared.measured_process import measure_seconds
from benchmarks.shared.results import Row, make_row
from contracts.array_types import HalfArray, IntArray
from contracts.half_vectors import VECTOR_DTYPE
from feature_repo.feast_store import open_store
from feature_repo.feature_views import USER_VIEWS
from models.ranker.inputs.item_encoder import Feed
from models.ranker.inputs.ranker_spec import MODEL_FILE, RankerSpec
from serving.gateway.deployed_ranker import name_feature_service
from serving.triton.triton_client import make_channel_target

NUM_CANDIDATES: Final = 200
_SIDES: Final = {"candidate": NUM_CANDIDATES, "history": HISTORY, "inferred": INFERRED}
_NUM_VECTORS: Final = sum(_SIDES.values())
_ROUNDS, _BLOCKS, _RUNS, _WARM_UP = 5, 20, 50, 100
_SOME_REQUESTS: Final = 256
_KNOWN_QUERIES: Final = _WARM_UP

Way = Callable[[int], object]
"""Answers the n-th request."""


def measure_request_latency(*, quick: bool) -> list[Row]:
    """All rows of a single request's latency."""
    size = QUICK if quick else FULL
    num_blocks, num_rounds = (_BLOCKS // 4, 1) if quick else (_BLOCKS, _ROUNDS)
    with TemporaryDirectory() as folder, serve_generated_shop(Path(folder), size) as shop:
        ways = _list_ways(shop)
        rounds = [_time_ways(ways, num_blocks=num_blocks) for _ in range(num_rounds)]
    data = (
        f"1 user x {NUM_CANDIDATES} candidates, {HISTORY} behaviors, {DIM} floats a vector, "
        f"{size.items:,} items, {num_rounds} round(s) of {num_blocks * _RUNS:,} requests"
    )
    p50_s, p99_s = (
        {name: np.array([np.percentile(seconds[name], percentile) for seconds in rounds]) for name in ways}
        for percentile in (50, 99)
    )
    make_lower_row = partial(make_row, better="lower", data=data)
    floor_ratios = [seconds["gateway"] / seconds["floor"] for seconds in (p50_s, p99_s)]
    plain_ratio = (p50_s["plain"] / p50_s["gateway"]).tolist()
    known_query_ratio = (p50_s.pop("known_query") / p50_s["gateway"]).tolist()
    new_query_ms = (1000 * (p50_s.pop("new_query") - p50_s["gateway"])).tolist()
    return [
        *(
            make_lower_row(f"serving.{name}.p50_ms", (1000 * values).tolist(), unit="ms")
            for name, values in p50_s.items()
        ),
        make_lower_row("serving.gateway.p50_over_floor", floor_ratios[0].tolist(), unit="ratio"),
        make_lower_row("serving.gateway.p99_over_floor", floor_ratios[1].tolist(), unit="ratio"),
        make_lower_row("serving.context.first_query_ms", new_query_ms, unit="ms"),
        make_lower_row("serving.context.over_plain_p50_ratio", known_query_ratio, unit="ratio"),
        make_row("serving.plain_over_gateway.p50_ratio", plain_ratio, unit="ratio", data=data),
    ]


def _list_ways(shop: ServedShop) -> dict[str, Way]:
    spec = RankerSpec.read(shop.rankers[0])
    generator = np.random.default_rng(0)
    random_feed = {
        tensor.name: draw_random_tensor(tensor, generator, batch=1, candidates=NUM_CANDIDATES)
        for tensor in spec.inputs
    }
    item_numbers = generator.integers(0, shop.size.items, (_SOME_REQUESTS, _NUM_VECTORS))
    return {
        "gateway": _ask_gateway(shop, repeat({})),
        "known_query": _ask_gateway(shop, cycle(map(_make_search_page, range(_KNOWN_QUERIES)))),
        "new_query": _ask_gateway(shop, map(_make_search_page, count(_KNOWN_QUERIES))),
        "floor": _ask_floor(shop, random_feed, item_numbers),
        "plain": _ask_plain(shop, spec, random_feed, item_numbers),
    }


def _make_search_page(number: int) -> dict[str, str]:
    return {"scene": "search", "query": f"waterproof running shoes word{number}"}


def _ask_gateway(shop: ServedShop, contexts: Iterator[dict[str, str]]) -> Way:
    connection = http.client.HTTPConnection(*shop.gateway_addresses[0])
    requests = list(islice(iter_rank_requests(shop.size, candidates=NUM_CANDIDATES, seed=0), _SOME_REQUESTS))
    # The context is the body's last field.
    open_bodies = [request.body.removesuffix(b"}") for request in requests]

    def answer_request(number: int) -> None:
        row = number % len(requests)
        if number % _RUNS == 0:
            connection.close()  # it has been idle while the others had their turns
        body = b'%s, "context": %s}' % (open_bodies[row], json.dumps(next(contexts)).encode())
        connection.request("POST", requests[row].path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        answer_body = response.read()
        assert response.status == 200, answer_body
        assert b'"degraded":[],"items"' in answer_body, answer_body[:300]

    return answer_request


def _ask_floor(shop: ServedShop, feed: Feed, item_numbers: IntArray) -> Way:
    redis_client = shop.redis.client
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((shop.size.items, DIM), dtype=np.float32).astype(VECTOR_DTYPE)
    num_users = _write_raw_rows(redis_client, vectors)
    session = _open_one_thread_session(shop.rankers[0] / MODEL_FILE)

    def answer_request(number: int) -> object:
        with redis_client.pipeline(transaction=False) as pipeline:
            pipeline.get(f"raw:user:{number % num_users}")
            pipeline.mget([f"raw:item:{item}" for item in item_numbers[number % len(item_numbers)]])
            _, stored_vectors = pipeline.execute()
        read_vectors = np.frombuffer(b"".join(stored_vectors), VECTOR_DTYPE).reshape(-1, DIM)
        return session.run(None, _fill_vectors(feed, read_vectors))

    return answer_request


def _write_raw_rows(redis_client: Redis, vectors: HalfArray) -> int:
    """Writes vectors and users' stored rows under plain keys; returns the number of users."""
    user_keys = redis_client.scan_iter(b"*user_id*", count=10_000)
    user_rows = [b"".join(redis_client.hgetall(key).values()) for key in user_keys]
    with redis_client.pipeline(transaction=False) as pipeline:
        for item_number, vector in enumerate(vectors):
            pipeline.set(f"raw:item:{item_number}", vector.tobytes())
        for user_number, user_row in enumerate(user_rows):
            pipeline.set(f"raw:user:{user_number}", user_row)
        pipeline.execute()
    return len(user_rows)


def _open_one_thread_session(graph: Path) -> onnxruntime.InferenceSession:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, session_options, providers=["CPUExecutionProvider"])


def _ask_plain(shop: ServedShop, spec: RankerSpec, feed: Feed, item_numbers: IntArray) -> Way:
    store = open_store(shop.config.feature_store)
    views = store.get_feature_service(name_feature_service(spec)).feature_view_projections
    user_features, item_features = (
        [
            f"{view.name}:{feature.name}"
            for view in views
            if (view.name in USER_VIEWS) is is_of_users
            for feature in view.features
        ]
        for is_of_users in (True, False)
    )

    def answer_request(number: int) -> object:
        user_row = {"user_id": f"user_{number % shop.size.users}"}
        store.get_online_features(features=user_features, entity_rows=[user_row]).to_dict()
        item_rows = [{"item_id": f"item_{item}"} for item in item_numbers[number % len(item_numbers)]]
        item_columns = store.get_online_features(features=item_features, entity_rows=item_rows).to_dict()
        read_vectors = np.frombuffer(b"".join(item_columns["item_vector"]), VECTOR_DTYPE).reshape(-1, DIM)
        with InferenceServerClient(make_channel_target(shop.config.triton)) as triton_client:
            return triton_client.infer(
                spec.model_name, _make_triton_inputs(_fill_vectors(feed, read_vectors))
            )

    return answer_request


def _fill_vectors(feed: Feed, vectors: HalfArray) -> Feed:
    vectors_by_side = np.split(vectors, np.cumsum(list(_SIDES.values()))[:-1])
    return feed | {
        f"{side}_vectors": side_vectors[None]
        for side, side_vectors in zip(_SIDES, vectors_by_side, strict=True)
    }


def _make_triton_inputs(feed: Feed) -> list[InferInput]:
    return [
        InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)).set_data_from_numpy(values)
        for name, values in feed.items()
    ]


def _time_ways(ways: Mapping[str, Way], *, num_blocks: int) -> dict[str, list[float]]:
    """Seconds of each request of each way."""
    for way in ways.values():
        for number in range(_WARM_UP):
            way(number)
    seconds_by_way: dict[str, list[float]] = {name: [] for name in ways}
    for block in range(num_blocks):
        for name, way in ways.items():
            for number in range(block * _RUNS, (block + 1) * _RUNS):
                seconds_by_way[name].append(measure_seconds(partial(way, number)))
    return seconds_by_way
