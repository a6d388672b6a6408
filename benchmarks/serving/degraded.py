"""What each missing part costs in NDCG@10, on golden requests of the embedded shop with a trained ranker.

The visitors of the shop after the end of its log ask for 50 candidates; the gain of one is the true chance
that they click it at the first place (known to the simulator, never to a ranker). The ranking service runs in
this process with everything real but HTTP. Parts are really taken away: tables are emptied before they are
materialized, Redis and Triton are killed. The caches are warm then, so the items are still known.
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

from benchmarks.serving.redis_server import RedisServer, find_free_ports
from benchmarks.serving.served_shop import FEATURES, REDIS_ENV
from benchmarks.shared.results import Row, make_row
from contracts.array_types import FloatArray
from feature_repo.feature_services import register_service
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.materialize_features import materialize_features
from models.ranker.inputs.ranker_spec import RankerSpec
from pipelines.config import load_config
from pipelines.run_data import locate_shop_folder
from reaseq.local_runs import run_pipeline
from serving.config import GatewayConfig, ServingConfig, TritonConfig
from serving.deployment.deploy_rankers import deploy_rankers
from serving.deployment.server_processes import ServerProcess
from serving.event_log.event_log import EventLog
from serving.gateway.deployed_ranker import name_feature_service
from serving.gateway.deployment_watcher import DeploymentWatcher
from serving.gateway.messages import RankContext, RankRequest, RankResponse
from serving.gateway.ranking_service import RankingService
from serving.triton.triton_client import TritonScorer
from serving.triton.triton_server import start_triton
from simulation.simulated_traffic import TrafficRequest, TrafficSimulator
from simulation.user_choice import click_probability

_TOP: Final = 10
_EMPTIED_TABLES: Final = {
    "no_inferred": ("inferred_behaviors", "no_inferred"),
    "no_vectors": ("item_knowledge", "no_vector"),
    "no_history": ("user_behaviors", "no_history"),
}
"""Case -> the table that is emptied, and the flag that answers carry."""
_FLAGS_OF_NEW_USERS: Final = {"no_history", "no_inferred"}
_NUM_CONCURRENT: Final = 16
_PATIENT: Final = GatewayConfig(deadline_ms=10_000)
"""Where all parts answer, none of the answers may depend on how busy the machine is."""
_IMPATIENT: Final = GatewayConfig(deadline_ms=2000, feature_share=0.25)
"""Where parts do not answer, and each request waits."""

Golden = Sequence[tuple[TrafficRequest, FloatArray]]
"""Requests with the true gain of each candidate."""


class _Served(NamedTuple):
    """The real parts."""

    features: Path
    config: ServingConfig
    redis: RedisServer
    triton: ServerProcess


def measure_degraded_answers(*, quick: bool) -> list[Row]:
    """All rows of degraded answers."""
    config = load_config(Path("configs/shop.yaml"))
    artifacts = run_pipeline(config, "train_and_deploy", deploy=False)
    simulator = TrafficSimulator(locate_shop_folder(config.home), config.traffic)
    golden_requests = [
        (request, _compute_gains(simulator, request))
        for request in islice(simulator.iter_requests(), 100 if quick else 1000)
    ]
    return compare_cases(artifacts["features"], artifacts["challenger"], golden_requests)


def compare_cases(features: Path, ranker: Path, golden: Golden) -> list[Row]:
    """Rows of what a ranker's answers lose without each part."""
    with TemporaryDirectory() as folder, _serve_shop(features, ranker, Path(folder)) as served:
        ndcg_by_case = dict(_measure_cases(served, RankerSpec.read(ranker), golden))
    num_candidates = len(golden[0][1])
    data = f"embedded shop, {len(golden):,} visits x {num_candidates} candidates, true chance of a click"
    whole_ndcg = ndcg_by_case.pop("whole")
    return [
        make_row(f"serving.degraded.{case}.ndcg10_delta", ndcg10 - whole_ndcg, unit="NDCG@10", data=data)
        for case, ndcg10 in ndcg_by_case.items()
    ]


@contextlib.contextmanager
def _serve_shop(features: Path, ranker: Path, root: Path) -> Iterator[_Served]:
    free_ports = find_free_ports(3)
    triton_config = TritonConfig(http_port=free_ports[0], grpc_port=free_ports[1], metrics_port=free_ports[2])
    config = ServingConfig(triton=triton_config).in_folders(root / "serving", root / "feature_store")
    with (
        RedisServer(root / "redis") as redis,
        start_triton(config.model_repository, config.triton, scratch=root / "triton") as triton_server,
    ):
        os.environ[REDIS_ENV] = redis.address
        materialize_features(features, FEATURES, store=config.feature_store)
        deploy_rankers({"control": ranker}, config, state=config.state)
        yield _Served(features, config, redis, triton_server)


