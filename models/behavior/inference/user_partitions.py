"""The log partitioned by user, so that inference holds a few users' events at once however many there are.

A partition holds all events of the users whose id hashes to it. Partitions depend on the log alone, not on
how many workers share them, and each is inferred by itself. So the merged work of several workers is that
of one, byte for byte.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from contracts.dataset import scan_events
from contracts.shards import assign_shards
from contracts.tables import EVENTS
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import count_items
from models.behavior.sequences.user_sequences import find_distinct_behaviors, select_recent_behaviors

EVENTS_PER_PARTITION = 200_000
"""About so many events are inferred at once: bounds the memory, and what a killed worker does twice."""
_SLICE_EVENTS = 500_000
"""Events in memory while the log is partitioned."""
_COLUMNS = ("user_id", "timestamp", "item_id", "event_type")


class UserPartitions(NamedTuple):
    """The partitions of a log, on disk."""

    folder: Path
    num_partitions: int

    def read_events(self, partition: int) -> pl.DataFrame:
        """Reads the events of a partition (user_id, timestamp, item_id, event_type)."""
        if event_files := sorted(self.folder.glob(f"partition={partition}/*.parquet")):
            return pl.read_parquet(event_files)
        return EVENTS.create_empty().select(_COLUMNS)

    def write_events(self, events: pl.DataFrame, *, file_name: str) -> None:
        """Writes each event to its user's partition."""
        users = events["user_id"].unique()
        partition = pl.col("user_id").replace_strict(
            users, assign_shards(users, self.num_partitions), return_dtype=pl.UInt32()
        )
        events_of_partition = events.with_columns(partition=partition).partition_by(
            "partition", as_dict=True, include_key=False
        )
        for (number,), partition_events in events_of_partition.items():
            folder = self.folder / f"partition={number}"
            folder.mkdir(exist_ok=True)
            partition_events.write_parquet(folder / file_name, compression="lz4")


@contextmanager
def partition_log_by_user(dataset: Path) -> Iterator[UserPartitions]:
    """Partitions the log of a dataset artifact, in a temporary folder and with bounded memory."""
    events = scan_events(dataset).select(_COLUMNS)
    num_events = int(events.select(pl.len()).collect().item())
    num_partitions = max(1, -(-num_events // EVENTS_PER_PARTITION))
    with TemporaryDirectory(prefix="partitions-") as folder:
        partitions = UserPartitions(Path(folder), num_partitions)
        for start in range(0, num_events, _SLICE_EVENTS):
            event_slice = events.slice(start, _SLICE_EVENTS).collect()
            partitions.write_events(event_slice, file_name=f"{start:012d}.parquet")
        yield partitions


def count_behaviors_before(
    partitions: UserPartitions, catalogue: BehaviorCatalogue, moments: list[datetime], window_days: float
) -> tuple[FloatArray, FloatArray]:
    """Counts how often each item was met first before each moment, [moments, I]: ever, and of late."""
    ever = np.zeros((len(moments), len(catalogue)), dtype=np.float32)
    recent = np.zeros_like(ever)
    for partition in range(partitions.num_partitions):
        events = partitions.read_events(partition).filter(pl.col("event_type") != "impression")
        behaviors = find_distinct_behaviors(events, catalogue)
        for row, moment in enumerate(moments):
            earlier_behaviors = behaviors.filter(pl.col("time_us") < pl.lit(moment).dt.epoch("us"))
            recent_behaviors = select_recent_behaviors(earlier_behaviors, moment, window_days)
            ever[row] += count_items(earlier_behaviors["item"].to_numpy(), len(catalogue))
            recent[row] += count_items(recent_behaviors["item"].to_numpy(), len(catalogue))
    return ever, recent
