"""A run's items in slabs: a bounded number of rows is read, finished and written at once, in the catalogue's order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfileobj, rmtree

import polars as pl

from contracts.artifacts import write_table
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import ITEMS, KNOWLEDGE
from models.knowledge.agents.team import Case
from models.knowledge.cache import Finished
from models.knowledge.records import KNOWLEDGE_FILE, TRACE_FILE, count_dropped, to_frame, to_lines

QUARANTINE_FILE = "quarantine.parquet"
_ROW_GROUP = 2048
"""Rows that are held in memory when the parts are joined."""
_TEXTS = ("title", "brand", "category", "description")
_QUARANTINE_SCHEMA = {"item_id": pl.String(), "reason": pl.String(), "raw_answer": pl.String()}


class Catalogue:
    """The items of a dataset artifact, read slab by slab."""

    def __init__(self, dataset: Path) -> None:
        """Opens the table.

        Raises:
            UserError: there is none, or it holds other columns.
        """
        path = dataset / "items.parquet"
        if not path.is_file():
            raise UserError(f"table 'items' not found at {path}")
        self._table = pl.scan_parquet(path)
        if (found := self._table.collect_schema()) != ITEMS.schema:
            raise UserError(f"{path} is not an 'items' table: expected {ITEMS.schema}, found {found}")
        self.num_items: int = self._table.select(pl.len()).collect().item()

    def read(self, num_rows: int, shard: Shard | None = None) -> Iterator[pl.DataFrame]:
        """Item ids and texts, `num_rows` at once; with a shard, those of them that are its own."""
        for start in range(0, self.num_items, num_rows):
            frame = self._table.slice(start, num_rows).select("item_id", *_TEXTS).collect()
            yield frame if shard is None else frame.filter(shard.owns(frame["item_id"]))


@dataclass
class Slab:
    """Some consecutive items and what is finished of them."""

    number: int
    item_ids: list[str]
    digests: list[str]
    """Of the products, as the agents read them."""
    finished: list[Finished | None]
    quarantine: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Is every item finished?"""
        return None not in self.finished

    def take(self, place: int, case: Case, made: Finished) -> None:
        """Notes a finished item; an invalid one goes to the quarantine with the raw answer."""
        self.finished[place] = made
        if case.status == "invalid":
            self.quarantine.append((self.item_ids[place], case.fault, case.raw))


@dataclass
class Tally:
    """Counts of what was written."""

    statuses: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first_fault: str = ""


class SlabWriter:
    """Writes slabs as they become whole, in any order, and joins them in the catalogue's order."""

    def __init__(self, folder: Path, teacher: str) -> None:
        """Writes into the artifact's folder."""
        self._folder = folder
        self._parts = folder / "parts"
        self._parts.mkdir()
        self._teacher = teacher
        self.tally = Tally()

    def write(self, slab: Slab) -> None:
        """Writes and counts one slab."""
        finished = [made for made in slab.finished if made is not None]
        frame = to_frame(slab.item_ids, slab.digests, finished, self._teacher)
        self.add(slab.number, frame, list(to_lines(slab.item_ids, finished)))
        if slab.quarantine:
            rows = pl.DataFrame(sorted(slab.quarantine), schema=_QUARANTINE_SCHEMA, orient="row")
            self.quarantine(slab.number, rows)

    def add(self, number: int, frame: pl.DataFrame, lines: Sequence[str]) -> None:
        """Writes and counts rows of the KNOWLEDGE table and their lines of the trace."""
        write_table(self._parts / f"{number:09d}.knowledge", KNOWLEDGE, frame)
        with (self._parts / f"{number:09d}.traces").open("w", encoding="utf-8") as traces:
            traces.writelines(lines)
        self.tally.statuses.update(dict(frame["status"].value_counts().iter_rows()))
        self.tally.dropped.update(count_dropped(lines))

    def quarantine(self, number: int, rows: pl.DataFrame) -> None:
        """Writes items without a valid answer, with the reason and the last raw answer."""
        rows.write_parquet(self._parts / f"{number:09d}.quarantine")
        if not self.tally.first_fault:
            item_id, fault, _ = rows.row(0)
            self.tally.first_fault = f"item {item_id}: {fault}"

    def join(self) -> None:
        """Puts the slabs together into the artifact's files."""
        if parts := sorted(self._parts.glob("*.knowledge")):
            rows = pl.scan_parquet(parts)
            rows.sink_parquet(self._folder / KNOWLEDGE_FILE, compression="zstd", row_group_size=_ROW_GROUP)
        else:
            write_table(self._folder / KNOWLEDGE_FILE, KNOWLEDGE, KNOWLEDGE.empty())
        if parts := sorted(self._parts.glob("*.quarantine")):
            pl.scan_parquet(parts).sink_parquet(self._folder / QUARANTINE_FILE, compression="zstd")
        with (self._folder / TRACE_FILE).open("wb") as traces:
            for part in sorted(self._parts.glob("*.traces")):
                with part.open("rb") as lines:
                    copyfileobj(lines, traces)
        rmtree(self._parts)
