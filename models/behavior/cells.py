"""The log divided by users, so that inference holds a few users' events at once however many there are.

A cell is all events of the users whose id hashes to it. Cells depend on the log alone, not on how many workers share
them, and each is inferred by itself: so the merged work of several workers is that of one, byte for byte.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.dataset import scan_events
from contracts.shards import owners
from contracts.tables import EVENTS
from models.behavior.catalogue import Catalogue, FloatArray
from models.behavior.histories import distinct_behaviors, latest
from models.behavior.tensors import item_counts

_SLAB = 500_000
"""Events in memory while the log is divided."""
_COLUMNS = ("user_id", "timestamp", "item_id", "event_type")


class Cells(NamedTuple):
    """The cells of a log, on disk."""

    folder: Path
    number: int
    """How many they are."""

    def read(self, cell: int) -> pl.DataFrame:
        """The events of a cell (user_id, timestamp, item_id, event_type)."""
        if files := sorted(self.folder.glob(f"cell={cell}/*.parquet")):
            return pl.read_parquet(files)
        return EVENTS.empty().select(_COLUMNS)

    def add(self, events: pl.DataFrame, *, file_name: str) -> None:
        """Writes each event to its user's cell."""
        users = events["user_id"].unique()
        cell = pl.col("user_id").replace_strict(users, owners(users, self.number), return_dtype=pl.UInt32())
        parts = events.with_columns(cell=cell).partition_by("cell", as_dict=True, include_key=False)
        for (number,), part in parts.items():
            folder = self.folder / f"cell={number}"
            folder.mkdir(exist_ok=True)
            part.write_parquet(folder / file_name, compression="lz4")


@contextmanager
def divide(dataset: Path, events_per_cell: int) -> Iterator[Cells]:
    """Divides the log of a dataset artifact into cells, in a temporary folder and with bounded memory."""
    events = scan_events(dataset).select(_COLUMNS)
    num_events = int(events.select(pl.len()).collect().item())
    number = max(1, -(-num_events // events_per_cell))
    with TemporaryDirectory(prefix="cells-") as name:
        cells = Cells(Path(name), number)
        for start in range(0, num_events, _SLAB):
            cells.add(events.slice(start, _SLAB).collect(), file_name=f"{start:012d}.parquet")
        yield cells


def count_behaviors(
    cells: Cells, catalogue: Catalogue, moments: list[datetime], window_days: float
) -> tuple[FloatArray, FloatArray]:
    """How often each item was met for the first time before each of `moments`, [moments, N]: ever, and of late."""
    ever = np.zeros((len(moments), len(catalogue)), dtype=np.float32)
    recent = np.zeros_like(ever)
    for cell in range(cells.number):
        events = cells.read(cell).filter(pl.col("event_type") != "impression")
        met = distinct_behaviors(events, catalogue)
        for row, moment in enumerate(moments):
            earlier = met.filter(pl.col("time_us") < pl.lit(moment).dt.epoch("us"))
            for counts, behaviors in ((ever, earlier), (recent, latest(earlier, moment, window_days))):
                counts[row] += item_counts(behaviors["item"].to_numpy(), len(catalogue))
    return ever, recent
