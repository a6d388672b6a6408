"""What each missing part costs in NDCG@10, on golden requests of the embedded shop with a trained ranker.

The visitors of the shop after the end of its log ask for 50 candidates; the gain of one is the true chance that they
click it at the first place (known to the simulator, never to a ranker). The ranking service runs in this process with
everything real but HTTP. Parts are really taken away: tables are emptied before they are materialized, Redis stalls,
Redis and Triton are killed. Those with a warm cache know the items still.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from benchmarks.results import Row
from benchmarks.serving_latency import row
from benchmarks.serving_redis import RedisServer, free_ports
from benchmarks.serving_shop import FEATURES, REDIS_ENV
from feature_repo.materialize import materialize_features
from feature_repo.online import FeatureReader
from feature_repo.services import register_service
from models.ranker.spec import RankerSpec
from pipelines.config import load_config
from pipelines.data import shop_folder
from reaseq.running import run_pipeline
from serving.config import GatewayConfig, ServingConfig, TritonConfig
from serving.deploy import deploy_rankers
from serving.deployments import Deployments
from serving.event_log import EventLog
from serving.messages import RankContext, RankRequest, RankResponse
from serving.rankers import service_name
from serving.ranking import RankingService
from serving.triton_client import TritonScorer
from serving.triton_server import TritonServer
from simulation.choice import click_probability
from simulation.traffic import TrafficRequest, TrafficSimulator
from simulation.world import Floats

_TOP: Final = 10
_TABLES: Final = {"no_inferred": "inferred_behaviors", "no_vectors": "item_knowledge", "no_history": "user_behaviors"}
"""Case -> the table that is emptied."""
_FLAGS: Final = {"no_inferred": "no_inferred", "no_vectors": "no_vector", "no_history": "no_history"}
"""Case -> what answers say."""
_OF_NEW_USERS: Final = {"no_history", "no_inferred"}
_STALL_MS: Final = 3_600_000
_AT_ONCE: Final = 16
_IN_TIME: Final = GatewayConfig(deadline_ms=10_000)
"""Where all parts answer, none of the answers may depend on how busy the machine is."""
_IMPATIENT: Final = GatewayConfig(deadline_ms=2000, feature_share=0.25)
"""Where parts do not answer, and each request waits."""

Golden = Sequence[tuple[TrafficRequest, Floats]]
"""Requests with the true gain of each candidate."""


class _Served(NamedTuple):
    """The real parts."""

    features: Path
    config: ServingConfig
    redis: RedisServer
    triton: TritonServer


def measure(*, quick: bool) -> list[Row]:
    """All rows of degraded answers."""
    config = load_config(Path("configs/shop.yaml"))
    artifacts = run_pipeline(config, "train_and_deploy", deploy=False)
    simulator = TrafficSimulator(shop_folder(config.home), config.traffic)
    golden = [(request, _gains(simulator, request)) for request in islice(simulator.requests(), 100 if quick else 1000)]
    return compare(artifacts["features"], artifacts["challenger"], golden)


def compare(features: Path, ranker: Path, golden: Golden) -> list[Row]:
    """Rows of a ranker's answers with every part, and without each."""
    with TemporaryDirectory() as folder, _serve(features, ranker, Path(folder)) as served:
        found = dict(_cases(served, RankerSpec.read(ranker), golden))
    data = f"embedded shop, {len(golden):,} visits x {len(golden[0][1])} candidates, true chance of a click as gain"
    whole = found["whole"]
    rows = [row(f"degraded.{case}.ndcg10", value, "NDCG@10", "higher", data) for case, value in found.items()]
    changes = {case: value - whole for case, value in found.items() if case != "whole"}
    return rows + [row(f"degraded.{case}.ndcg10_delta", d, "NDCG@10", "higher", data) for case, d in changes.items()]


@contextlib.contextmanager
def _serve(features: Path, ranker: Path, root: Path) -> Iterator[_Served]:
    ports = free_ports(3)
    triton = TritonConfig(http_port=ports[0], grpc_port=ports[1], metrics_port=ports[2])
    config = ServingConfig(triton=triton).at(root / "serving", root / "feature_store")
    with (
        RedisServer(root / "redis") as redis,
        TritonServer(config.models, config.triton, scratch=root / "triton") as server,
    ):
        os.environ[REDIS_ENV] = redis.address
        materialize_features(features, FEATURES, store=config.feature_store)
        deploy_rankers({"control": ranker}, config, state=config.state)
        yield _Served(features, config, redis, server)


