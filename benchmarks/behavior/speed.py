"""Users a second of inference on one thread, beside the generative peer, and how the cost of a user grows.

Catalogues and logs are simulated and the networks untrained, since what is inferred does not change the time:
clustered vectors with the codes of their clusters, ten behaviors a user, tables of neighbors of the product's
sizes. Timed is what a daily refresh repeats: from a user's behaviors to his list; not what is made once per
catalogue. Seconds are processor time of the one thread, so that other work on the machine does not count.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks.behavior.hidden_behaviors import Task
from benchmarks.behavior.peers.generative import CodeDecoder, make_beam_search
from benchmarks.behavior.peers.log import PeerLog, make_peer_log, recommend_to_users
from benchmarks.behavior.peers.training import PeerConfig
from benchmarks.shared.measured_process import measure_seconds
from benchmarks.shared.results import Row, make_row
from contracts.array_types import BoolArray, FloatArray
from contracts.tables import EVENT_TYPES
from models.behavior.behavior_model import (
    BehaviorModel,
    BehaviorModelCard,
    make_decoder,
    tabulate_associations,
)
from models.behavior.config import BehaviorConfig
from models.behavior.decoding.cooccurrence import NUM_NEIGHBORS as COOCCURRENCE_NEIGHBORS
from models.behavior.decoding.top_items import (
    LogSnapshot,
    TopItems,
    estimate_trend_prior,
    rank_whole_catalogue,
)
from models.behavior.decoding.vote_tables import NeighborVoteTable
from models.behavior.network.denoiser import build_denoiser
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue

_BEHAVIORS, _LEVELS, _CODES, _WIDTH = 10, 4, 256, 256
_AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_NUM_ITEMS, _NUM_REPEATS, _NUM_BEAMS = 10_000, 3, 20


def measure_speed(*, quick: bool) -> list[Row]:
    """All rows of speed; `quick`: fewer users. The peer infers as many items as the model does."""
    torch.set_num_threads(1)
    num_users = 500 if quick else 2_000
    catalogue, behaviors = simulate_users(_NUM_ITEMS, num_users)
    infer_short = build_refresher(catalogue, behaviors, _NUM_BEAMS)
    infer_shipped = build_refresher(catalogue, behaviors)
    shipped_s = [measure_seconds(infer_shipped, time.process_time) for _ in range(_NUM_REPEATS)]
    shipped_rates = [num_users / seconds for seconds in shipped_s]
    peer_log, peer_config = _build_peer_log(catalogue, behaviors), PeerConfig()
    peer_users = np.arange(max(num_users // 4, 64))
    torch.manual_seed(0)
    beam_search = make_beam_search(CodeDecoder(peer_log, peer_config), peer_log, num_beams=_NUM_BEAMS)
    infer_with_peer = partial(recommend_to_users, peer_log, beam_search, peer_users)
    peer_ratios = []
    for _ in range(_NUM_REPEATS):  # by turns
        our_rate = num_users / measure_seconds(infer_short, time.process_time)
        peer_ratios.append(our_rate * measure_seconds(infer_with_peer, time.process_time) / len(peer_users))
    data_note = f"10,000 simulated items, {_BEHAVIORS} behaviors a user, one thread"
    lists_data = f"{data_note}, lists of {BehaviorConfig().decoding.num_inferred}"
    peer_data = (
        f"over: {data_note}, generative peer, width {peer_config.dimension}, "
        f"{peer_config.num_layers} layer(s), beam {_NUM_BEAMS}"
    )
    make_speed_row = partial(make_row, seeds=range(_NUM_REPEATS))
    return [
        make_speed_row("behavior.speed.users_per_s_core_10k", shipped_rates, unit="users/s", data=lists_data),
        make_speed_row("behavior.speed.over_ar_ratio", peer_ratios, unit="ratio", data=peer_data),
    ]


def simulate_users(
    num_items: int, num_users: int, *, seed: int = 0
) -> tuple[BehaviorCatalogue, pl.DataFrame]:
    """A catalogue of clustered vectors with residual codes, and distinct behaviors."""
    rng = np.random.default_rng(seed)
    item_codes = np.unique(rng.integers(0, _CODES, (num_items + num_items // 100 + 8, _LEVELS)), axis=0)
    item_codes = item_codes[rng.permutation(len(item_codes))[:num_items]]
    code_centroids = rng.standard_normal((_LEVELS, _CODES, _WIDTH)).astype(np.float32)
    vectors: FloatArray = 0.2 * rng.standard_normal((num_items, _WIDTH)).astype(np.float32)
    for level in range(_LEVELS):
        vectors += code_centroids[level, item_codes[:, level]] * np.float32(0.5**level)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    item_ids = pl.Series([f"i{row_number:07d}" for row_number in range(num_items)])
    available_us = np.full(num_items, np.iinfo(np.int64).min)
    num_rows = num_users * _BEHAVIORS
    start_us = int((_AS_OF - timedelta(days=60)).timestamp() * 1e6)
    behavior_rows = pl.DataFrame(
        {
            "user_id": [f"u{row_number // _BEHAVIORS:06d}" for row_number in range(num_rows)],
            "item": rng.integers(0, num_items, num_rows),
            "event_type": np.full(num_rows, len(EVENT_TYPES)),
            "time_us": start_us + rng.integers(0, 59 * 86_400_000_000, num_rows),
        }
    ).unique(["user_id", "item"], maintain_order=True)
    return BehaviorCatalogue(item_ids, item_codes, vectors, available_us, "simulated"), behavior_rows.sort(
        "user_id", "time_us", "item"
    )


def build_refresher(
    catalogue: BehaviorCatalogue, behaviors: pl.DataFrame, length: int | None = None
) -> Callable[[], TopItems]:
    """Infers the lists of all users as the product does; `length` items each."""
    config = BehaviorConfig()
    denoiser = build_denoiser(catalogue, config)
    model = BehaviorModel(
        BehaviorModelCard(space=catalogue.space, network=denoiser.spec, trained_until=_AS_OF),
        denoiser,
        associations=tabulate_associations(denoiser, catalogue),
        cooccurrences=_draw_random_table(len(catalogue), COOCCURRENCE_NEIGHBORS),
    )
    snapshot = LogSnapshot(_AS_OF, behaviors, catalogue)
    log_prior = estimate_trend_prior(snapshot, config.decoding.trend_days)
    decoder = make_decoder(model, catalogue, log_prior, config.decoding)
    return partial(
        rank_whole_catalogue,
        snapshot,
        behaviors["user_id"].unique().sort(),
        decoder.compute_confidences,
        max_history=config.max_visible,
        num_items=length or config.decoding.num_inferred,
    )


def _draw_random_table(num_items: int, num_neighbors: int) -> NeighborVoteTable:
    generator = torch.Generator().manual_seed(num_neighbors)
    shape = (num_items, num_neighbors)
    neighbor_items = torch.randint(num_items, shape, generator=generator, dtype=torch.int32)
    return NeighborVoteTable(neighbor_items, torch.rand(shape, generator=generator), torch.zeros(num_items))


def _build_peer_log(catalogue: BehaviorCatalogue, behaviors: pl.DataFrame) -> PeerLog:
    user_ids = behaviors["user_id"].unique().sort()
    user_number = pl.col("user_id").rank("dense").cast(pl.Int64) - 1
    visible_rows = behaviors.select(user_number.alias("user"), "item", "time_us")
    no_users: BoolArray = np.zeros(len(user_ids), bool)
    task = Task(
        "simulated", Path(), user_ids, catalogue.item_ids, visible_rows, visible_rows.clear(), no_users
    )
    return make_peer_log(task, catalogue.vectors, catalogue.codes)
