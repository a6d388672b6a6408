"""Parts of a served sample shop: real rankers without training, free loopback ports."""

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from contracts.artifacts import create_artifact
from models.ranker.config import RankerConfig
from models.ranker.export.export_ranker import export_ranker, write_golden_rows
from models.ranker.inputs.graph_feed import encode_request
from models.ranker.inputs.item_encoder import Feed, ItemEncoder, RawItems
from models.ranker.inputs.ranker_spec import RankerSpec
from models.ranker.network.ranker_network import Ranker
from serving.config import ServingConfig

DIM = 3
ITEMS = [f"item_{number}" for number in range(6)]


class Served(NamedTuple):
    config: ServingConfig
    challenger: Path
    baseline: Path


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def write_ranker(
    config: RankerConfig, dataset: Path, out: Path, *, space: str = "sample-space"
) -> RankerSpec:
    """Exports a ranker with random weights, through the ranker's own export."""
    torch.manual_seed(config.seed)
    items = pl.read_parquet(dataset / "items.parquet")
    dim = DIM if config.features.reads_vectors else 0
    encoder = ItemEncoder.fit_vocabularies(items, training_ids=items["item_id"], num_price_buckets=4, dim=dim)
    network = Ranker(config, encoder.table_sizes, (dim,))
    with create_artifact(out, kind="ranker", inputs={"dataset": dataset}, config=config) as artifact:
        spec = export_ranker(network, encoder, config, space=space, vector_dim=dim, folder=artifact.path)
        write_golden_rows(network, spec, _golden(spec, encoder), artifact.path)
    return spec


def _golden(spec: RankerSpec, encoder: ItemEncoder) -> Feed:
    rng = np.random.default_rng(0)
    feeds = [_request(spec, encoder, rng) for _ in range(3)]
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _request(spec: RankerSpec, encoder: ItemEncoder, rng: np.random.Generator) -> Feed:
    return encode_request(
        spec,
        candidate_ids=ITEMS[:5],
        candidates=encoder.encode_items(_rows(rng, 5)),
        history=encoder.encode_items(_rows(rng, 3)),
        history_event_types=["click", "order", "cart"],
        history_ages_s=[10.0, 3600.0, 86400.0],
        inferred=encoder.encode_items(_rows(rng, 2)),
        inferred_ids=ITEMS[:2],
        inferred_scores=[0.9, 0.4],
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _rows(rng: np.random.Generator, count: int) -> RawItems:
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    return RawItems(ITEMS[:count], ["Home > All"] * count, ["Acme"] * count, [10.0] * count, vectors)
