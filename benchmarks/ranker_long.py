"""Long histories: what the general search unit costs, and what it finds, on simulated logs.

A user has many interests, each a small group of alike items, but his latest behaviours are of two of them alone. A
target may be of any of them, its negatives are of none. Who reads the newest behaviours sees little of that; whoever
searches the whole history finds the group of the target. The same lists, the same network, one seed each.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.knowledge_quality import RankerInputs, train_and_score
from benchmarks.results import Row, make_row
from contracts.artifacts import new_artifact, write_json, write_table
from contracts.schema import UTC_TIME
from contracts.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS, TRAINING_SET
from models.ranker.config import FeatureConfig, RankerConfig
from models.ranker.search import search_history

COMMAND = "make bench-ranker"
LENGTH, HISTORY = 1_000, 50
NUM_GROUPS, GROUP_SIZE, DIM = 300, 10, 64
_INTERESTS, _RECENT, _RECENT_INTERESTS = 30, 60, 2
_LISTS = {"train": (3_000, 4), "validation": (300, 99), "test": (1_000, 99)}
"""Part -> lists, negatives of each."""
_SPREAD, _ROWS_AT_ONCE = 0.6, 200
_START = datetime(2026, 1, 1, tzinfo=UTC)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def measure(*, quick: bool) -> Iterator[Row]:
    """Rows of what is found; `quick`: none."""
    if quick:
        return
    with TemporaryDirectory() as folder:
        inputs = _write_inputs(Path(folder))
        found = {}
        for name, length in {"recent": 0, "search": LENGTH}.items():
            config = RankerConfig(features=FeatureConfig(inferred=False), num_threads=1, search_length=length)
            found[name] = train_and_score(config, inputs)["ndcg10"]
    data = f"simulated histories of {LENGTH:,} behaviours, {HISTORY} of them read"
    for name, value in found.items():
        yield _row(f"ranker.long_history.{name}.ndcg10", [value], "ndcg10", data)
    ratio = found["search"] / found["recent"]
    yield _row("ranker.long_history.search_over_recent.ndcg10_ratio", [ratio], "ratio", data)


def search_seconds(length: int, dim: int, num_candidates: int) -> float:
    """Shortest time of searching one history for one request."""
    rng = np.random.default_rng(0)
    history, candidates = (_unit(rng, (count, dim)) for count in (length, num_candidates))
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        search_history(history, candidates, keep=HISTORY)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _row(row_id: str, values: list[float], unit: str, data: str) -> Row:
    return make_row(row_id, values, unit=unit, better="higher", data=data, command=COMMAND, seeds=[0])


def _unit(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    vectors = rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _write_inputs(folder: Path) -> RankerInputs:
    rng = np.random.default_rng(0)
    ids = [f"i{number:05d}" for number in range(NUM_GROUPS * GROUP_SIZE)]
    items = pl.DataFrame({"item_id": ids, "title": ids, "available_at": _START})
    with new_artifact(folder / "dataset", kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items)
        # One event an item makes the vocabulary; the lists stand for the log.
        events = items.select("item_id", user_id=pl.lit("u"), timestamp=pl.lit(_START), event_type=pl.lit("click"))
        write_table(artifact.path / "events.parquet", EVENTS, events)
        end = (_START + timedelta(days=1)).isoformat()
        write_json(artifact.path / "split.json", dict.fromkeys(("train_end", "validation_end", "cutoff"), end))
    with new_artifact(folder / "item_embeddings", kind="item_embeddings", inputs={}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, _embeddings(items, rng))
    with new_artifact(folder / "training_set", kind="training_set", inputs={}) as artifact:
        frames = [
            _lists(items["item_id"], part, first, min(_ROWS_AT_ONCE, count - first), negatives, rng)
            for part, (count, negatives) in _LISTS.items()
            for first in range(0, count, _ROWS_AT_ONCE)
        ]
        write_table(artifact.path / "training_set.parquet", TRAINING_SET, pl.concat(frames))
    return RankerInputs(folder / "training_set", folder / "dataset", folder / "item_embeddings")


def _embeddings(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    group = np.arange(len(items)) // GROUP_SIZE
    vectors = _unit(rng, (NUM_GROUPS, DIM))[group] + _SPREAD * _unit(rng, (len(items), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return items.select(
        "item_id",
        embedding=pl.Series(vectors).arr.to_list(),
        semantic_id=pl.concat_list(pl.int_range(pl.len(), dtype=pl.Int32)),
        space=pl.lit("simulated"),
        event_timestamp=pl.lit(_START),
    )


def _lists(
    names: pl.Series, part: str, first: int, count: int, negatives: int, rng: np.random.Generator
) -> pl.DataFrame:
    order = rng.random((count, NUM_GROUPS)).argsort(1)
    interests, others = order[:, :_INTERESTS], order[:, _INTERESTS:]
    # Newest first: the latest are of the first two interests alone.
    drawn = rng.integers(_INTERESTS, size=(count, LENGTH))
    drawn[:, :_RECENT] = rng.integers(_RECENT_INTERESTS, size=(count, _RECENT))
    history = _item(np.take_along_axis(interests, drawn, 1), rng)
    target = _item(np.take_along_axis(interests, rng.integers(_INTERESTS, size=(count, 1)), 1), rng)
    foreign = others[np.arange(count)[:, None], rng.integers(others.shape[1], size=(count, negatives))]
    candidates = np.concatenate([target, _item(foreign, rng)], 1)
    ages = np.tile(np.arange(LENGTH) * 3600, (count, 1))
    number = pl.int_range(first, first + count)
    clicks = pl.Series(np.tile(np.arange(negatives + 1) == 0, (count, 1))).arr.to_list()
    protocols = ["contemporaneous"] if part != "test" else ["contemporaneous", "within_cold"]
    moment = (pl.lit(_START) + pl.duration(seconds=number)).cast(UTC_TIME)
    frame = pl.select(
        list_id=pl.format(f"{part}/{{}}", number),
        user_id=pl.format("u{}", number),
        timestamp=moment,
        split=pl.lit(part),
        history_as_of=moment,
        item_ids=_named(names, candidates),
        clicks=clicks,
        orders=clicks,
        values=pl.Series(np.zeros(candidates.shape, np.float32)).arr.to_list(),
        history_item_ids=_named(names, history),
        history_event_types=pl.Series([["click"] * LENGTH]).new_from_index(0, count),
        history_ages_s=pl.Series(ages).arr.to_list(),
    )
    made = [
        frame.with_columns(protocol=pl.lit(protocol), list_id=pl.format(f"{protocol}/{{}}", "list_id"))
        for protocol in protocols
    ]
    return TRAINING_SET.check(pl.concat(made))


def _item(groups: Ints, rng: np.random.Generator) -> Ints:
    return np.asarray(groups * GROUP_SIZE + rng.integers(GROUP_SIZE, size=groups.shape))


def _named(names: pl.Series, items: Ints) -> pl.Series:
    return names.gather(items.ravel()).reshape(items.shape).arr.to_list()