def _measure_cases(served: _Served, spec: RankerSpec, golden: Golden) -> Iterator[tuple[str, float]]:
    """Case -> NDCG@10; the servers are gone at the end."""
    store, redis = served.config.feature_store, served.redis
    yield "given_order", float(np.mean([compute_ndcg(gains, range(len(gains))) for _, gains in golden]))
    for case, (table, expected_flag) in _EMPTIED_TABLES.items():
        with TemporaryDirectory() as folder:
            degraded_store = _build_store_without(table, served, spec, Path(folder))
            yield case, _measure_answers(served, degraded_store, golden, flag=expected_flag, gateway=_PATIENT)
    redis.client.flushall()
    materialize_features(served.features, FEATURES, store=store)
    redis.client.save()
    yield "whole", _measure_answers(served, store, golden, flag=None, gateway=_PATIENT)
    yield "store_down", _measure_answers(served, store, golden, flag="feature_store", harm=redis.kill_server)
    redis.start_server()
    yield "triton_down", _measure_answers(served, store, golden, flag="model", harm=served.triton.stop)


def _build_store_without(table: str, served: _Served, spec: RankerSpec, root: Path) -> Path:
    """A store whose table is empty, in the emptied Redis."""
    served.redis.client.flushall()
    features_copy = copytree(served.features, root / "features")
    table_file = features_copy / f"{table}.parquet"
    pl.read_parquet(table_file).clear().write_parquet(table_file)
    materialize_features(features_copy, FEATURES, store=root / "store")
    service_name = name_feature_service(spec)
    register_service(root / "store", service_name, space=spec.space, description="Of a degraded store.")
    return root / "store"


def _measure_answers(
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
    answers = asyncio.run(_answer_requests(config, store, [request for request, _ in golden], harm))
    for answer in answers:
        assert _carries_flag(answer, flag), f"an answer does not say {flag}: {answer.degraded}"
    pairs = zip(golden, answers, strict=True)
    ndcg_values = [compute_ndcg(gains, _order_items(one, answer)) for (one, gains), answer in pairs]
    return float(np.mean(ndcg_values))


def _order_items(request: TrafficRequest, answer: RankResponse) -> list[int]:
    places_by_item = {item_id: place for place, item_id in enumerate(request.candidate_item_ids)}
    return [places_by_item[item["item_id"]] for item in answer.items]


async def _answer_requests(
    config: ServingConfig, store: Path, requests: Sequence[TrafficRequest], harm: Callable[[], object] | None
) -> list[RankResponse]:
    feature_reader = FeatureReader(store, cached_items=config.gateway.cached_items)
    triton_scorer = TritonScorer(config.triton)
    with EventLog(config.event_log_folder) as event_log:
        ranking_service = RankingService(
            config.gateway,
            deployments=DeploymentWatcher(config.state, config.rankers_folder),
            features=feature_reader,
            scorer=triton_scorer,
            log=event_log,
        )
        if harm is not None:
            await _rank_requests(ranking_service, requests)
            await asyncio.to_thread(harm)
        answers = await _rank_requests(ranking_service, requests)
    await triton_scorer.close()
    await feature_reader.close()
    return answers


async def _rank_requests(service: RankingService, requests: Sequence[TrafficRequest]) -> list[RankResponse]:
    free_places = asyncio.Semaphore(_NUM_CONCURRENT)

    async def rank_request(request: TrafficRequest) -> RankResponse:
        visit_context = RankContext(timestamp=request.timestamp)
        candidate_ids = list(request.candidate_item_ids)
        async with free_places:
            return await service.rank_candidates(
                RankRequest(user_id=request.user_id, candidates=candidate_ids, context=visit_context)
            )

    return list(await asyncio.gather(*map(rank_request, requests)))


def _carries_flag(answer: RankResponse, flag: str | None) -> bool:
    item_flags = {item_flag for item in answer.items for item_flag in item["degraded"]}
    all_flags = {*answer.degraded, *item_flags}
    return flag in all_flags if flag else all_flags <= _FLAGS_OF_NEW_USERS


def _compute_gains(simulator: TrafficSimulator, request: TrafficRequest) -> FloatArray:
    true_affinity = simulator.compute_true_affinity(request)
    return click_probability(true_affinity, np.zeros(len(true_affinity), np.int64))


def compute_ndcg(gains: FloatArray, order: Sequence[int]) -> float:
    """NDCG@10 of candidates in an order, by their gains."""
    place_discounts = 1 / np.log2(np.arange(_TOP) + 2)
    best_gain = np.sort(gains)[::-1][:_TOP] @ place_discounts
    return float(gains[list(order)[:_TOP]] @ place_discounts / best_gain)
