"""How the time of an epoch and the peak memory grow with the rows, and training's samples a second.

Lists are simulated: what is in them does not change the cost. Each training runs one epoch in a process of its own,
whose peak (`VmHWM`) is read at its end; the lists are made in another. Seconds are processor time of one thread, of
the steps alone: not of start-up, validation or export.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from benchmarks.memory import peak_kib
from benchmarks.results import Row, make_row
from contracts.artifacts import new_artifact, read_lineage, write_json, write_table
from contracts.schema import UTC_TIME
from contracts.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS, TRAINING_SET

COMMAND = "make bench-ranker"
NUM_LISTS = {"1x": 20_000, "4x": 80_000, "16x": 320_000}
_QUICK = {"1x": 5_000, "4x": 20_000}
NUM_ITEMS, VECTOR_LENGTH, HISTORY, CANDIDATES = 5_000, 256, 20, 5
_ROWS_AT_ONCE = 20_000
START = datetime(2026, 1, 1, tzinfo=UTC)
TRAIN_END = START + timedelta(days=100)


def measure(*, quick: bool) -> list[Row]:
    """All rows of cost; `quick`: fewer rows, up to four times."""
    sizes = _QUICK if quick else NUM_LISTS
    with TemporaryDirectory() as folder:
        found = {name: _run(Path(folder) / name, num_lists) for name, num_lists in sizes.items()}
    return list(_rows(found, sizes))


def _rows(found: dict[str, tuple[float, float]], sizes: dict[str, int]) -> Iterator[Row]:
    first, *others = found
    shape = (
        f"{CANDIDATES} candidates and {HISTORY} behaviours a list, vectors of {VECTOR_LENGTH}, no inferred behaviours"
    )
    for name, (seconds, _) in found.items():
        yield _row(f"ranker.train.epoch_s_{name}", seconds, "s", f"{sizes[name]:,} lists, {shape}, one thread")
    rate = sizes[others[-1]] * CANDIDATES / found[others[-1]][0]
    yield _row("ranker.train.samples_per_s_core", rate, "samples/s", f"{shape}, one thread", better="higher")
    for name in others:
        data = f"{sizes[name]:,} over {sizes[first]:,} lists, {shape}"
        # Linear is 1: seconds grow as the rows do.
        growth = found[name][0] / found[first][0] / (sizes[name] / sizes[first])
        yield _row(f"ranker.train.epoch_growth_{name}_over_linear", growth, "ratio", data)
        yield _row(f"ranker.train.memory_growth_{name}", found[name][1] / found[first][1], "ratio", data)


def _row(row_id: str, value: float, unit: str, data: str, better: Any = "lower") -> Row:
    return make_row(row_id, [value], unit=unit, better=better, data=data, command=COMMAND)


def _run(folder: Path, num_lists: int) -> tuple[float, float]:
    """Seconds of an epoch and peak MiB."""
    output = ""
    for step in ("make", "train"):
        command = [sys.executable, "-m", "benchmarks.ranker_cost", step, str(num_lists), str(folder)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, kib = output.split()[-2:]
    print(f"cost: {num_lists:,} lists, {float(seconds):.1f} s, peak {int(kib) / 1024:.0f} MiB", flush=True)
    return float(seconds), int(kib) / 1024


def make_inputs(folder: Path, num_lists: int) -> None:
    """Writes a random catalogue, random embeddings and random training lists."""
    rng = np.random.default_rng(0)
    with new_artifact(folder / "dataset", kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, _items())
        write_table(artifact.path / "events.parquet", EVENTS, _events())
        write_json(
            artifact.path / "split.json",
            {name: TRAIN_END.isoformat() for name in ("train_end", "validation_end", "cutoff")},
        )
    with new_artifact(folder / "item_embeddings", kind="item_embeddings", inputs={}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, _embeddings(rng))
    with new_artifact(folder / "training_set", kind="training_set", inputs={}) as artifact:
        path = artifact.path / "training_set.parquet"
        schema = TRAINING_SET.empty().to_arrow().schema
        with pq.ParquetWriter(path, schema) as writer:
            for first in range(0, num_lists, _ROWS_AT_ONCE):
                rows = TRAINING_SET.check(_lists(first, min(_ROWS_AT_ONCE, num_lists - first), rng))
                writer.write_table(rows.to_arrow().cast(schema))


def train(folder: Path) -> float:
    """Trains one epoch; processor seconds of its steps."""
    from models.ranker.config import FeatureConfig, RankerConfig
    from models.ranker.train import train_ranker

    config = RankerConfig(features=FeatureConfig(inferred=False), num_threads=1, max_epochs=1, min_steps=1)
    training_set, dataset, space = (folder / name for name in ("training_set", "dataset", "item_embeddings"))
    train_ranker(training_set, dataset, space, config, checkpoints=folder / "checkpoints", out=folder / "ranker")
    told = read_lineage(folder / "ranker").metrics
    return told["lists"] * CANDIDATES / told["samples_per_s"]


def _items() -> pl.DataFrame:
    ids = [f"i{number:05d}" for number in range(NUM_ITEMS)]
    kinds = [f"all > c{number % 50}" for number in range(NUM_ITEMS)]
    prices = [1.0 + number % 97 for number in range(NUM_ITEMS)]
    return pl.DataFrame({"item_id": ids, "title": ids, "category": kinds, "price": prices, "available_at": START})


def _events() -> pl.DataFrame:
    """One event an item: it makes the vocabulary. The lists stand for the log."""
    return _items().select("item_id", user_id=pl.lit("u"), timestamp=pl.lit(START), event_type=pl.lit("click"))


def _embeddings(rng: np.random.Generator) -> pl.DataFrame:
    vectors = rng.standard_normal((NUM_ITEMS, VECTOR_LENGTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return _items().select(
        "item_id",
        embedding=pl.Series(vectors).arr.to_list(),
        semantic_id=pl.concat_list(pl.int_range(pl.len(), dtype=pl.Int32)),
        space=pl.lit("random"),
        event_timestamp=pl.lit(START),
    )


def _lists(first: int, count: int, rng: np.random.Generator) -> pl.DataFrame:
    names = _items()["item_id"]

    def items(length: int) -> pl.Series:
        drawn = rng.integers(NUM_ITEMS, size=count * length)
        return names.gather(drawn).reshape((count, length)).arr.to_list()

    clicks = pl.Series(np.tile(np.arange(CANDIDATES) == 0, (count, 1))).arr.to_list()
    ages = pl.Series(np.sort(rng.integers(10_000_000, size=(count, HISTORY)), axis=1)).arr.to_list()
    number = pl.int_range(first, first + count)
    return pl.select(
        list_id=pl.format("l{}", number),
        user_id=pl.format("u{}", number // 4),
        timestamp=(pl.lit(START) + pl.duration(seconds=number)).cast(UTC_TIME),
        split=pl.lit("train"),
        protocol=pl.lit("contemporaneous"),
        history_as_of=(pl.lit(START) + pl.duration(seconds=number - 1)).cast(UTC_TIME),
    ).with_columns(
        item_ids=items(CANDIDATES),
        clicks=clicks,
        orders=clicks,
        values=pl.Series(np.zeros((count, CANDIDATES), np.float32)).arr.to_list(),
        history_item_ids=items(HISTORY),
        history_event_types=pl.Series([["click"] * HISTORY]).new_from_index(0, count),
        history_ages_s=ages,
    )


def main() -> None:
    """A step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("make", "train"))
    parser.add_argument("num_lists", type=int)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.step == "make":
        make_inputs(given.folder, given.num_lists)
    else:
        print(train(given.folder), peak_kib())


if __name__ == "__main__":
    main()
