"""Ten million exposures: how long the lift takes, and how much memory."""

import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
import pyarrow.parquet as parquet

from benchmarks.shared.measured_process import read_peak_kib, run_module
from benchmarks.shared.results import Row, make_row
from contracts.table_schema import Table
from contracts.tables import EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig

_CHUNK_ROWS: Final = 500_000
_PAGE: Final = 10
_ROWS_A_USER: Final = 20


def measure_large_log(*, quick: bool) -> Iterable[Row]:
    """Seconds and peak memory of the lift of a large log, and whether the cost is linear."""
    num_rows = 1_000_000 if quick else 10_000_000
    with TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        half_s, _ = _measure_rows(num_rows // 2, folder)
        seconds, peak_kib = _measure_rows(num_rows, folder)
    print(f"{num_rows // 2:,} rows: {half_s:.1f} s, {num_rows:,} rows: {seconds:.1f} s", flush=True)
    data = f"{num_rows:,} exposures of {num_rows // _ROWS_A_USER:,} users in two arms, 14 days, 5 % clicked"
    yield make_row("monitoring.rows_10m.seconds", seconds, unit="s", better="lower", data=data)
    yield make_row("monitoring.rows_10m.gib", peak_kib / 2**20, unit="GiB", better="lower", data=data)


def write_large_log(num_rows: int, folder: Path) -> None:
    """Writes `exposures.parquet` and `outcomes.parquet`, chunk by chunk."""
    rng = np.random.default_rng(0)
    writers: dict[str, parquet.ParquetWriter] = {}
    for start in range(0, num_rows, _CHUNK_ROWS):
        rows = _draw_rows(rng, start, num_rows)
        for table in (EXPOSURES, OUTCOMES):
            chunk = _as_table(rows, table).to_arrow()
            if table.name not in writers:
                writers[table.name] = parquet.ParquetWriter(folder / f"{table.name}.parquet", chunk.schema)
            writers[table.name].write_table(chunk)
    for writer in writers.values():
        writer.close()


def _measure_rows(num_rows: int, folder: Path) -> tuple[float, int]:
    write_large_log(num_rows, folder)
    seconds, peak_kib = run_module("benchmarks.monitoring.large_log", folder)
    return float(seconds), int(peak_kib)


def _draw_rows(rng: np.random.Generator, start: int, num_rows: int) -> pl.DataFrame:
    row = np.arange(start, min(start + _CHUNK_ROWS, num_rows))
    request = row // _PAGE
    # A multiplication spreads a user's requests over the whole log.
    user = request * 2_654_435_761 % (num_rows // _ROWS_A_USER)
    clicks = rng.random(len(row)) < 0.05
    orders = clicks & (rng.random(len(row)) < 0.1)
    micros = request * (14 * 86_400_000_000 // (num_rows // _PAGE))
    return pl.DataFrame(
        {
            "request_id": request,
            "item_id": rng.integers(0, 5_000, len(row)) * _PAGE + row % _PAGE,
            "user_id": user,
            "micros": micros,
            "click": clicks,
            "order": orders,
            "revenue": np.where(orders, rng.lognormal(3, 1, len(row)), 0.0),
            "position": row % _PAGE,
        }
    )


def _as_table(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    user = pl.col("user_id")
    full_rows = rows.with_columns(
        pl.format("request-{}", pl.col("request_id").cast(pl.String).str.pad_start(12, "0")),
        pl.format("item-{}", "item_id").alias("item_id"),
        pl.format("user-{}", "user_id").alias("user_id"),
        timestamp=pl.lit(datetime(2025, 6, 1, tzinfo=UTC)) + pl.duration(microseconds=pl.col("micros")),
        arm=pl.when(user * 40_503 % 65_536 < 32_768).then(pl.lit("control")).otherwise(pl.lit("challenger")),
        model_version=pl.lit("m"),
        routed_version=pl.lit("m"),
        score=0.5,
        degraded=pl.lit([], dtype=pl.List(pl.String())),
        scene=pl.when(user % 3 == 0).then(pl.lit("home")).otherwise(pl.lit("category")),
        page_category=pl.when(user % 2 == 0).then(pl.lit("A > B")).otherwise(pl.lit("C")),
    )
    return full_rows.select(
        pl.col(name).cast(dtype) if name in full_rows.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in table.schema.items()
    )


def _measure_here(folder: Path) -> None:
    """Prints seconds and peak KiB of the lift in this process."""
    from monitoring.lift.lift_report import measure_lift

    start_s = time.perf_counter()
    measure_lift(folder / "exposures.parquet", folder / "outcomes.parquet", MonitoringConfig())
    print(time.perf_counter() - start_s, read_peak_kib())


if __name__ == "__main__":
    _measure_here(Path(sys.argv[1]))
