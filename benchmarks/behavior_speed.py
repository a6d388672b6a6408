"""Users a second of inference on one thread, beside the generative peer, and how the cost of a user grows.

Catalogues and logs are simulated and the networks untrained, since what is inferred does not change the time: clustered
vectors with the codes of their clusters, ten behaviours a user, tables of neighbours of the product's sizes. Timed is
what a daily refresh repeats: from a user's behaviours to his list; not what is made once per catalogue. Seconds are
processor time of the one thread, so that other work on the machine does not count.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.behavior_protocol import Bools, Task
from benchmarks.behavior_quality import COMMAND
from benchmarks.peers.generative import CodeDecoder, beam_search
from benchmarks.peers.log import Floats, PeerLog, lists_of, make_log
from benchmarks.peers.training import PeerConfig
from benchmarks.results import Row, make_row
from contracts.tables import EVENT_TYPES
from models.behavior.catalogue import Catalogue
from models.behavior.config import BehaviorConfig
from models.behavior.model import BehaviorModel, ModelCard, associate, make_decoder
from models.behavior.neighbors import Everything, Neighbors
from models.behavior.network import Denoiser, build_denoiser
from models.behavior.recommend import Moment, TopItems, top_items, top_of_shortlists, trend_prior
from models.behavior.shortlist import make_shortlists

_BEHAVIORS, _LEVELS, _CODES, _WIDTH = 10, 4, 256, 256
_SIZES = {"5k": 5_000, "50k": 50_000, "500k": 500_000}
_AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_REPEATS, _NUM_BEAMS = 3, 20
_FOUND = 100
"""Neighbours that are found per item of a catalogue too large to compare all with all (`models.behavior.model`)."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of speed; `quick`: fewer users, without the largest catalogue."""
    torch.set_num_threads(1)
    rows = [*_against_generative(500 if quick else 2_000)]
    sizes = {name: size for name, size in _SIZES.items() if not quick or size < 500_000}
    return [*rows, *_growth(sizes, 100 if quick else 400)]


