"""How the time of an epoch and the peak memory grow with the rows.

Lists are simulated, since what is in them does not change the cost. Each training runs one epoch in a process
of its own, whose peak memory is read at its end. The lists are made in another. Seconds are processor time of
one thread, of the steps alone: not of start-up, validation or export.
"""

import argparse
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from benchmarks.shared import generated_tables as tables
from benchmarks.shared.generated_tables import START
from benchmarks.shared.measured_process import read_peak_kib, run_module
from benchmarks.shared.results import Row, make_row
from contracts.artifacts import create_artifact, read_lineage
from contracts.table_schema import UTC_TIME
from contracts.tables import TRAINING_SET

NUM_LISTS, GROWTH = 20_000, 16
_QUICK_LISTS, _QUICK_GROWTH = 5_000, 4
NUM_ITEMS, VECTOR_LENGTH, HISTORY, CANDIDATES = 5_000, 256, 20, 5
_ROWS_AT_ONCE = 20_000
TRAIN_END = START + timedelta(days=100)


def measure_training_cost(*, quick: bool) -> list[Row]:
    """All rows of cost; `quick`: fewer rows, up to four times."""
    num_lists, growth = (_QUICK_LISTS, _QUICK_GROWTH) if quick else (NUM_LISTS, GROWTH)
    with TemporaryDirectory() as folder:
        few_s, few_kib = _train_in_process(Path(folder) / "few", num_lists)
        many_s, many_kib = _train_in_process(Path(folder) / "many", growth * num_lists)
    list_shape = f"{CANDIDATES} candidates and {HISTORY} behaviors a list, vectors of {VECTOR_LENGTH}"
    data = f"{growth * num_lists:,} over {num_lists:,} lists, {list_shape}, no inferred behaviors"
    make_ratio_row = partial(make_row, unit="ratio", better="lower", data=data)
    # Linear is 1: seconds grow as the rows do.
    return [
        make_ratio_row(f"ranker.train.epoch_growth_{growth}x_over_linear", many_s / few_s / growth),
        make_ratio_row(f"ranker.train.memory_growth_{growth}x", many_kib / few_kib),
    ]


def _train_in_process(folder: Path, num_lists: int) -> tuple[float, int]:
    """Seconds of an epoch and peak KiB."""
    run_module("benchmarks.ranker.cost", "make", num_lists, folder)
    epoch_s, peak_kib = run_module("benchmarks.ranker.cost", "train", num_lists, folder)
    print(f"cost: {num_lists:,} lists, {epoch_s} s, peak {peak_kib} KiB", flush=True)
    return float(epoch_s), int(peak_kib)


def write_random_inputs(folder: Path, num_lists: int) -> None:
    """Writes a random catalogue, random embeddings and random training lists."""
    rng = np.random.default_rng(0)
    items = _make_items()
    events = tables.click_items_once(items)
    tables.write_dataset(folder / "dataset", items, events, tables.split_at(TRAIN_END))
    vectors = tables.normalize_rows(rng.standard_normal((NUM_ITEMS, VECTOR_LENGTH), dtype=np.float32))
    tables.write_embeddings(folder, tables.make_embeddings(tables.number_item_ids(NUM_ITEMS), vectors))
    with create_artifact(folder / "training_set", kind="training_set", inputs={}) as artifact:
        schema = TRAINING_SET.create_empty().to_arrow().schema
        with pq.ParquetWriter(artifact.path / "training_set.parquet", schema) as parquet_writer:
            for first_list in range(0, num_lists, _ROWS_AT_ONCE):
                num_rows = min(_ROWS_AT_ONCE, num_lists - first_list)
                list_rows = TRAINING_SET.check_rows(_make_lists(first_list, num_rows, rng))
                parquet_writer.write_table(list_rows.to_arrow().cast(schema))


def train_one_epoch(folder: Path) -> float:
    """Trains one epoch; processor seconds of its steps."""
    from models.ranker.config import RankerConfig, RankerFeatures
    from models.ranker.training.train_ranker import train_ranker

    config = RankerConfig(features=RankerFeatures(inferred=False), num_threads=1, max_epochs=1, min_steps=1)
    training_set, dataset, item_embeddings = (
        folder / name for name in ("training_set", "dataset", "item_embeddings")
    )
    train_ranker(
        training_set,
        dataset,
        item_embeddings,
        config,
        checkpoints=folder / "checkpoints",
        out=folder / "ranker",
    )
    training_report = read_lineage(folder / "ranker").metrics
    return training_report["lists"] * CANDIDATES / training_report["samples_per_s"]


def _make_items() -> pl.DataFrame:
    item_ids = tables.number_item_ids(NUM_ITEMS)
    categories = [f"all > c{number % 50}" for number in range(NUM_ITEMS)]
    item_prices = [1.0 + number % 97 for number in range(NUM_ITEMS)]
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "title": item_ids,
            "category": categories,
            "price": item_prices,
            "available_at": START,
        }
    )


def _make_lists(first: int, count: int, rng: np.random.Generator) -> pl.DataFrame:
    item_ids = pl.Series(tables.number_item_ids(NUM_ITEMS))

    def draw_items(length: int) -> pl.Series:
        drawn_numbers = rng.integers(NUM_ITEMS, size=count * length)
        return item_ids.gather(drawn_numbers).reshape((count, length)).arr.to_list()

    click_lists = pl.Series(np.tile(np.arange(CANDIDATES) == 0, (count, 1))).arr.to_list()
    age_lists = pl.Series(np.sort(rng.integers(10_000_000, size=(count, HISTORY)), axis=1)).arr.to_list()
    list_number = pl.int_range(first, first + count)
    return pl.select(
        list_id=pl.format("l{}", list_number),
        user_id=pl.format("u{}", list_number // 4),
        timestamp=(pl.lit(START) + pl.duration(seconds=list_number)).cast(UTC_TIME),
        split=pl.lit("train"),
        protocol=pl.lit("contemporaneous"),
        history_as_of=(pl.lit(START) + pl.duration(seconds=list_number - 1)).cast(UTC_TIME),
    ).with_columns(
        item_ids=draw_items(CANDIDATES),
        clicks=click_lists,
        orders=click_lists,
        values=pl.Series(np.zeros((count, CANDIDATES), np.float32)).arr.to_list(),
        history_item_ids=draw_items(HISTORY),
        history_event_types=pl.Series([["click"] * HISTORY]).new_from_index(0, count),
        history_ages_s=age_lists,
    )


if __name__ == "__main__":  # a step in a process of its own
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("make", "train"))
    parser.add_argument("num_lists", type=int)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.step == "make":
        write_random_inputs(arguments.folder, arguments.num_lists)
    else:
        print(train_one_epoch(arguments.folder), read_peak_kib())
