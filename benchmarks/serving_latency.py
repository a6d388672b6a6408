"""One user, 200 candidates: the gateway beside the floor and beside the plain way, one request at a time.

- floor: one raw Redis pipeline of the same bytes (the user's row, the vectors of candidates, history and inferred
  items) and ONNX Runtime in this process. Nothing is encoded, checked, ordered or logged.
- cached floor: the same with the vectors in memory, as the gateway's cache has them.
- plain: Feast's `get_online_features(...).to_dict()` for the user and for all items, and a fresh tritonclient call.

Floor and plain way have a ready-made feed, into which they put the vectors that they read: both are flattered. All are
timed in turns, so that other work on the machine hits each of them.
"""

import http.client
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
from redis import Redis
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from benchmarks.results import Row, make_row
from benchmarks.serving_inputs import DIM, FULL, HISTORY, INFERRED, QUICK, random_tensor
from benchmarks.serving_load import rank_requests
from benchmarks.serving_shop import ServedShop, serve_shop
from contracts.vectors import VECTOR_DTYPE, Halves
from feature_repo.store import open_store
from feature_repo.views import USER_VIEWS
from models.ranker.encoding import Feed
from models.ranker.spec import MODEL_FILE, RankerSpec
from serving.rankers import service_name
from serving.triton_client import address