def _against_generative(num_users: int) -> Iterator[Row]:
    """Both infer lists of 20 from the same histories, by turns; and lists of the product's length alone."""
    catalogue, behaviors = simulate(10_000, num_users)
    infer, as_shipped = refresher(catalogue, behaviors, _NUM_BEAMS), refresher(catalogue, behaviors)
    log = _peer_log(catalogue, behaviors)
    size = BehaviorConfig().network
    same = PeerConfig(dimension=size.dimension, num_layers=size.num_layers, num_heads=size.num_heads)
    few = np.arange(max(num_users // 4, 64))
    what = f"10,000 simulated items, {_BEHAVIORS} behaviours a user, one thread"
    shipped = [num_users / _seconds(as_shipped) for _ in range(_REPEATS)]
    length = BehaviorConfig().decoding.num_inferred
    yield _row("behavior.speed.users_per_s_core_10k", shipped, "users/s", f"{what}, lists of {length}")
    for name, config in {"ar": PeerConfig(), "ar_same_size": same}.items():
        torch.manual_seed(0)
        search = partial(lists_of, log, beam_search(CodeDecoder(log, config), log, num_beams=_NUM_BEAMS), few)
        pairs = [(num_users / _seconds(infer), len(few) / _seconds(search)) for _ in range(_REPEATS)]
        ours, theirs = zip(*pairs, strict=True)
        peer = f"{what}, generative peer, width {config.dimension}, {config.num_layers} layer(s), beam {_NUM_BEAMS}"
        if name == "ar":
            yield _row("behavior.speed.short_users_per_s_core_10k", list(ours), "users/s", f"{what}, lists of 20")
        yield _row(f"behavior.speed.{name}_users_per_s_core_10k", list(theirs), "users/s", peer)
        yield _row(f"behavior.speed.over_{name}_ratio", [a / b for a, b in pairs], "ratio", f"over: {peer}")


def _growth(sizes: dict[str, int], num_users: int) -> Iterator[Row]:
    costs = {}
    for name, size in sizes.items():
        catalogue, behaviors = simulate(size, num_users)
        infer = refresher(catalogue, behaviors)
        costs[name] = [1000 * _seconds(infer) / num_users for _ in range(_REPEATS)]
        what = f"{size:,} simulated items, one thread"
        yield _row(f"behavior.speed.cost_ms_{name}", costs[name], "ms a user", what, better="lower")
    first, *others = costs
    for name in others:
        growth = [a / b for a, b in zip(costs[name], costs[first], strict=True)]
        times = sizes[name] // sizes[first]
        what = f"{sizes[name]:,} over {sizes[first]:,} simulated items"
        yield _row(f"behavior.speed.cost_growth_{times}x", growth, "ratio", what, better="lower")


def simulate(num_items: int, num_users: int, *, seed: int = 0) -> tuple[Catalogue, pl.DataFrame]:
    """A catalogue of clustered vectors with residual codes, and behaviours (as of `distinct_behaviors`)."""
    rng = np.random.default_rng(seed)
    codes = np.unique(rng.integers(0, _CODES, (num_items + num_items // 100 + 8, _LEVELS)), axis=0)
    codes = codes[rng.permutation(len(codes))[:num_items]]
    centroids = rng.standard_normal((_LEVELS, _CODES, _WIDTH)).astype(np.float32)
    vectors: Floats = 0.2 * rng.standard_normal((num_items, _WIDTH)).astype(np.float32)
    for level in range(_LEVELS):
        vectors += centroids[level, codes[:, level]] * np.float32(0.5**level)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    item_ids = pl.Series([f"i{number:07d}" for number in range(num_items)])
    available = np.full(num_items, np.iinfo(np.int64).min)
    rows = num_users * _BEHAVIORS
    start = int((_AS_OF - timedelta(days=60)).timestamp() * 1e6)
    behaviors = pl.DataFrame(
        {
            "user_id": [f"u{number // _BEHAVIORS:06d}" for number in range(rows)],
            "item": rng.integers(0, num_items, rows),
            "event_type": np.full(rows, len(EVENT_TYPES)),
            "time_us": start + rng.integers(0, 59 * 86_400_000_000, rows),
        }
    ).unique(["user_id", "item"], maintain_order=True)
    return Catalogue(item_ids, codes, vectors, available, "simulated"), behaviors.sort("user_id", "time_us", "item")


def refresher(catalogue: Catalogue, behaviors: pl.DataFrame, length: int | None = None) -> Callable[[], TopItems]:
    """Infers the lists of all users, the way the product does for a catalogue of this size; `length` items each."""
    config = BehaviorConfig()
    denoiser = build_denoiser(catalogue, config)
    card = ModelCard(space=catalogue.space, network=denoiser.spec, trained_until=_AS_OF)
    also = _random_table(len(catalogue), config.cooccurrence.num_neighbors)
    moment = Moment(_AS_OF, behaviors, catalogue)
    prior = trend_prior(moment, config.decoding.trend_days)
    decoder = make_decoder(
        BehaviorModel(card, denoiser, _associations(denoiser, catalogue, config), also),
        catalogue,
        prior,
        config.decoding,
    )
    users = behaviors["user_id"].unique().sort()
    reach, count = config.max_visible, length or config.decoding.num_inferred
    if len(catalogue) <= config.decoding.max_exact_items:
        return lambda: top_items(moment, users, decoder.confidences, max_history=reach, num_items=count)
    scorer = make_shortlists(decoder, moment.unavailable_n).confidences
    return lambda: top_of_shortlists(moment, users, scorer, max_history=reach, num_items=count)


def _associations(denoiser: Denoiser, catalogue: Catalogue, config: BehaviorConfig) -> Everything | Neighbors:
    """The product's own where they are made in a moment; of larger catalogues random ones of the same size."""
    if len(catalogue) <= config.decoding.max_associated_exactly:
        return associate(denoiser, catalogue, config.decoding)
    exact = len(catalogue) <= config.decoding.max_exact_items
    return _random_table(len(catalogue), config.decoding.num_neighbors if exact else _FOUND)


def _random_table(num_items: int, count: int) -> Neighbors:
    generator = torch.Generator().manual_seed(count)
    items_nk = torch.randint(num_items, (num_items, count), generator=generator, dtype=torch.int32)
    return Neighbors(items_nk, torch.rand(num_items, count, generator=generator), torch.zeros(num_items))


def _peer_log(catalogue: Catalogue, behaviors: pl.DataFrame) -> PeerLog:
    users = behaviors["user_id"].unique().sort()
    number = pl.col("user_id").rank("dense").cast(pl.Int64) - 1
    visible = behaviors.select(number.alias("user"), "item", "time_us")
    nothing: Bools = np.zeros(len(users), bool)
    task = Task("simulated", Path(), users, catalogue.item_ids, visible, visible.clear(), nothing)
    return make_log(task, catalogue.vectors, catalogue.codes)


def _seconds(run: Callable[[], object]) -> float:
    """Processor time."""
    started = time.process_time()
    run()
    return time.process_time() - started


def _row(row_id: str, values: list[float], unit: str, data: str, better: Any = "higher") -> Row:
    return make_row(row_id, values, unit=unit, better=better, data=data, command=COMMAND, seeds=range(len(values)))
