"""The gateway's context of a page is that of training, byte for byte: the real export and the real store."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from contracts.artifacts import create_artifact, read_table, write_table, write_text
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, KNOWLEDGE, RANKING_LISTS
from feature_repo.config import FeatureStoreConfig
from feature_repo.feature_services import register_service
from feature_repo.make_sample import write_sample_inputs
from feature_repo.offline.build_features import build_features
from feature_repo.offline.point_in_time_join import join_features
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.materialize_features import materialize_features
from models.knowledge.config import EmbeddingConfig, SemanticIdConfig
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.embed_queries import embed_queries, embed_titles
from models.ranker.config import RankerFeatures
from models.ranker.inputs.item_encoder import Feed, ItemEncoder
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec, list_graph_inputs, list_graph_outputs
from serving.config import GatewayConfig
from serving.deployment.routes import Arm, ExperimentPlan, write_routes
from serving.event_log.event_log import EventLog
from serving.gateway.deployed_ranker import name_feature_service
from serving.gateway.deployment_watcher import DeploymentWatcher
from serving.gateway.messages import RankRequest
from serving.gateway.page_context import PageContext
from serving.gateway.ranking_service import RankingService
from serving.triton.triton_client import ModelOutputs

pytestmark = pytest.mark.integration
FEATURES = FeatureStoreConfig(history_length=4)
PAGES: list[dict[str, str]] = [
    {"scene": "search", "query": "coffee machine"},
    {"scene": "search", "query": " Trail shoes ", "page_category": "Home > All"},
    {"scene": "search", "query": "ランニング 42.5"},
    {"scene": "category", "page_category": "Home > All"},
    {"scene": "similar", "seed_item_id": "item_3", "page_category": "Home > All"},
    {"scene": "cart", "seed_item_id": "item_0"},
    {"scene": "similar", "seed_item_id": "gone", "query": "desk lamp"},
    {"scene": "home"},
]


class Shop(NamedTuple):
    embeddings: Path
    training_set: pl.DataFrame
    feature_store: Path
    state: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("page_context")
    dataset, _, sample_inferred = write_sample_inputs(root)
    with create_artifact(root / "knowledge", kind="knowledge", inputs={}) as artifact:
        write_table(artifact.path / "knowledge.parquet", KNOWLEDGE, KNOWLEDGE.create_empty())
    # The exported query encoder is float32; `auto` would embed the items in bfloat16 on processors with AMX.
    config = EmbeddingConfig(
        dimension=8, semantic_ids=SemanticIdConfig(num_levels=2, num_codes=4), precision="float32"
    )
    embed_items(dataset, root / "knowledge", config, out=root / "embeddings")
    embeddings = read_table(root / "embeddings" / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    inferred = read_table(sample_inferred / "inferred_behaviors.parquet", INFERRED_BEHAVIORS)
    with create_artifact(root / "inferred", kind="inferred_behaviors", inputs={}) as artifact:
        inferred = inferred.with_columns(space=pl.lit(embeddings["space"][0]))
        write_table(artifact.path / "inferred_behaviors.parquet", INFERRED_BEHAVIORS, inferred)
    inputs = dataset, root / "embeddings", root / "inferred"
    build_features(*inputs, FEATURES, out=root / "features")
    _write_lists(root / "lists")
    embed_texts = partial(embed_queries, root / "embeddings")
    join_features(root / "lists", root / "features", FEATURES, out=root / "set", embed_texts=embed_texts)
    materialize_features(root / "features", FEATURES, store=root / "feature_store")
    _deploy_ranker(root, embeddings)
    training_set = pl.read_parquet(root / "set" / "training_set.parquet")
    return Shop(root / "embeddings", training_set, root / "feature_store", root / "serving")


def _write_lists(out: Path) -> None:
    lists = pl.DataFrame(PAGES).select(
        pl.all(),
        list_id=pl.format("list_{}", pl.int_range(pl.len())),
        user_id=pl.lit("user_0"),
        timestamp=pl.lit(datetime(2026, 1, 8, tzinfo=UTC)),
        split=pl.lit("train"),
        protocol=pl.lit("impressions"),
        item_ids=pl.lit(["item_0", "item_1"]),
        clicks=pl.lit([True, False]),
        orders=pl.lit([False, False]),
        values=pl.lit([0.0, 0.0]),
    )
    with create_artifact(out, kind="ranking_lists", inputs={}) as artifact:
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, lists)


def _deploy_ranker(root: Path, embeddings: pl.DataFrame) -> None:
    """A deployed ranker without a graph."""
    features, dim = RankerFeatures(), len(embeddings["embedding"][0])
    folder = root / "serving" / "rankers" / "ranker_sample"
    folder.mkdir(parents=True)
    encoder = ItemEncoder(
        {"item": {"item_0": 2}, "category": {}, "brand": {}}, np.array([10, 20], np.float32), dim
    )
    spec = RankerSpec(
        model_name="ranker_sample",
        version="0123abcd4567ef89",
        space=embeddings["space"][0],
        feature_service="ranker",
        history_length=4,
        inferred_length=2,
        embedding_dim=dim,
        features=features,
        inputs=list_graph_inputs(features, history=4, inferred=2, dim=dim),
        outputs=list_graph_outputs(),
        vocabularies=encoder.save_vocabularies(folder),
        price_edges=(10.0, 20.0),
    )
    write_text(folder / SPEC_FILE, spec.model_dump_json())
    register_service(
        root / "feature_store", name_feature_service(spec), space=spec.space, description="A sample.", dim=dim
    )
    arms = {"all": Arm(model=spec.model_name, share=1)}
    write_routes(root / "serving", ExperimentPlan(experiment="ranker", salt="1", arms=arms), note="test")


class FeedKeeper:
    """A model that keeps what it is sent."""

    def __init__(self) -> None:
        self.feeds: list[Feed] = []

    async def score(
        self, model: str, feed: Feed, outputs: tuple[str, ...], *, timeout_s: float
    ) -> ModelOutputs:
        self.feeds.append(feed)
        return dict.fromkeys(outputs, np.zeros((1, feed["candidate_vectors"].shape[1]), np.float32))


@contextlib.contextmanager
def _open_service(shop: Shop, model: Any, log_folder: Path) -> Iterator[RankingService]:
    page_context = PageContext(shop.feature_store, cached_queries=100)
    with EventLog(log_folder) as log, contextlib.closing(page_context):
        yield RankingService(
            GatewayConfig(deadline_ms=10_000),
            deployments=DeploymentWatcher(shop.state, shop.state / "rankers"),
            features=FeatureReader(shop.feature_store, cached_items=10),
            scorer=model,
            log=log,
            page_context=page_context,
        )


def test_the_context_of_serving_is_that_of_training(shop: Shop, tmp_path: Path) -> None:
    model = FeedKeeper()
    requests = [
        RankRequest.model_validate({"user_id": "user_0", "candidates": ["item_0", "item_1"], "context": page})
        for page in PAGES
    ]

    async def rank_all(service: RankingService) -> list[list[str]]:
        # Twice: the second time all texts come from the cache.
        return [(await service.rank_candidates(request)).degraded for request in [*requests, *requests]]

    with _open_service(shop, model, tmp_path / "events") as service:
        degraded = asyncio.run(rank_all(service))
    assert degraded == [[]] * len(degraded)
    offline_vectors = shop.training_set["context_vector"].to_list()
    assert [vector is None for vector in offline_vectors] == [page == {"scene": "home"} for page in PAGES]
    for feed, offline_vector in zip(model.feeds, offline_vectors * 2, strict=True):
        online_vector = feed["context_vectors"][0, 0]
        assert online_vector.dtype == np.float16
        if offline_vector is None:
            assert not online_vector.any()
        else:
            assert online_vector.tobytes() == offline_vector
    item_vectors = [feed["candidate_vectors"][0, 0] for feed in model.feeds]
    assert (item_vectors[0] == model.feeds[5]["context_vectors"][0, 0]).all(), "item_0 is its own page"


def test_both_are_where_the_maps_of_the_space_put_them(shop: Shop) -> None:
    texts = [page["query"].strip() for page in PAGES if "query" in page]
    np.testing.assert_allclose(
        embed_queries(shop.embeddings, texts), embed_titles(shop.embeddings, texts), atol=1e-4
    )
