"""What ingestion costs: rows a second and memory, by the size of the log; and one look at a file.

`python -m benchmarks.data.ingest_cost FOLDER` ingests one generated log in a process of its own.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.shared.generated_tables import START, number_item_ids
from benchmarks.shared.measured_process import measure_seconds, read_peak_kib, run_module
from benchmarks.shared.results import Row, make_row
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.inspection.inspect_files import inspect_files

_NUM_ITEMS = 20_000
_ROWS_A_FILE = 1_000_000


def measure_ingestion(*, quick: bool) -> Iterator[Row]:
    """Rows of ingestion's cost; `quick`: a hundredth of the rows."""
    num_rows = 100_000 if quick else 10_000_000
    data = f"generated log of {num_rows:,} and {10 * num_rows:,} events, Parquet; {_NUM_ITEMS:,} items"
    costs = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in (num_rows, 10 * num_rows):
            folder = Path(scratch) / str(size)
            write_tables(folder, size)
            seconds, peak_kib = map(float, run_module("benchmarks.data.ingest_cost", folder))
            costs[size] = (seconds, peak_kib)
            print(f"ingest: {size:,} rows, {seconds:.1f} s, peak {peak_kib:,.0f} KiB", flush=True)
            shutil.rmtree(folder / "out")
        seconds, gib = inspect_csv(Path(scratch), num_rows)
    (seconds_small, peak_small), (seconds_large, peak_large) = costs.values()
    yield make_row("data.ingest.rows_per_s", 10 * num_rows / seconds_large, unit="rows/s", data=data)
    growth = peak_large / peak_small
    yield make_row("data.ingest.memory_growth_10x", growth, unit="ratio", better="lower", data=data)
    time_growth = seconds_large / seconds_small / 10
    yield make_row(
        "data.ingest.time_growth_10x_over_linear", time_growth, unit="ratio", better="lower", data=data
    )
    yield make_row(
        "data.inspect.seconds_per_gib",
        seconds / gib,
        unit="s/GiB",
        better="lower",
        data=f"generated CSV of {min(num_rows, _ROWS_A_FILE):,} events, `reaseq data inspect --full`",
    )


def write_tables(folder: Path, num_rows: int) -> None:
    """Writes a catalogue, and a log in files of a million rows."""
    item_ids = np.array(number_item_ids(_NUM_ITEMS))
    (folder / "log").mkdir(parents=True)
    pl.DataFrame({"item_id": item_ids, "title": item_ids}).write_parquet(folder / "items.parquet")
    for number, start in enumerate(range(0, num_rows, _ROWS_A_FILE)):
        rng = np.random.default_rng(number)
        size = min(_ROWS_A_FILE, num_rows - start)
        rows = pl.DataFrame(
            {
                "user_id": rng.integers(0, num_rows // 20, size),
                "item_id": item_ids[rng.integers(0, _NUM_ITEMS, size)],
                "timestamp": int(START.timestamp()) - rng.integers(0, 30 * 86_400, size),
                "event_type": np.array(["click", "cart", "order"])[rng.choice(3, size, p=[0.8, 0.1, 0.1])],
                "price": rng.random(size).round(2),
            }
        )
        rows.write_parquet(folder / "log" / f"part-{number:03}.parquet")


def inspect_csv(folder: Path, num_rows: int) -> tuple[float, float]:
    """Seconds of a full inspection, and the log's size in GiB."""
    log = folder / str(num_rows) / "log"
    path = folder / "log.csv"
    pl.read_parquet(log / "part-000.parquet").write_csv(path)
    items = str(folder / str(num_rows) / "items.parquet")
    seconds = measure_seconds(lambda: inspect_files([items, str(path)], read_all=True))
    return seconds, path.stat().st_size / 2**30


if __name__ == "__main__":
    given = Path(sys.argv[1])
    config = {"items": {"uri": str(given / "items.parquet")}, "events": {"uri": str(given / "log")}}
    spent_s = measure_seconds(
        lambda: ingest_dataset(DataConfig.model_validate(config), out=given / "out", is_told=False)
    )
    print(spent_s, read_peak_kib())
