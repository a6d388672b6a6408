"""A run's items in batches: a bounded number is read, finished and written at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfileobj, rmtree
from typing import Final

import polars as pl

from contracts.artifacts import check_table_columns, write_table
from contracts.shards import Shard
from contracts.table_schema import Column, Table
from contracts.tables import ITEMS, KNOWLEDGE
from models.knowledge.agents.agent_team import ProductCase
from models.knowledge.cache.workspace_cache import FinishedItem
from models.knowledge.distillation.finished_records import (
    KNOWLEDGE_FILE,
    TRACE_FILE,
    build_knowledge_frame,
    build_trace_lines,
    count_dropped_claims,
)
from models.knowledge.distillation.product_text import Product, read_product

BATCH_ITEMS = 512
"""Items that are under way at once, and rows written at once. It bounds the memory, and no result depends on
it."""
QUARANTINE_FILE = "quarantine.parquet"
_ROW_GROUP = 2048
"""Rows that are held in memory when the parts are joined."""
_TEXT_COLUMNS = ("title", "brand", "category", "description")
UNANSWERED_ITEMS: Final = Table(
    "unanswered_items",
    ("item_id",),
    (
        Column("item_id", pl.String(), "The item."),
        Column("reason", pl.String(), "What was wrong with the last answer."),
        Column("raw_answer", pl.String(), "That answer, as it came."),
    ),
    "Items of which the teacher gave no valid answer, one row per item.",
)


class CatalogueReader:
    """The items of a dataset artifact, read batch by batch."""

    def __init__(self, dataset: Path) -> None:
        """Opens the table.

        Raises:
            UserError: there is none, or it holds other columns.
        """
        table_path = dataset / "items.parquet"
        check_table_columns(table_path, ITEMS)
        self._table = pl.scan_parquet(table_path)
        self.num_items: int = self._table.select(pl.len()).collect().item()

    def read_item_batches(self, shard: Shard | None = None) -> Iterator[pl.DataFrame]:
        """Item ids and texts of `BATCH_ITEMS` rows at once; with a shard, those of them that are its own."""
        for first_row in range(0, self.num_items, BATCH_ITEMS):
            frame = self._table.slice(first_row, BATCH_ITEMS).select("item_id", *_TEXT_COLUMNS).collect()
            yield frame if shard is None else frame.filter(shard.is_owner_of(frame["item_id"]))

    def iterate_products(self) -> Iterator[tuple[str, Product]]:
        """All items by id, as the agents read them."""
        for frame in self.read_item_batches():
            for row in frame.iter_rows(named=True):
                yield row["item_id"], read_product(row)


@dataclass
class ItemBatch:
    """Some consecutive items and what is finished of them."""

    number: int
    item_ids: list[str]
    digests: list[str]
    """Of the products, as the agents read them."""
    finished_items: list[FinishedItem | None]
    quarantine: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Is every item finished?"""
        return None not in self.finished_items

    def finish_item(self, place: int, case: ProductCase, finished_item: FinishedItem) -> None:
        """Notes a finished item; an invalid one goes to the quarantine with the raw answer."""
        self.finished_items[place] = finished_item
        if case.status == "invalid":
            self.quarantine.append((self.item_ids[place], case.fault, case.raw_answer))


@dataclass
class KnowledgeTally:
    """Counts of what was written."""

    statuses: Counter[str] = field(default_factory=Counter)
    drop_reasons: Counter[str] = field(default_factory=Counter)
    first_fault: str = ""


class BatchWriter:
    """Writes batches as they become complete, in any order, and joins them in the catalogue's order."""

    def __init__(self, folder: Path, teacher: str) -> None:
        """Writes into the artifact's folder."""
        self._folder = folder
        self._parts_folder = folder / "parts"
        self._parts_folder.mkdir()
        self._teacher = teacher
        self.tally = KnowledgeTally()

    def write_batch(self, batch: ItemBatch) -> None:
        """Writes and counts one batch."""
        finished_items = [item for item in batch.finished_items if item is not None]
        knowledge_frame = build_knowledge_frame(batch.item_ids, batch.digests, finished_items, self._teacher)
        self.write_knowledge_rows(
            batch.number, knowledge_frame, list(build_trace_lines(batch.item_ids, finished_items))
        )
        if batch.quarantine:
            quarantine_rows = pl.DataFrame(
                sorted(batch.quarantine), schema=UNANSWERED_ITEMS.schema, orient="row"
            )
            self.write_quarantine_rows(batch.number, quarantine_rows)

    def write_knowledge_rows(
        self, batch_number: int, frame: pl.DataFrame, trace_lines: Sequence[str]
    ) -> None:
        """Writes and counts rows of the KNOWLEDGE table and their lines of the trace."""
        write_table(self._parts_folder / f"{batch_number:09d}.knowledge", KNOWLEDGE, frame)
        with (self._parts_folder / f"{batch_number:09d}.traces").open("w", encoding="utf-8") as trace_file:
            trace_file.writelines(trace_lines)
        self.tally.statuses.update(dict(frame["status"].value_counts().iter_rows()))
        self.tally.drop_reasons.update(count_dropped_claims(trace_lines))

    def write_quarantine_rows(self, batch_number: int, rows: pl.DataFrame) -> None:
        """Writes items without a valid answer, with the reason and the last raw answer."""
        rows.write_parquet(self._parts_folder / f"{batch_number:09d}.quarantine")
        if not self.tally.first_fault:
            item_id, fault, _ = rows.row(0)
            self.tally.first_fault = f"item {item_id}: {fault}"

    def join_batch_parts(self) -> None:
        """Puts the batches together into the artifact's files."""
        if part_paths := sorted(self._parts_folder.glob("*.knowledge")):
            knowledge_rows = pl.scan_parquet(part_paths)
            knowledge_rows.sink_parquet(
                self._folder / KNOWLEDGE_FILE, compression="zstd", row_group_size=_ROW_GROUP
            )
        else:
            write_table(self._folder / KNOWLEDGE_FILE, KNOWLEDGE, KNOWLEDGE.create_empty())
        if part_paths := sorted(self._parts_folder.glob("*.quarantine")):
            pl.scan_parquet(part_paths).sink_parquet(self._folder / QUARANTINE_FILE, compression="zstd")
        with (self._folder / TRACE_FILE).open("wb") as trace_file:
            for part_path in sorted(self._parts_folder.glob("*.traces")):
                with part_path.open("rb") as part_file:
                    copyfileobj(part_file, trace_file)
        rmtree(self._parts_folder)