def _cases(served: _Served, spec: RankerSpec, golden: Golden) -> Iterator[tuple[str, float]]:
    """Case -> NDCG@10; the servers are gone at the end."""
    store, redis = served.config.feature_store, served.redis
    yield "given_order", float(np.mean([_ndcg(gains, range(len(gains))) for _, gains in golden]))
    for case, table in _TABLES.items():
        with TemporaryDirectory() as folder:
            without = _store_without(table, served, spec, Path(folder))
            yield case, _ask(served, without, golden, flag=_FLAGS[case], gateway=_IN_TIME)
    redis.client.flushall()
    materialize_features(served.features, FEATURES, store=store)
    redis.save()
    yield "whole", _ask(served, store, golden, flag=None, gateway=_IN_TIME)
    yield "slow_store", _ask(served, store, golden, flag="feature_store", harm=lambda: _stall(redis))
    redis.kill()
    redis.start()
    yield "store_down", _ask(served, store, golden, flag="feature_store", harm=redis.kill)
    yield "store_down_cold", _ask(served, store, golden, flag="feature_store")
    redis.start()
    yield "triton_down", _ask(served, store, golden, flag="model", harm=served.triton.stop)
    redis.kill()
    yield "all_down_cold", _ask(served, store, golden, flag="model")


def _stall(redis: RedisServer) -> None:
    redis.client.execute_command("CLIENT", "PAUSE", _STALL_MS, "ALL")


def _store_without(table: str, served: _Served, spec: RankerSpec, root: Path) -> Path:
    """A store whose table is empty, in the emptied Redis."""
    served.redis.client.flushall()
    features = copytree(served.features, root / "features")
    pl.read_parquet(features / f"{table}.parquet").clear().write_parquet(features / f"{table}.parquet")
    materialize_features(features, FEATURES, store=root / "store")
    register_service(root / "store", service_name(spec), space=spec.space, description="Of a degraded store.")
    return root / "store"


def _ask(
    served: _Served,
    store: Path,
    golden: Golden,
    *,
    flag: str | None,
    harm: Callable[[], object] | None = None,
    gateway: GatewayConfig = _IMPATIENT,
) -> float:
    """NDCG@10 of the answers from a store, all of which must say what they do without.

    Args:
        served: the servers.
        store: folder of the feature store.
        golden: requests and gains.
        flag: what the answers must say; None: nothing but that a user is new.
        harm: done once the caches are warm; without it they are cold.
        gateway: how long answers may take.
    """
    config = served.config.model_copy(update={"gateway": gateway})
    answers = asyncio.run(_answers(config, store, [request for request, _ in golden], harm))
    silent = [answer for answer in answers if not _says(answer, flag)]
    assert not silent, f"{len(silent)} of {len(answers)} answers do not say {flag}, first: {silent[0].degraded}"
    orders = (_order(request, answer) for (request, _), answer in zip(golden, answers, strict=True))
    return float(np.mean([_ndcg(gains, order) for (_, gains), order in zip(golden, orders, strict=True)]))


def _order(request: TrafficRequest, answer: RankResponse) -> list[int]:
    places = {item_id: place for place, item_id in enumerate(request.candidate_item_ids)}
    return [places[item["item_id"]] for item in answer.items]


async def _answers(
    config: ServingConfig, store: Path, requests: Sequence[TrafficRequest], harm: Callable[[], object] | None
) -> list[RankResponse]:
    reader, scorer = FeatureReader(store, cached_items=config.gateway.cached_items), TritonScorer(config.triton)
    with EventLog(config.events) as log:
        deployments = Deployments(config.state, config.rankers)
        service = RankingService(config.gateway, deployments=deployments, features=reader, scorer=scorer, log=log)
        if harm is not None:
            await _rank_all(service, requests)
            await asyncio.to_thread(harm)
        answers = await _rank_all(service, requests)
    await scorer.close()
    await reader.close()
    return answers


async def _rank_all(service: RankingService, requests: Sequence[TrafficRequest]) -> list[RankResponse]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def rank(request: TrafficRequest) -> RankResponse:
        context = RankContext(timestamp=request.timestamp)
        candidates = list(request.candidate_item_ids)
        async with places:
            return await service.rank(RankRequest(user_id=request.user_id, candidates=candidates, context=context))

    return list(await asyncio.gather(*map(rank, requests)))


def _says(answer: RankResponse, flag: str | None) -> bool:
    of_items = {said for item in answer.items for said in item["degraded"]}
    said = {*answer.degraded, *of_items}
    return flag in said if flag else said <= _OF_NEW_USERS


def _gains(simulator: TrafficSimulator, request: TrafficRequest) -> Floats:
    affinity = simulator.true_affinity(request)
    return click_probability(affinity, np.zeros(len(affinity), np.int64))


def _ndcg(gains: Floats, order: Sequence[int]) -> float:
    """NDCG@10 of candidates in an order, by their gains."""
    discounts = 1 / np.log2(np.arange(_TOP) + 2)
    best = np.sort(gains)[::-1][:_TOP] @ discounts
    return float(gains[list(order)[:_TOP]] @ discounts / best)