COMMAND: Final = "make bench-serving"
NUM_CANDIDATES: Final = 200
_SIDES: Final = {"candidate": NUM_CANDIDATES, "history": HISTORY, "inferred": INFERRED}
_NUM_VECTORS: Final = sum(_SIDES.values())
_ROUNDS, _BLOCKS, _RUNS, _WARM_UP = 5, 20, 50, 100
_SOME_REQUESTS: Final = 256

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Way = Callable[[int], object]
"""Answers the n-th request."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of a single request's latency."""
    size = QUICK if quick else FULL
    blocks, rounds = (_BLOCKS // 4, 1) if quick else (_BLOCKS, _ROUNDS)
    with TemporaryDirectory() as folder, serve_shop(Path(folder), size) as shop:
        ways = dict(_ways(shop))
        found = [_time(ways, blocks=blocks) for _ in range(rounds)]
    data = (
        f"1 user x {NUM_CANDIDATES} candidates, {HISTORY} behaviours, {DIM} floats a vector, {size.items:,} items, "
        f"{rounds} round(s) of {blocks * _RUNS:,} requests"
    )
    p50, p99 = ({name: _percentiles(found, name, q) for name in ways} for q in (50, 99))
    ratios = {
        "gateway.p50_over_floor": p50["gateway"] / p50["floor"],
        "gateway.p99_over_floor": p99["gateway"] / p99["floor"],
        "gateway.p50_over_cached_floor": p50["gateway"] / p50["cached_floor"],
    }
    times = {f"{name}.p{q}_ms": values for q, of in ((50, p50), (99, p99)) for name, values in of.items()}
    return [
        *(row(name, values, "ratio", "lower", data) for name, values in ratios.items()),
        *(row(name, 1000 * values, "ms", "lower", data) for name, values in times.items()),
        row("plain_over_gateway.p50_ratio", p50["plain"] / p50["gateway"], "ratio", "higher", data),
    ]


def row(name: str, value: float | Floats, unit: str, better: Literal["higher", "lower"], data: str) -> Row:
    """A row of this benchmark; of several rounds' values, their mean and standard deviation."""
    values = np.atleast_1d(value).tolist()
    return make_row(f"serving.{name}", values, unit=unit, better=better, data=data, command=COMMAND)


def _percentiles(rounds: Sequence[Mapping[str, list[float]]], way: str, q: float) -> Floats:
    """A percentile of each round."""
    return np.array([np.percentile(times[way], q) for times in rounds])


def _ways(shop: ServedShop) -> Iterator[tuple[str, Way]]:
    spec = RankerSpec.read(shop.rankers[0])
    rng = np.random.default_rng(0)
    feed = {tensor.name: random_tensor(tensor, rng, batch=1, candidates=NUM_CANDIDATES) for tensor in spec.inputs}
    ids = rng.integers(0, shop.size.items, (_SOME_REQUESTS, _NUM_VECTORS))
    yield "gateway", _gateway(shop)
    yield "floor", _floor(shop, feed, ids, cached=False)
    yield "cached_floor", _floor(shop, feed, ids, cached=True)
    yield "plain", _plain(shop, spec, feed, ids)


def _gateway(shop: ServedShop) -> Way:
    connection = http.client.HTTPConnection(*shop.addresses[0])
    requests = list(islice(rank_requests(shop.size, candidates=NUM_CANDIDATES, seed=0), _SOME_REQUESTS))

    def answer(number: int) -> None:
        request = requests[number % len(requests)]
        if number % _RUNS == 0:
            connection.close()  # it has been idle while the others had their turns
        connection.request("POST", request.path, request.body, {"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        assert b'"degraded":[],"items"' in body, body[:300]

    return answer


def _floor(shop: ServedShop, feed: Feed, ids: Ints, *, cached: bool) -> Way:
    redis = shop.redis.client
    vectors = np.random.default_rng(1).standard_normal((shop.size.items, DIM), dtype=np.float32).astype(VECTOR_DTYPE)
    num_users = _write_raw(redis, vectors)
    session = one_thread_session(shop.rankers[0] / MODEL_FILE)

    def answer(number: int) -> object:
        wanted = ids[number % len(ids)]
        with redis.pipeline(transaction=False) as pipe:
            pipe.get(f"raw:user:{number % num_users}")
            if not cached:
                pipe.mget([f"raw:item:{item}" for item in wanted])
            found = pipe.execute()
        read = vectors[wanted] if cached else np.frombuffer(b"".join(found[1]), VECTOR_DTYPE).reshape(-1, DIM)
        return session.run(None, _with_vectors(feed, read))

    return answer


def _write_raw(redis: Redis, vectors: Halves) -> int:
    """Writes vectors and the bytes of the users' stored rows under plain keys; returns the number of users."""
    users = [b"".join(redis.hgetall(key).values()) for key in redis.scan_iter(b"*user_id*", count=10_000)]
    with redis.pipeline(transaction=False) as pipe:
        for number, vector in enumerate(vectors):
            pipe.set(f"raw:item:{number}", vector.tobytes())
        for number, user in enumerate(users):
            pipe.set(f"raw:user:{number}", user)
        pipe.execute()
    return len(users)


def one_thread_session(graph: Path) -> onnxruntime.InferenceSession:
    """The graph in this process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _plain(shop: ServedShop, spec: RankerSpec, feed: Feed, ids: Ints) -> Way:
    store = open_store(shop.config.feature_store)
    views = store.get_feature_service(service_name(spec)).feature_view_projections
    refs = {view.name: [f"{view.name}:{feature.name}" for feature in view.features] for view in views}
    of_users, of_items = (
        [ref for name, listed in refs.items() if (name in USER_VIEWS) is wanted for ref in listed]
        for wanted in (True, False)
    )

    def answer(number: int) -> object:
        user = {"user_id": f"user_{number % shop.size.users}"}
        store.get_online_features(features=of_users, entity_rows=[user]).to_dict()
        items = [{"item_id": f"item_{item}"} for item in ids[number % len(ids)]]
        found = store.get_online_features(features=of_items, entity_rows=items).to_dict()
        read = np.frombuffer(b"".join(found["item_vector"]), VECTOR_DTYPE).reshape(-1, DIM)
        with InferenceServerClient(address(shop.config.triton)) as client:
            return client.infer(spec.model_name, _inputs(_with_vectors(feed, read)))

    return answer


def _with_vectors(feed: Feed, vectors: Halves) -> Feed:
    parts = np.split(vectors, np.cumsum(list(_SIDES.values()))[:-1])
    return feed | {f"{side}_vectors": part[None] for side, part in zip(_SIDES, parts, strict=True)}


def _inputs(feed: Feed) -> list[InferInput]:
    return [
        InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)).set_data_from_numpy(values)
        for name, values in feed.items()
    ]


def _time(ways: Mapping[str, Way], *, blocks: int) -> dict[str, list[float]]:
    """Seconds of each request of each way."""
    for way in ways.values():
        for number in range(_WARM_UP):
            way(number)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for block in range(blocks):
        for name, way in ways.items():
            found[name] += [_seconds(way, block * _RUNS + run) for run in range(_RUNS)]
    return found


def _seconds(way: Way, number: int) -> float:
    started = time.perf_counter()
    way(number)
    return time.perf_counter() - started
