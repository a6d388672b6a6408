"""Rows that a contract refuses, with their reasons. They wait in files, not in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from contracts.ingestion.sources.source_batches import BrokenLine
from contracts.table_schema import Column, Table

QUARANTINE: Final = Table(
    "quarantine",
    (),
    (
        Column("table", pl.String(), "Table that the row was meant for."),
        Column("reasons", pl.List(pl.String()), "Every reason for which it was refused."),
        Column("row", pl.String(), "The row as it was written, as JSON, or the broken line."),
        Column("file", pl.String(), "File that it stands in.", nullable=True),
    ),
    "Rows of the user's files that no contract takes, one row each.",
)


class Quarantine:
    """Refused rows of one table."""

    def __init__(self, folder: Path, table_name: str) -> None:
        """Holds nothing yet.

        Args:
            folder: where the files go; it must not exist.
            table_name: the table that the rows were meant for.
        """
        folder.mkdir(parents=True)
        self._folder = folder
        self._table_name = table_name
        self.num_rows = 0
        self.first_row = ""
        """An example for a message; empty where no row was refused."""

    def add_rows(self, rows: pl.Series, reasons: pl.Series, files: pl.Series) -> None:
        """Adds rows, JSON texts, with the reasons and the file of each."""
        if rows.is_empty():
            return
        refused = pl.DataFrame(
            {
                "table": pl.Series([self._table_name]).new_from_index(0, len(rows)),
                "reasons": reasons,
                "row": rows,
                "file": files,
            },
            schema=QUARANTINE.schema,
        )
        self.first_row = self.first_row or str(rows[0])
        refused.write_parquet(self._folder / f"{self.num_rows:012}.parquet", compression="lz4")
        self.num_rows += len(refused)

    def add_broken_lines(self, lines: Sequence[BrokenLine]) -> None:
        """Adds lines of text files that are no rows."""
        self.add_rows(
            pl.Series([line.text for line in lines], dtype=pl.String),
            pl.Series([[_tell_reason(line)] for line in lines], dtype=pl.List(pl.String)),
            pl.Series([line.file for line in lines], dtype=pl.String),
        )

    def list_files(self) -> list[Path]:
        """The files that hold the rows, in their order."""
        return sorted(self._folder.iterdir())


def _tell_reason(line: BrokenLine) -> str:
    return f"line {line.line}: {line.reason}" if line.line else line.reason


def write_quarantine(path: Path, *quarantines: Quarantine) -> None:
    """Writes what several tables lost into one file."""
    empty = pl.LazyFrame(schema=QUARANTINE.schema)
    files = [file for quarantine in quarantines for file in quarantine.list_files()]
    pl.concat([empty, *(pl.scan_parquet(file) for file in files)]).sink_parquet(path)
